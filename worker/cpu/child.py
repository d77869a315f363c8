"""The process of one CPU-bound job: ``python -m worker.cpu.child``, started by a worker.

It takes frames (:mod:`worker.cpu.frames`) on stdin and gives frames on stdout; whatever the
function prints goes to stderr. It ends with its worker: at the end of stdin, and on Linux by a
signal of the kernel too, for functions that hold the interpreter.
"""

import os
import queue
import resource
import signal
import sys
import threading
import traceback
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

import msgspec

from control.errors import ConfigError
from worker import telling
from worker.cpu.context import Context, NotSubmitted
from worker.cpu.frames import (
    LAST,
    OUT_OF_MEMORY,
    Decoder,
    Failure,
    FrameError,
    FrameType,
    LogLine,
    Start,
    Submitted,
    header,
    lacks_memory,
)

if TYPE_CHECKING:
    from worker.jobs.kinds import Kind

NICENESS = 5
ORPHANED = 3
"""Exit status of a process whose worker went away."""
_READ = 1 << 20
_PR_SET_PDEATHSIG = 1


class Link:
    """The two pipes to the worker.

    A thread reads: the frames up to the payload are handed out in order by :meth:`take`; a
    cancellation goes to the callback given to :meth:`deliver_cancel` at once, or as soon as there
    is one. Writing is safe from any thread and waits while the worker is slow to read.
    """

    def __init__(self, readable: int, writable: int) -> None:
        self._readable = readable
        self._writable = writable
        self._incoming: queue.SimpleQueue[tuple[FrameType, bytes]] = queue.SimpleQueue()
        self._writing = threading.Lock()
        self._closed = False
        self._cancelling = threading.Lock()
        self._reason: str | None = None
        self._deliver: Callable[[str], None] | None = None
        threading.Thread(target=self._read, name="link", daemon=True).start()

    def take(self, expected: FrameType) -> bytes:
        """The body of the next frame. Raises :class:`FrameError` where it is of another type."""
        kind, body = self._incoming.get()
        if kind is not expected:
            raise FrameError(f"expected a {expected.name} frame, got {kind.name}")
        return body

    def deliver_cancel(self, deliver: Callable[[str], None]) -> None:
        """Have cancellations passed to ``deliver``, one that came before included."""
        with self._cancelling:
            self._deliver = deliver
            reason = self._reason
        if reason is not None:
            deliver(reason)

    def send(self, kind: FrameType, body: bytes) -> None:
        """Send one frame. Does nothing once the last frame was sent."""
        parts = header(kind, body), body
        with self._writing:
            if self._closed:
                return
            self._closed = kind in LAST
            for part in parts:
                rest = memoryview(part)
                while rest:
                    rest = rest[os.write(self._writable, rest) :]

    def _read(self) -> None:
        decoder = Decoder()
        with suppress(OSError, FrameError):
            while data := os.read(self._readable, _READ):
                for kind, body in decoder.feed(data):
                    if kind is FrameType.CANCEL:
                        self._cancel(body.decode())
                    else:
                        self._incoming.put((kind, body))
        os._exit(ORPHANED)

    def _cancel(self, reason: str) -> None:
        with self._cancelling:
            self._reason = reason
            deliver = self._deliver
        if deliver is not None:
            # Its own thread: a callback that hangs must not keep us from seeing the worker's end.
            threading.Thread(target=deliver, args=(reason,), name="cancel", daemon=True).start()


def main() -> NoReturn:
    """Run one job, as the first frames say, and end."""
    link = _take_over_pipes()
    _die_with_worker()
    os.nice(NICENESS)
    try:
        _run(link)
    except (FrameError, BrokenPipeError):
        os._exit(ORPHANED)
    # Not sys.exit: threads and exit handlers of the function's libraries may hold an exit up.
    os._exit(0)


def _run(link: Link) -> None:
    """Take the job, run its function and report how it ended."""
    start = msgspec.msgpack.decode(link.take(FrameType.START), type=Start)
    kind: Kind | None = None
    context: Context | None = None
    try:
        kind = _kind(start)
        payload = link.take(FrameType.PAYLOAD)
        context = Context(
            link.send,
            submitted=lambda: msgspec.json.decode(link.take(FrameType.SUBMITTED), type=Submitted),
            run_id=start.run_id,
            attempt=start.attempt,
            correlation_id=start.correlation_id,
            traceparent=start.traceparent,
            graph=start.graph,
            restored=link.take(FrameType.CHECKPOINT) if start.has_checkpoint else None,
        )
        link.deliver_cancel(context.cancel)
        if context.cancel_reason is not None:
            return
        _limit_memory(start.memory)
        decoded = kind.decode(payload)
        del payload
        result = msgspec.json.encode(kind.run(context, decoded))
        context.finish()
        _flush()
        link.send(FrameType.PARTIAL if context.interrupted else FrameType.RESULT, result)
    except FrameError:
        raise
    except BaseException as error:  # SystemExit of the function is an outcome like any other
        _lift_memory_limit()
        if context is not None:
            context.finish()
        passing = isinstance(error, NotSubmitted) and error.passing
        retryable = passing or (kind is not None and isinstance(error, kind.retry_on))
        interrupted = context is not None and context.interrupted
        _report(link, error, retryable=retryable, interrupted=interrupted)


def _kind(start: Start) -> "Kind":
    # Imported here, with the link open: the payload and a cancellation come in meanwhile.
    from worker.jobs import kinds  # noqa: PLC0415

    kind = kinds.load(start.modules).get(start.kind)
    if kind is None:
        raise ConfigError(f"this worker knows no job kind {start.kind!r}")
    return kind


def _report(link: Link, error: BaseException, *, retryable: bool, interrupted: bool) -> None:
    """Send what was raised: class and message for everybody, the traceback for the log only."""
    if _of_memory(error):
        failure = Failure("OutOfMemory", OUT_OF_MEMORY, False, interrupted)
    elif isinstance(error, SystemExit):
        message = f"the function called sys.exit({error.code!r})"
        failure = Failure("SystemExit", message[: telling.LONGEST_MESSAGE], retryable, interrupted)
    else:
        failure = Failure(type(error).__name__, telling.message(error), retryable, interrupted)
    trace = "".join(traceback.format_exception(error, limit=-20))[-8_000:]
    line = LogLine("debug", "the function of a job raised", {"traceback": trace})
    link.send(FrameType.LOG, telling.encoded(line))
    _flush()
    link.send(FrameType.FAILURE, msgspec.msgpack.encode(failure))


def _of_memory(error: BaseException | None) -> bool:
    """Whether a lack of memory is behind ``error``."""
    while error is not None:
        if isinstance(error, MemoryError) or lacks_memory(telling.text(error)):
            return True
        error = error.__cause__
    return False


def _flush() -> None:
    """Let go of what the function printed: after the last frame the worker may kill at any time."""
    for stream in (sys.stdout, sys.stderr):
        with suppress(OSError, ValueError):  # the function may have closed it
            stream.flush()


def _take_over_pipes() -> Link:
    """Keep stdin and stdout for frames; the function gets an empty stdin, and stderr as stdout."""
    readable, writable = os.dup(0), os.dup(1)
    nothing = os.open(os.devnull, os.O_RDONLY)
    os.dup2(nothing, 0)
    os.close(nothing)
    os.dup2(2, 1)
    return Link(readable, writable)


def _die_with_worker() -> None:
    """Have the kernel kill this process with its worker, and rather than it when memory ends."""
    if sys.platform != "linux":
        return
    import ctypes  # noqa: PLC0415 - of no use elsewhere

    libc: Any = ctypes.CDLL(None, use_errno=True)
    libc.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
    with suppress(OSError):
        Path("/proc/self/oom_score_adj").write_text("500", "ascii")


def _limit_memory(memory: int) -> None:
    """Turn a blow-up into an error of this job; and write no memory dump with its data."""
    with suppress(OSError, ValueError):  # some systems refuse either
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    with suppress(OSError, ValueError):
        hard = resource.getrlimit(resource.RLIMIT_AS)[1]
        limit = memory if hard == resource.RLIM_INFINITY else min(memory, hard)
        resource.setrlimit(resource.RLIMIT_AS, (limit, hard))


def _lift_memory_limit() -> None:
    """Leave room to report that there was too little of it."""
    with suppress(OSError, ValueError):
        hard = resource.getrlimit(resource.RLIMIT_AS)[1]
        resource.setrlimit(resource.RLIMIT_AS, (hard, hard))


if __name__ == "__main__":
    main()
