"""Runs a kind in your own tests: no Redis, no worker, the same code around it.

    async def test_greeting():
        run = await run_kind(greet, {"name": "Ada"})
        assert run.result == {"hello": "Ada"}
        assert run.progress == [{"step": 1}]

A run that is cut short, and the next one, which goes on from its checkpoint:

    first = await run_kind(count, {"to": 9}, stop="drain", stop_when=lambda run: run.checkpoint)
    again = await run_kind(count, {"to": 9}, attempt=2, restored=first.checkpoint)
"""

import asyncio
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from types import MappingProxyType
from typing import Any, Literal

import msgspec
import structlog
from structlog.typing import EventDict, WrappedLogger

from control.ids import new_id
from worker.context import Terms
from worker.cpu.context import Context
from worker.cpu.frames import FrameType, GraphAccess, LogLine, Submission, Submitted
from worker.cpu.process import CpuProcess, Ended
from worker.jobs.job import Claim, JobError, JobState, Spec, Told
from worker.jobs.kinds import Kind, kind_of
from worker.reporter import Reporter
from worker.run import TaskRun

Reason = Literal["cancelled", "timeout", "drain"]
_MEMORY = 4 << 30
_NOTHING: Mapping[Any, Any] = MappingProxyType({})


@dataclass
class KindRun:
    """What a run did. While it runs, ``stop_when`` is asked with what there is so far."""

    status: JobState = JobState.RUNNING
    """At the end completed, failed or cancelled; scheduled where the error would be tried again;
    queued where a drain had it handed back."""

    result: Any = None
    """What the API would give as the result."""

    error: JobError | None = None
    progress: list[dict[str, Any]] = field(default_factory=list)
    """Every progress that was told, in order."""

    checkpoint: Any = None
    """The newest checkpoint."""

    submitted: list[tuple[str, Any]] = field(default_factory=list)
    """Kind and payload of every job that it submitted, in order; none of them runs."""

    logs: list[EventDict] = field(default_factory=list)
    """The lines that it wrote with ``context.log``; ``event`` and ``log_level`` are among the keys.
    An exception that the function raised is in ``exc_info``."""


async def run_kind(
    function: Callable[..., Any],
    payload: Any = None,
    *,
    attempt: int = 1,
    restored: Any = None,
    resources: Mapping[Any, Any] = _NOTHING,
    graph: GraphAccess | None = None,
    stop: Reason | None = None,
    stop_when: Callable[[KindRun], object] | None = None,
    kill_after_s: float = 10.0,
    process: bool = False,
) -> KindRun:
    """Run the kind that ``function`` was declared as on ``payload``, and say how it went.

    ``restored`` is the checkpoint that it finds. ``resources`` stand in for what a worker would
    have opened, by declaration: ``{database: pool}``; ``graph`` is where a kind with ``graph=True``
    finds Neo4j. ``stop`` asks it to stop as a worker does:
    when ``stop_when`` holds, looked at after each progress and checkpoint, else at its first await
    (a CPU-bound one: at once); ``kill_after_s`` later it is ended the hard way.

    A CPU-bound kind runs in a thread of this process, where nothing can end it that does not heed
    ``context.cancelled``; with ``process`` in one of its own, as in a worker.

    Raises :class:`control.errors.InvalidInput` for a payload that a submission would be refused
    for, and :class:`control.errors.ConfigError` for a function that is no kind.
    """
    kind = replace(kind_of(function), resources=resources)
    claim = Claim(
        run_id=new_id(),
        token=1,
        attempt=attempt,
        spec=Spec(kind=kind.name, correlation_id=new_id(), lane=kind.lane),
        payload=kind.validated(payload),
        checkpoint=None if restored is None else msgspec.json.encode(restored),
    )
    recorder = _Recorder(KindRun(checkpoint=restored), stop, stop_when, kill_after_s)
    if not kind.cpu:
        ended = await _on_the_loop(kind, claim, recorder)
    elif process:
        ended = await _in_a_process(kind, function.__module__, claim, recorder, graph)
    else:
        ended = await _in_a_thread(kind, claim, recorder, graph)
    return recorder.judged(ended, kind, attempt)


async def _on_the_loop(kind: Kind, claim: Claim, recorder: "_Recorder") -> Ended:
    run = TaskRun(claim, kind, recorder, recorder.log, submit=recorder.submit)
    run.task = asyncio.create_task(run.run())
    recorder.begin(run.cancel, run.kill)
    return await recorder.end(run.task)


async def _in_a_process(
    kind: Kind, module: str, claim: Claim, recorder: "_Recorder", graph: GraphAccess | None
) -> Ended:
    child = CpuProcess(
        kind.name, [module], memory=_MEMORY, graph=graph, log=recorder.log,
        on_progress=recorder.on_progress, on_checkpoint=recorder.on_checkpoint,
        on_submit=recorder.submit,
    )  # fmt: skip
    task = asyncio.create_task(
        child.run(
            run_id=claim.run_id,
            attempt=claim.attempt,
            payload=claim.payload,
            correlation_id=claim.spec.correlation_id,
            checkpoint=claim.checkpoint,
        )
    )
    recorder.begin(child.cancel, child.kill)
    return await recorder.end(task)


async def _in_a_thread(
    kind: Kind, claim: Claim, recorder: "_Recorder", graph: GraphAccess | None
) -> Ended:
    context = _ThreadContext(
        recorder.on_frame, run_id=claim.run_id, attempt=claim.attempt,
        correlation_id=claim.spec.correlation_id, restored=claim.checkpoint,
        submitted=lambda: Submitted(new_id()), graph=graph,
    )  # fmt: skip

    def work() -> Ended:
        try:
            result = kind.run(context, kind.decode(claim.payload))
            text = msgspec.json.encode(result)
        except BaseException as error:
            recorder.log.warning("job raised", exc_info=error)
            told = JobError(type(error).__name__, str(error).partition("\n")[0])
            retryable = isinstance(error, kind.retry_on)
            return Ended(None, told, retryable=retryable, interrupted=context.interrupted)
        return Ended(text, interrupted=context.interrupted)

    recorder.begin(context.cancel, lambda: context.cancel("cancelled"))
    return await recorder.end(asyncio.create_task(asyncio.to_thread(work)))


class _ThreadContext(Context):
    """Tells every progress, at once."""

    def progress(self, **fields: Any) -> None:
        self._send(FrameType.PROGRESS, msgspec.json.encode(fields, enc_hook=str))


class _Recorder(Reporter):
    """Keeps what a run reports, and asks it to stop when it is time."""

    def __init__(
        self,
        seen: KindRun,
        stop: Reason | None,
        stop_when: Callable[[KindRun], object] | None,
        kill_after_s: float,
    ) -> None:
        self.seen = seen
        self.log = structlog.wrap_logger(
            None, [self._line], wrapper_class=structlog.make_filtering_bound_logger(0)
        )
        self._stop = stop
        self._stop_when = stop_when
        self._kill_after_s = kill_after_s
        self._stopped = False
        self._loop = asyncio.get_running_loop()
        self._timer: asyncio.TimerHandle | None = None

    def begin(self, cancel: Callable[[str], None], kill: Callable[[], None]) -> None:
        """A run has been made that these end."""
        self._cancel, self._kill = cancel, kill
        if self._stop_when is None and self._stop is not None:
            self._loop.call_soon(self._ask_to_stop)

    async def end(self, task: "asyncio.Task[Ended]") -> Ended:
        """Wait for the run's end."""
        try:
            return await task
        finally:
            if self._timer is not None:
                self._timer.cancel()

    def on_progress(self, progress: Told) -> None:
        self.seen.progress.append(msgspec.json.decode(msgspec.json.encode(progress)))
        self._look()

    def on_checkpoint(self, checkpoint: bytes) -> None:
        self.seen.checkpoint = msgspec.json.decode(checkpoint)
        self._look()

    async def submit(self, kind: str, payload: Any, terms: Terms) -> str:
        """A child that is only written down."""
        seen = msgspec.json.decode(msgspec.json.encode(payload))
        self.seen.submitted.append((kind, seen))
        return new_id()

    def on_frame(self, kind: FrameType, body: bytes) -> None:
        """Something that a CPU-bound function says, from whichever thread."""
        if kind is FrameType.PROGRESS:
            self.on_progress(msgspec.json.decode(body))
        elif kind is FrameType.CHECKPOINT:
            self.on_checkpoint(body)
        elif kind is FrameType.SUBMIT:
            asked = msgspec.json.decode(body, type=Submission)
            self.seen.submitted.append((asked.kind, asked.payload))
        elif kind is FrameType.LOG:
            line = msgspec.json.decode(body, type=LogLine)
            self.seen.logs.append({"event": line.event, "log_level": line.level, **line.fields})

    def judged(self, ended: Ended, kind: Kind, attempt: int) -> KindRun:
        """What a worker would make of it."""
        seen, cut_short = self.seen, ended.interrupted and self._stopped
        seen.error = ended.error
        if ended.result is not None and not ended.interrupted:
            seen.status = JobState.COMPLETED
        elif cut_short and self._stop == "drain":
            seen.status, seen.error = JobState.QUEUED, None
        elif cut_short and self._stop == "cancelled":
            seen.status, seen.error = JobState.CANCELLED, None
        elif cut_short:
            seen.status = JobState.FAILED
            seen.error = JobError("JobTimeout", "ran longer than its timeout")
        elif ended.retryable and attempt < kind.max_attempts:
            seen.status = JobState.SCHEDULED
        else:
            seen.status = JobState.FAILED
        if ended.result is not None and seen.status.finished:
            seen.result = msgspec.json.decode(ended.result)
        return seen

    def _look(self) -> None:
        if self._stop is not None and self._stop_when is not None and self._stop_when(self.seen):
            self._ask_to_stop()

    def _ask_to_stop(self) -> None:
        if self._stopped or self._stop is None:
            return
        self._stopped = True
        self._cancel(self._stop)
        self._loop.call_soon_threadsafe(self._start_clock)

    def _start_clock(self) -> None:
        self._timer = self._loop.call_later(self._kill_after_s, self._kill)

    def _line(self, _logger: WrappedLogger, method: str, line: EventDict) -> EventDict:
        self.seen.logs.append({**line, "log_level": method})
        raise structlog.DropEvent
