"""Job kinds for tests, declared as a user would; workers load them by DRAWBRIDGE_JOBS."""

import asyncio
import os
import signal
import time
from contextlib import suppress
from decimal import Decimal
from pathlib import Path
from typing import Any

from worker.jobs.kinds import job


class Flaky(Exception):
    """An error that the next attempt may not meet."""


@job("echo")
async def echo(context: Any, payload: Any) -> Any:
    """Give the payload back."""
    context.progress(seen=True)
    return {"payload": payload, "attempt": context.attempt}


@job("wait", max_attempts=3)
async def wait(context: Any, payload: Any) -> Any:
    """Run until it is stopped; with a checkpoint, so that a later attempt ends at once."""
    if context.restored is not None:
        return {"restored": context.restored, "attempt": context.attempt}
    context.checkpoint({"from": context.run_id})
    context.progress(waiting=True)
    if payload.get("until_drained"):
        while not context.draining:
            await asyncio.sleep(0.01)
        return {"drained": True}
    await asyncio.Event().wait()
    return None


@job("nap")
async def nap(context: Any, payload: Any) -> Any:
    """Be under way for as long as the payload says."""
    await asyncio.sleep(payload["for_s"])
    return context.attempt


@job("meet")
async def meet(context: Any, payload: Any) -> Any:
    """End so many seconds after a file came to be there, whenever the job began."""
    gate = Path(payload["gate"])
    while not gate.exists():
        await asyncio.sleep(0.2)
    await asyncio.sleep(gate.stat().st_mtime + payload["later_s"] - time.time())
    return context.attempt


@job("witnessed")
async def witnessed(context: Any, payload: Any) -> Any:
    """End once a file is there, with a line in another one."""
    while not Path(payload["gate"]).exists():
        await asyncio.sleep(0.05)
    with Path(payload["book"]).open("a") as book:
        book.write(f"{context.run_id}\n")
    return context.attempt


@job("single", concurrency=1)
async def single(context: Any, payload: Any) -> Any:
    """The same, one at a time in the whole fleet."""
    return await wait(context, payload)


@job("parent", retry_on=(Flaky,))
async def parent(context: Any, payload: Any) -> Any:
    """Submit two jobs, one of them under a key; fail the first time."""
    kept = await context.submit("echo", {"child": "kept"}, key="kept", priority="high")
    await context.submit("echo", {"child": "repeated"})
    if context.attempt == 1:
        raise Flaky("after the children were made")
    return kept


@job("flaky", retry_on=(Flaky,))
async def flaky(context: Any, payload: Any) -> Any:
    """Fail until the attempt that the payload names."""
    if context.attempt < payload["succeed_on"]:
        raise Flaky("not yet")
    return {"attempt": context.attempt}


@job("broken")
async def broken(context: Any, payload: Any) -> Any:
    """Fail for good."""
    raise ValueError("wrong\nand a second line")


@job("hog")
async def hog(context: Any, payload: Any) -> Any:
    """Hold up the worker's loop in its first attempt, until a file is there."""
    while context.attempt == 1 and not Path(payload["until"]).exists():
        time.sleep(0.05)
    return {"attempt": context.attempt}


@job("deaf")
async def deaf(context: Any, payload: Any) -> Any:
    """Run for ever, swallowing whatever is to end it."""
    context.progress(started=True)
    while True:
        with suppress(asyncio.CancelledError):
            await asyncio.Event().wait()


class Mute(ValueError):
    """Says nothing of itself, whoever asks."""

    def __str__(self) -> str:
        raise RuntimeError("not now")


@job("odd")
async def odd(context: Any, payload: Any) -> Any:
    """Tell of things that JSON has no form for, again and again, until asked to end."""
    gate = Path(payload["gate"])
    while not gate.exists():
        context.progress(of=object(), half="\ud800", share=Decimal(1))
        await asyncio.sleep(0.01)
    return "well"


@job("modest")
async def modest(context: Any, payload: Any) -> Any:
    """Say once how far it is, and keep that."""
    context.progress(step=1)
    context.checkpoint({"half": "done"})
    await asyncio.Event().wait()


@job("leaver", max_attempts=2)
async def leaver(context: Any, payload: Any) -> Any:
    """End the interpreter, or try to; or fail in a way that cannot be told."""
    raise {"exit": SystemExit(3), "interrupt": KeyboardInterrupt(), "mute": Mute("no")}[payload]


@job("poison", cpu=True, max_attempts=2)
def poison(context: Any, payload: Any) -> Any:
    """Kill the process that runs it."""
    os.kill(os.getpid(), signal.SIGKILL)


@job("killer", max_attempts=2)
async def killer(context: Any, payload: Any) -> Any:
    """Kill the worker that runs it."""
    os.kill(os.getpid(), signal.SIGKILL)


@job("stubborn", cpu=True)
def stubborn(context: Any, payload: Any) -> Any:
    """Compute for ever, deaf to everything."""
    context.progress(started=True)
    while True:
        pass
