"""How long a request waits for a store."""

import asyncio
import contextlib
from collections.abc import AsyncIterator

from control.errors import StoreUnavailable

REDIS_S = 2.8
"""Callers are told within three seconds that Redis is away, whatever its client still tries."""

_UPLOAD_BYTES_PER_S = 8 << 20


def redis_s(sending: int = 0) -> float:
    """How long a request may wait for Redis when it sends it ``sending`` bytes."""
    return REDIS_S + sending / _UPLOAD_BYTES_PER_S


@contextlib.asynccontextmanager
async def redis(*, sending: int = 0) -> AsyncIterator[None]:
    """Bounds what the block waits for; ``sending`` bytes of a large payload buy it time.

    Raises :class:`control.errors.StoreUnavailable` naming Redis.
    """
    try:
        async with asyncio.timeout(redis_s(sending)):
            yield
    except TimeoutError:
        raise StoreUnavailable("redis", "no answer in time") from None
