"""Ending tasks that may lose a cancellation.

Until Python 3.12, ``asyncio.wait_for`` can swallow a cancellation that comes in the same turn of
the loop as its result; redis-py calls it for every command that it sends. So one ``cancel()`` is
not enough: ask again until the task has ended.
"""

import asyncio
from collections.abc import Coroutine
from typing import Any, TypeVar

T = TypeVar("T")

AGAIN_S = 0.1


async def end(*tasks: asyncio.Future[Any], again_s: float = AGAIN_S) -> None:
    """Cancel ``tasks`` and return when they have ended; their outcomes are not looked at."""
    left = {task for task in tasks if not task.done()}
    while left:
        for task in left:
            task.cancel()
        _, left = await asyncio.wait(left, timeout=again_s)
    for task in tasks:
        if not task.cancelled():
            task.exception()  # seen, lest asyncio complains that nobody did


def run(work: Coroutine[Any, Any, T]) -> T:
    """Run ``work`` as :func:`asyncio.run` does; one Ctrl-C ends it.

    asyncio cancels once for the first Ctrl-C, and does nothing more if that is swallowed.
    """

    async def to_its_end() -> T:
        task = asyncio.create_task(work)
        try:
            await asyncio.wait([task])  # swallows nothing
        finally:
            await end(task)
        return task.result()

    return asyncio.run(to_its_end())
