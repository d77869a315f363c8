"""docket (pydocket). `python on_docket.py` runs its worker, as its command does, on uvloop."""

import asyncio
import os
from datetime import timedelta
from typing import Any

import noop
import uvloop
from docket import Docket, Worker
from docket.execution import Execution

URL = os.environ["REDIS_URL"]
NAME = "bench"


async def job(slot: int) -> int:
    """The job."""
    return noop.run(slot)


tasks = [job]


class Client:
    """Submits with ``add`` and ``add_many``."""

    async def open(self) -> None:
        """Connect."""
        self._docket = await Docket(NAME, URL).__aenter__()
        self._docket.register(job)

    async def close(self) -> None:
        """Disconnect."""
        await self._docket.__aexit__(None, None, None)

    async def submit(self, slot: int) -> Execution:
        """One job."""
        return await self._docket.add(job)(slot)

    async def submit_many(self, count: int) -> list[Execution]:
        """In one pipeline."""
        # Each needs a call of its own: that is what makes its key.
        return await self._docket.add_many(
            [self._docket.call(job)(noop.UNMARKED) for _ in range(count)]
        )

    async def finished(self, handles: list[Any]) -> int:
        """A message is deleted once its result is stored."""
        async with self._docket.redis() as redis:
            return len(handles) - await redis.xlen(self._docket.stream_key)

    async def result(self, handle: Execution) -> int | None:
        """As it is stored."""
        return await handle.get_result(timeout=timedelta(seconds=1))


def main() -> None:
    """Run the worker."""
    running = Worker.run(
        docket_name=NAME, url=URL, concurrency=50, tasks=["on_docket:tasks"],
        minimum_check_interval=timedelta(milliseconds=10),
    )  # fmt: skip
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(running)


if __name__ == "__main__":
    main()
