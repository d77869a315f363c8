"""Kinds of CPU-bound jobs, well and badly behaved, that the tests run in real processes."""

import os
import subprocess
import sys
import threading
import time
from typing import Any

from control.errors import InvalidInput
from worker.cpu.context import Context
from worker.jobs.kinds import job


class Hiccup(Exception):
    """A passing fault."""


@job("t.echo", cpu=True)
def echo(context: Context, payload: Any) -> Any:
    return payload


@job("t.surroundings", cpu=True)
def surroundings(context: Context, payload: Any) -> Any:
    return {
        "environ": dict(os.environ),
        "run_id": context.run_id,
        "attempt": context.attempt,
        "correlation_id": context.correlation_id,
        "restored": context.restored,
        "niceness": os.nice(0),
        "session": os.getsid(0) == os.getpid(),
        "stdin": sys.stdin.read(),
    }


@job("t.print", cpu=True)
def printing(context: Context, payload: Any) -> str:
    print("x" * 300_000)
    os.write(1, b"\x10\x00\x00\x00\x05 straight to the descriptor\n")
    print("to stderr", file=sys.stderr)
    return "printed"


class Mute(Exception):
    def __str__(self) -> str:
        raise RuntimeError("not now")


@job("t.raise", cpu=True, retry_on=(Hiccup, ConnectionError))
def raising(context: Context, payload: str) -> None:
    raise {
        "value": ValueError("first line\nsecond line"),
        "long": ValueError("y" * 2_000),
        "hiccup": Hiccup("try again"),
        "derived": ConnectionResetError("gone"),
        "input": InvalidInput("is wrong", "problem.content"),
        "exit": SystemExit(4),
        "memory": MemoryError(),
        "interrupt": KeyboardInterrupt(),
        "half": ValueError("bad \ud800 name"),
        "mute": Mute(),
    }[payload]


@job("t.unencodable", cpu=True)
def unencodable(context: Context, payload: Any) -> Any:
    return object()


@job("t.die", cpu=True)
def dying(context: Context, payload: int) -> None:
    print("last words", file=sys.stderr, flush=True)
    if payload < 0:
        os.kill(os.getpid(), -payload)
    os._exit(payload)


@job("t.hog", cpu=True)
def hogging(context: Context, payload: Any) -> int:
    held = []
    while True:
        held.append(bytearray(8 << 20))


@job("t.deaf", cpu=True)
def deaf(context: Context, payload: Any) -> None:
    """Never looks at a cancellation."""
    context.progress(pid=os.getpid())
    time.sleep(3_600)


@job("t.polite", cpu=True)
def polite(context: Context, payload: Any) -> Any:
    """Works until it is cancelled, keeps a checkpoint, and hands back what it has."""
    stop = threading.Event()
    context.on_cancel(stop.set)
    context.progress(pid=os.getpid())
    stop.wait()
    context.checkpoint({"done": 7})
    return {"reason": context.cancel_reason, "cancelled": context.cancelled}


@job("t.finisher", cpu=True)
def finisher(context: Context, payload: Any) -> str:
    """Hears of a cancellation when all is done."""
    stop = threading.Event()
    context.on_cancel(stop.set)
    context.progress(pid=os.getpid())
    stop.wait()
    context.disregard_cancel()
    return "all done"


@job("t.progress", cpu=True)
def progressing(context: Context, payload: int) -> None:
    for done in range(payload):
        context.progress(done=done)
    context.log.info("halfway", done=payload // 2, event="mine", infinite=float("inf"))


@job("t.family", cpu=True)
def family(context: Context, payload: Any) -> None:
    """Starts a process that outlives it."""
    child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(3600)"])
    context.progress(pid=os.getpid(), child=child.pid)
    context.checkpoint(child.pid)
    if payload == "wait":
        time.sleep(3_600)


@job("t.submit", cpu=True)
def submitting(context: Context, payload: dict[str, Any]) -> list[str]:
    """Submit two jobs, with what the payload says of them."""
    return [context.submit("t.echo", n, **payload) for n in range(2)]
