"""Tells the workers that something waits in the outbox. A hint: they look by themselves too."""

import contextlib

from redis.asyncio import Redis

from control import keys
from control.errors import StoreUnavailable
from control.stores.redis import guard


class Bell:
    """Rung after what waits was committed."""

    def __init__(self, redis: Redis) -> None:
        self._redis = redis

    async def ring(self) -> None:
        """Ring it; while Redis is away, nobody hears."""
        with contextlib.suppress(StoreUnavailable), guard():
            await self._redis.publish(keys.OUTBOX_CHANNEL, "")
