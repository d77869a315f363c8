"""taskiq, with its Redis stream broker and result backend."""

import asyncio
import os
from typing import Any

import noop
from redis.asyncio import Redis
from taskiq.serializers import ORJSONSerializer
from taskiq_redis import RedisAsyncResultBackend, RedisStreamBroker

URL = os.environ["REDIS_URL"]
_TOGETHER = 100

broker = (
    RedisStreamBroker(URL, xread_count=500)
    .with_result_backend(
        RedisAsyncResultBackend(URL, result_ex_time=3600, serializer=ORJSONSerializer())
    )
    .with_serializer(ORJSONSerializer())
)
"""For `taskiq worker on_taskiq:broker`."""


@broker.task(task_name="job")
async def job(slot: int) -> int:
    """The job."""
    return noop.run(slot)


class Client:
    """Submits with ``kiq``."""

    async def open(self) -> None:
        """Connect, and declare the consumer group."""
        await broker.startup()
        self._redis = Redis.from_url(URL)

    async def close(self) -> None:
        """Disconnect."""
        await self._redis.aclose()
        await broker.shutdown()

    async def submit(self, slot: int) -> Any:
        """One job."""
        return await job.kiq(slot)

    async def submit_many(self, count: int) -> list[Any]:
        """There is no call for many: as many calls at once as help."""
        made: list[Any] = []
        for at in range(0, count, _TOGETHER):
            calls = (self.submit(noop.UNMARKED) for _ in range(min(_TOGETHER, count - at)))
            made += await asyncio.gather(*calls)
        return made

    async def finished(self, handles: list[Any]) -> int:
        """A message is acknowledged once its result is stored."""
        [group] = await self._redis.xinfo_groups("taskiq")
        return min(len(handles), (group["entries-read"] or 0) - group["pending"])

    async def result(self, handle: Any) -> int | None:
        """As it is stored."""
        if not await handle.is_ready():
            return None
        found = await handle.get_result()
        return found.return_value
