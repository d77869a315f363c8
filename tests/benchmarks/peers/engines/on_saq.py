"""SAQ."""

import asyncio
import os
from typing import Any

import noop
import uvloop
from redis.asyncio import Redis
from saq.queue.redis import RedisQueue

asyncio.set_event_loop_policy(uvloop.EventLoopPolicy())


async def job(_context: dict[str, Any], *, slot: int) -> int:
    """The job."""
    return noop.run(slot)


def _queue() -> RedisQueue:
    # The client's own limit is 100 connections; beyond it jobs fail.
    redis = Redis.from_url(os.environ["REDIS_URL"], max_connections=500)
    return RedisQueue(redis, max_concurrent_ops=100)


settings = {"queue": _queue(), "functions": [job], "concurrency": 100}
"""For `saq on_saq.settings`."""


class Client:
    """Submits with ``enqueue``."""

    async def open(self) -> None:
        """Connect."""
        self._queue = _queue()
        await self._queue.connect()

    async def close(self) -> None:
        """Disconnect."""
        await self._queue.disconnect()

    async def submit(self, slot: int) -> Any:
        """One job."""
        return await self._queue.enqueue("job", slot=slot)

    async def submit_many(self, count: int) -> list[Any]:
        """Calls at once; the queue lets as many through as it has connections for."""
        return await asyncio.gather(*(self.submit(noop.UNMARKED) for _ in range(count)))

    async def finished(self, handles: list[Any]) -> int:
        """A job leaves ``incomplete`` in the transaction that stores its result."""
        return len(handles) - await self._queue.count("incomplete")

    async def result(self, handle: Any) -> int | None:
        """As it is stored."""
        found = await self._queue.job(handle.key)
        return None if found is None else found.result
