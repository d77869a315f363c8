"""The worker's side of a CPU-bound job: a process of its own for each run.

The loop never waits for it: whatever the function does, frames come and go through asyncio, and a
process that does not listen is killed.
"""

import asyncio
import os
import shutil
import signal
import sys
import tempfile
from asyncio.subprocess import PIPE, Process
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

import msgspec

from control.logs import Logger
from worker.context import PASSING, Submit, Terms
from worker.cpu.frames import (
    LAST,
    OUT_OF_MEMORY,
    Decoder,
    Failure,
    FrameError,
    FrameType,
    GraphAccess,
    LogLine,
    Start,
    Submission,
    Submitted,
    header,
    lacks_memory,
)
from worker.jobs.job import JobError

TERM_AFTER_S = 0.5
KILL_AFTER_S = 0.8
_EXIT_WITHIN_S = 1.0
_READ = 1 << 18
_STDERR_KEPT = 1 << 16
_LEVELS = ("debug", "info", "warning", "error")
_INHERITED = ("PATH", "HOME", "LANG", "TZ", "VIRTUAL_ENV", "LD_LIBRARY_PATH")
_INHERITED_PREFIXES = ("LC_", "PYTHON", "DYLD_")


class Ended(msgspec.Struct, frozen=True):
    """How a run ended.

    ``result`` is JSON text. ``error`` says why there is none; ``retryable`` whether another
    attempt may help, after ``retry_in_s`` or when it is usual. ``interrupted`` means that
    :meth:`CpuProcess.cancel` cut it short: a result that comes with it is what the function had by
    then.
    """

    result: bytes | None = None
    error: JobError | None = None
    retryable: bool = False
    interrupted: bool = False
    retry_in_s: float | None = None


class CpuProcess:
    """One run of a CPU-bound kind's function. Use it once, from the loop's thread.

    ``modules`` declare the kinds (besides the built-in ones), ``memory`` bounds the process's
    address space in bytes; ``graph`` is what it is told of Neo4j. ``on_progress`` gets each
    progress object, ``on_checkpoint`` each checkpoint as JSON text; what they raise ends the run
    and comes out of :meth:`run`. ``on_submit`` submits a job for the function, which gets what it
    returns or raises.
    """

    def __init__(
        self,
        kind: str,
        modules: Sequence[str],
        *,
        memory: int,
        graph: GraphAccess | None = None,
        on_progress: Callable[[dict[str, Any]], None],
        on_checkpoint: Callable[[bytes], None],
        on_submit: Submit,
        log: Logger,
        term_after_s: float = TERM_AFTER_S,
        kill_after_s: float = KILL_AFTER_S,
        environ: Mapping[str, str] | None = None,
    ) -> None:
        self._kind = kind
        self._modules = tuple(modules)
        self._memory = memory
        self._graph = graph
        self._on_progress = on_progress
        self._on_checkpoint = on_checkpoint
        self._on_submit = on_submit
        self._submitting: set[asyncio.Task[None]] = set()
        self._log = log
        self._term_after_s = term_after_s
        self._kill_after_s = kill_after_s
        self._environ = child_environment(os.environ if environ is None else environ)
        self._process: Process | None = None
        self._reason: str | None = None
        self._killed = False
        self._timers: list[asyncio.TimerHandle] = []
        self._stderr = bytearray()

    @property
    def pid(self) -> int | None:
        """The process's id, once it runs."""
        return None if self._process is None else self._process.pid

    async def run(
        self,
        *,
        run_id: str,
        attempt: int,
        correlation_id: str,
        payload: bytes,
        checkpoint: bytes | None,
        traceparent: str | None = None,
    ) -> Ended:
        """Run the function on ``payload`` and say how it ended.

        Whatever happens, the process and those it started are gone when this returns or raises.
        """
        if self._stopping:
            return Ended(interrupted=True)
        self._log = self._log.bind(run_id=run_id, request_id=correlation_id, attempt=attempt)
        start = Start(
            kind=self._kind,
            modules=self._modules,
            memory=self._memory,
            run_id=run_id,
            attempt=attempt,
            correlation_id=correlation_id,
            traceparent=traceparent,
            has_checkpoint=checkpoint is not None,
            graph=self._graph,
        )
        frames = [(FrameType.START, msgspec.msgpack.encode(start)), (FrameType.PAYLOAD, payload)]
        if checkpoint is not None:
            frames.append((FrameType.CHECKPOINT, checkpoint))
        try:
            scratch = tempfile.mkdtemp(prefix="drawbridge-job-")
        except OSError as error:
            return _not_started(error)
        try:
            try:
                process = await self._spawn(scratch)
            except OSError as error:
                return _not_started(error)
            return await self._converse(process, frames)
        finally:
            await asyncio.to_thread(shutil.rmtree, scratch, ignore_errors=True)

    async def _converse(self, process: Process, frames: list[tuple[FrameType, bytes]]) -> Ended:
        errors = asyncio.create_task(self._keep_errors(process))
        sending = asyncio.create_task(self._send(process, frames))
        last: tuple[FrameType, bytes] | None = None
        try:
            if not self._stopping:
                last = await self._follow(process)
                if last is None:  # it died: let its own exit status tell why
                    await self._gone(process)
        except FrameError as error:
            self._log.error("the process of a job broke the protocol", error=str(error))
        finally:
            for timer in self._timers:
                timer.cancel()
            for task in self._submitting:
                task.cancel()
            self._signal(signal.SIGKILL)
            await self._gone(process)
            await self._settle(sending, errors, *self._submitting)
        return self._judge(last, process.returncode)

    def cancel(self, reason: str) -> None:
        """Ask the function to stop, at any moment; ``reason`` is cancelled, timeout or drain.

        Unless for a drain, it is killed if it has not ended in time. A drain leaves that to
        :meth:`kill`, and to a later call with another reason.
        """
        if self._reason in (None, "drain") and reason != self._reason:
            self._reason = reason
            self._pass_on_cancel()

    def kill(self) -> None:
        """End the process now."""
        self._killed = True
        self._signal(signal.SIGKILL)

    @property
    def _stopping(self) -> bool:
        return self._killed or self._reason is not None

    async def _spawn(self, scratch: str) -> Process:
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-P", "-m", "worker.cpu.child"),
            stdin=PIPE,
            stdout=PIPE,
            stderr=PIPE,
            env={**self._environ, "TMPDIR": scratch},
            start_new_session=True,
            limit=_READ,
        )
        self._process = process
        return process

    async def _send(self, process: Process, frames: list[tuple[FrameType, bytes]]) -> None:
        """Hand all frames to the transport at once, so that a cancellation comes after them."""
        assert process.stdin is not None  # noqa: S101 - made with PIPE
        for kind, body in frames:
            process.stdin.write(header(kind, body))
            process.stdin.write(body)
        with suppress(ConnectionError):  # it died; _follow sees that too
            await process.stdin.drain()

    def _pass_on_cancel(self) -> None:
        process, reason = self._process, self._reason
        if process is None or reason is None or process.returncode is not None:
            return
        assert process.stdin is not None  # noqa: S101 - made with PIPE
        body = reason.encode()
        process.stdin.write(header(FrameType.CANCEL, body) + body)
        if reason != "drain":
            call_later = asyncio.get_running_loop().call_later
            self._timers = [
                call_later(self._term_after_s, self._signal, signal.SIGTERM),
                call_later(self._kill_after_s, self._signal, signal.SIGKILL),
            ]

    async def _follow(self, process: Process) -> tuple[FrameType, bytes] | None:
        """Take frames until the last one; ``None`` where the process ended without it."""
        assert process.stdout is not None  # noqa: S101 - made with PIPE
        decoder = Decoder()
        while data := await process.stdout.read(_READ):
            for kind, body in decoder.feed(data):
                if kind in LAST:
                    return kind, body
                self._take(process, kind, body)
        return None

    def _take(self, process: Process, kind: FrameType, body: bytes) -> None:
        if kind is FrameType.PROGRESS:
            self._on_progress(msgspec.json.decode(body))
        elif kind is FrameType.CHECKPOINT:
            self._on_checkpoint(body)
        elif kind is FrameType.LOG:
            line = msgspec.json.decode(body, type=LogLine)
            write = getattr(self._log, line.level if line.level in _LEVELS else "info")
            write(line.event, **{_field(name): value for name, value in line.fields.items()})
        elif kind is FrameType.SUBMIT:
            task = asyncio.create_task(self._submit(process, body))
            self._submitting.add(task)
            task.add_done_callback(self._submitting.discard)
        else:
            raise FrameError(f"a job's process does not send {kind.name}")

    async def _submit(self, process: Process, body: bytes) -> None:
        """Submit a job for the function, and tell it what became of that."""
        try:
            asked = msgspec.json.decode(body, type=Submission)
            terms = msgspec.convert(asked.terms, Terms)
            answer = Submitted(await self._on_submit(asked.kind, asked.payload, terms))
        except Exception as error:  # the function's own fault, or an outage: it shall know
            answer = Submitted(why=f"{error}", passing=isinstance(error, PASSING))
        await self._send(process, [(FrameType.SUBMITTED, msgspec.json.encode(answer))])

    async def _keep_errors(self, process: Process) -> None:
        """Read stderr for as long as there is some, keeping its end."""
        assert process.stderr is not None  # noqa: S101 - made with PIPE
        while data := await process.stderr.read(_READ):
            self._stderr += data
            del self._stderr[:-_STDERR_KEPT]

    async def _gone(self, process: Process) -> None:
        """Wait for the process's end, but not for pipes that others may hold open."""
        with suppress(TimeoutError):
            await asyncio.wait_for(process.wait(), _EXIT_WITHIN_S)

    async def _settle(self, *tasks: asyncio.Task[None]) -> None:
        """Let the pipes' tasks see the end of their pipes."""
        _, late = await asyncio.wait(tasks, timeout=_EXIT_WITHIN_S)
        for task in late:  # a grandchild that left the session may hold a pipe open
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    def _signal(self, number: signal.Signals) -> None:
        """Signal the process and all that it started and that stayed in its session.

        They may outlive it; while one does, the system gives its id to nobody else.
        """
        if self._process is not None:
            with suppress(ProcessLookupError, PermissionError):
                os.killpg(self._process.pid, number)

    def _judge(self, last: tuple[FrameType, bytes] | None, status: int | None) -> Ended:
        stderr = self._stderr.decode(errors="replace").strip()
        if stderr:
            self._log.debug("a job's process wrote to stderr", stderr=stderr)
        if last is None:
            return Ended(interrupted=True) if self._stopping else self._died(status, stderr)
        kind, body = last
        if kind is not FrameType.FAILURE:
            return Ended(result=body, interrupted=kind is FrameType.PARTIAL)
        failure = msgspec.msgpack.decode(body, type=Failure)
        return Ended(
            error=JobError(failure.class_, failure.message),
            retryable=failure.retryable,
            interrupted=failure.interrupted,
        )

    def _died(self, status: int | None, stderr: str) -> Ended:
        tail = "\n".join(stderr.splitlines()[-20:])
        self._log.warning("the process of a job died", status=status, stderr=tail)
        if lacks_memory(tail):
            return Ended(error=JobError("OutOfMemory", OUT_OF_MEMORY))
        return Ended(error=JobError("ProcessDied", f"the process {_fate(status)}"), retryable=True)


def child_environment(environ: Mapping[str, str]) -> dict[str, str]:
    """What a job's process may see of the worker's environment: no addresses, no secrets.

    It finds modules where this process does, and each of its libraries computes in one thread.
    """
    kept = {
        name: value
        for name, value in environ.items()
        if name in _INHERITED or name.startswith(_INHERITED_PREFIXES)
    }
    kept["PYTHONPATH"] = os.pathsep.join(str(Path(entry).absolute()) for entry in sys.path)
    return {**kept, "OPENBLAS_NUM_THREADS": "1", "OMP_NUM_THREADS": "1"}


def _not_started(error: OSError) -> Ended:
    reason = f"cannot start a process: {error.strerror or error}"
    return Ended(error=JobError("ProcessNotStarted", reason), retryable=True)


def _field(name: str) -> str:
    """A name for a field of a log line that is none of the logger's own parameters."""
    return f"{name}_" if name in ("event", "exc_info", "stack_info", "stacklevel") else name


def _fate(status: int | None) -> str:
    if status is None or status >= 0:
        return f"ended with status {status}" if status is not None else "did not end"
    try:
        return f"was killed by {signal.Signals(-status).name}"
    except ValueError:
        return f"was killed by signal {-status}"
