"""A task that loses a cancellation ends all the same."""

import asyncio
import os
import signal
from contextlib import suppress

import pytest

from control import cancelling

DEADLINE_S = 10.0


async def swallows_one() -> str:
    """As ``asyncio.wait_for`` may on Python 3.11, and redis-py with it."""
    with suppress(asyncio.CancelledError):
        await asyncio.sleep(DEADLINE_S)
    await asyncio.sleep(DEADLINE_S)
    return "went on"


async def test_a_task_is_asked_until_it_has_ended() -> None:
    task = asyncio.create_task(swallows_one())
    await asyncio.sleep(0)
    await asyncio.wait_for(cancelling.end(task), DEADLINE_S / 2)
    assert task.cancelled()


def test_one_ctrl_c_is_enough() -> None:
    async def work() -> str:
        os.kill(os.getpid(), signal.SIGINT)
        return await swallows_one()

    with pytest.raises(KeyboardInterrupt):
        cancelling.run(work())


def test_what_was_run_gives_its_result_and_its_error() -> None:
    async def work(fault: Exception | None) -> str:
        if fault:
            raise fault
        return "done"

    assert cancelling.run(work(None)) == "done"
    with pytest.raises(LookupError, match="gone"):
        cancelling.run(work(LookupError("gone")))
