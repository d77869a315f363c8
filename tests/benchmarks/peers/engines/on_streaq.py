"""streaq."""

import os
from datetime import timedelta
from typing import Any

import noop
from streaq import Worker

worker: Worker[Any] = Worker(
    redis_url=os.environ["REDIS_URL"],
    concurrency=100,
    anyio_kwargs={"use_uvloop": True},
)
"""For `streaq run on_streaq:worker`."""


@worker.task(silent=True, ttl=timedelta(hours=1))
async def job(slot: int) -> int:
    """The job."""
    return noop.run(slot)


class Client:
    """Submits with ``enqueue`` and ``enqueue_many``."""

    async def open(self) -> None:
        """Connect."""
        await worker.__aenter__()

    async def close(self) -> None:
        """Disconnect."""
        await worker.__aexit__(None, None, None)

    async def submit(self, slot: int) -> Any:
        """One job."""
        return await job.enqueue(slot)

    async def submit_many(self, count: int) -> list[Any]:
        """In one pipeline."""
        made = [job.enqueue(noop.UNMARKED) for _ in range(count)]
        await worker.enqueue_many(made)
        return made

    async def finished(self, handles: list[Any]) -> int:
        """A job enters the index of results in the transaction that stores its result."""
        return await worker.redis.zcard("streaq:default:index:results")

    async def result(self, handle: Any) -> int | None:
        """As it is stored; ``handle.result()`` would subscribe to a channel for each."""
        stored = await worker.redis.get(worker.results_key + handle.id)
        return None if stored is None else (await worker.deserialize(stored))["r"]
