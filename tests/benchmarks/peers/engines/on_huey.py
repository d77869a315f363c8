"""huey."""

import os
from typing import Any

import noop
from huey import RedisHuey

huey = RedisHuey("bench", url=os.environ["REDIS_URL"])
"""For `huey_consumer on_huey.huey`."""


@huey.task()
def job(slot: int) -> int:
    """The job. huey knows no asynchronous ones."""
    return noop.run(slot)


class Client:
    """Submits by calling the task. There is no call for many."""

    async def open(self) -> None:
        """Connects at first use."""

    async def close(self) -> None:
        """Nothing to close."""

    async def submit(self, slot: int) -> Any:
        """One job."""
        return job(slot)

    async def finished(self, handles: list[Any]) -> int:
        """All results are in one hash."""
        return huey.storage.result_store_size()

    async def result(self, handle: Any) -> int | None:
        """As it is stored."""
        return handle.get(preserve=True)
