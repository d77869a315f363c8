"""Tells the workers that something waits in the outbox. A hint: they look by themselves too."""

import asyncio
import contextlib

from redis.asyncio import Redis

from control import keys
from control.errors import StoreUnavailable
from control.stores.redis import guard

_RING_S = 0.5


class Bell:
    """Rung after what waits was committed."""

    def __init__(self, redis: Redis) -> None:
        self._redis = redis

    async def ring(self) -> None:
        """Ring it; while Redis is away nobody hears, and it is not waited for."""
        with contextlib.suppress(StoreUnavailable, TimeoutError), guard():
            async with asyncio.timeout(_RING_S):
                await self._redis.publish(keys.OUTBOX_CHANNEL, "")
