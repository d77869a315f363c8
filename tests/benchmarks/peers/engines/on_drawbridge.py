"""Drawbridge, from the checkout that PYTHONPATH names; the worker takes this module's kind."""

import os
from contextlib import aclosing
from typing import Any

import noop

from control import keys
from control.config import Config
from control.ids import new_id
from control.stores import redis
from worker.jobs.job import JobState, NewJob, Spec
from worker.jobs.kinds import job
from worker.jobs.manager import JobStateManager

KIND = "noop"


@job(KIND)
async def run(_context: Any, payload: Any) -> int:
    """The job."""
    return noop.run(payload)


def _new(slot: int) -> NewJob:
    spec = Spec(kind=KIND, correlation_id="bench")
    return NewJob(run_id=new_id(), spec=spec, payload=b"%d" % slot)


class Client:
    """Submits with ``create_job``, as the service does."""

    async def open(self) -> None:
        """Connect."""
        self._redis = redis.client(os.environ["REDIS_URL"])
        section = Config().jobs
        self._jobs = JobStateManager(
            self._redis, result_ttl_s=section.result_ttl_s, lease_s=section.lease_s
        )

    async def close(self) -> None:
        """Disconnect."""
        async with aclosing(self._redis):
            pass

    async def submit(self, slot: int) -> str:
        """One job."""
        return (await self._jobs.create_job(_new(slot))).run_id

    async def submit_many(self, count: int) -> list[str]:
        """One call, as the service makes for a batch."""
        handles = []
        for made in await self._jobs.create_jobs([_new(noop.UNMARKED) for _ in range(count)]):
            if isinstance(made, Exception):
                raise made
            handles.append(made.run_id)
        return handles

    async def finished(self, handles: list[str]) -> int:
        """By the queue, which a job leaves in the step that stores its result."""
        left: int = await self._redis.xlen(keys.queue("io", "normal"))
        return len(handles) - left

    async def rested(self) -> bool:
        """Whether all that ended is archived, or let go where there is no archive."""
        return not await self._redis.exists(keys.ENDED)

    async def result(self, handle: str) -> int | None:
        """As it is stored."""
        record = await self._jobs.get_job(handle)
        if record is None or record.status is not JobState.COMPLETED:
            return None
        stored = await self._jobs.get_result(handle)
        return None if stored is None else int(stored)
