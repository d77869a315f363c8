"""arq."""

import asyncio
import os
from typing import Any, ClassVar

import noop
import uvloop
from arq import create_pool
from arq.connections import ArqRedis, RedisSettings
from arq.jobs import Job

REDIS = RedisSettings.from_dsn(os.environ["REDIS_URL"])
_TOGETHER = 100


async def job(_context: dict[str, Any], slot: int) -> int:
    """The job."""
    return noop.run(slot)


LOGGING = {"version": 1, "loggers": {"arq": {"level": "WARNING"}}}


class WorkerSettings:
    """For `arq on_arq.WorkerSettings`, which runs on the policy's loop."""

    asyncio.set_event_loop_policy(uvloop.EventLoopPolicy())

    functions: ClassVar = [job]
    redis_settings = REDIS
    max_jobs = 500
    poll_delay = 0.02
    log_results = False


class Client:
    """Submits with ``enqueue_job``."""

    async def open(self) -> None:
        """Connect."""
        self._redis: ArqRedis = await create_pool(REDIS)

    async def close(self) -> None:
        """Disconnect."""
        await self._redis.aclose()

    async def submit(self, slot: int) -> Job:
        """One job."""
        made = await self._redis.enqueue_job("job", slot)
        assert made is not None
        return made

    async def submit_many(self, count: int) -> list[Job]:
        """There is no call for many: as many calls at once as help."""
        made: list[Job] = []
        for at in range(0, count, _TOGETHER):
            calls = (self.submit(noop.UNMARKED) for _ in range(min(_TOGETHER, count - at)))
            made += await asyncio.gather(*calls)
        return made

    async def finished(self, handles: list[Job]) -> int:
        """A job leaves the queue in the transaction that stores its result."""
        return len(handles) - await self._redis.zcard("arq:queue")

    async def result(self, handle: Job) -> int | None:
        """As it is stored."""
        found = await handle.result_info()
        return None if found is None else found.result
