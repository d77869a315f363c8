"""Runs claimed jobs: deadline, cancel, outcome. What it reports counts only under its token."""

import asyncio
import logging
from collections import Counter
from collections.abc import Callable, Sequence
from functools import partial
from typing import TYPE_CHECKING

from control import logs
from worker.backoff import retry_delay_s
from worker.children import Children
from worker.cpu.frames import GraphAccess
from worker.cpu.process import Ended
from worker.jobs.job import Claim, JobError, JobState, Outcome
from worker.jobs.kinds import Kind, Kinds
from worker.jobs.manager import JobStateManager
from worker.outbox import Outbox
from worker.reporter import Reporter
from worker.run import ProcessRun, Run, TaskRun

if TYPE_CHECKING:
    from control.tracing.spans import Span, Tracing

LOST = "lost"
"""Why a run is stopped whose job belongs to another worker by now: nothing is reported."""

_STOPPED = Ended(None, JobError("Cancelled", "was stopped"), retryable=False, interrupted=True)


class Running:
    """A job that this worker runs, until Redis has its outcome. ``stopped`` says why it was asked
    to stop, the first time."""

    __slots__ = (
        "began", "claim", "kind", "outcome", "reporter", "run", "span", "stopped", "timer",
        "took_s",
    )  # fmt: skip

    def __init__(self, jobs: JobStateManager, claim: Claim, kind: Kind | None) -> None:
        self.claim = claim
        self.kind = kind
        self.reporter = Reporter(jobs, claim, self.lose)
        self.run: Run | None = None
        self.timer: asyncio.TimerHandle | None = None
        self.stopped: str | None = None
        self.began = asyncio.get_running_loop().time()
        self.took_s = 0.0
        self.span: Span | None = None
        self.outcome: Outcome | None = None

    @property
    def timeout_s(self) -> float | None:
        """How long it may run."""
        return self.claim.spec.timeout_s or (self.kind.timeout_s if self.kind else None)

    @property
    def lost(self) -> bool:
        """Whether the job belongs to another worker by now."""
        return self.stopped == LOST

    @property
    def checkpoint(self) -> bytes | None:
        """Where the next run may go on."""
        return self.reporter.checkpoint

    def stop(self, reason: str) -> None:
        """Ask the run to stop; a graver reason overrides a drain."""
        if self.stopped in (None, "drain"):
            self.stopped = reason
            if self.run is not None:
                self.run.kill() if reason == LOST else self.run.cancel(reason)

    def lose(self) -> None:
        """Stop it, because the job belongs to another worker."""
        self.stop(LOST)

    def kill(self) -> None:
        """End it now."""
        self.stopped = self.stopped or "drain"
        if self.run is not None:
            self.run.kill()


class Executor:
    """The runs of one worker, by run id."""

    def __init__(
        self,
        jobs: JobStateManager,
        kinds: Kinds,
        *,
        modules: Sequence[str],
        memory: int,
        graph: GraphAccess | None = None,
        tracing: "Tracing | None" = None,
    ) -> None:
        self._jobs = jobs
        self._kinds = kinds
        self._modules = modules
        self._memory = memory
        self._graph = graph
        self._tracing = tracing
        # What one shard does not take must not hold up what the others would.
        self._outboxes = [Outbox(jobs, self._sent) for _ in jobs.shards]
        self._executing: Counter[str] = Counter()
        self._log = logs.get(__name__)
        self._debugs = logging.getLogger(__name__)
        self._tells: list[Callable[[], None]] = []
        self._telling = False
        self._on_end: list[Callable[[str, str, float], None]] = []
        self.running: dict[str, Running] = {}

    def on_change(self, tell: Callable[[], None]) -> None:
        """Have ``tell`` called soon after runs began or ended."""
        self._tells.append(tell)

    def on_end(self, tell: Callable[[str, str, float], None]) -> None:
        """Have ``tell(kind, outcome, seconds)`` called for each run, once its outcome is settled:
        a final status, ``retried``, ``handed back``, or ``refused`` where the job had another
        holder by then."""
        self._on_end.append(tell)

    def start(self, claim: Claim) -> None:
        """Run ``claim``; its outcome is reported when it ends."""
        kind = self._kinds.get(claim.spec.kind)
        running = Running(self._jobs, claim, kind)
        self.running[claim.run_id] = running
        self._executing[claim.spec.lane] += 1
        if self._tracing is not None:
            running.span = self._begun(self._tracing, claim)
        if kind is None:
            message = f"this worker knows no kind {claim.spec.kind!r}; see DRAWBRIDGE_JOBS"
            self._end(running, Ended(None, JobError("UnknownKind", message), retryable=True))
            return
        self._say("job started", running, ordinary=True, attempt=claim.attempt)
        reporter, submit = running.reporter, Children(self._jobs, self._kinds, claim)
        try:
            if kind.cpu:
                running.run = ProcessRun(
                    claim,
                    self._modules,
                    self._memory,
                    reporter,
                    self._log,
                    submit=submit,
                    graph=self._graph if kind.graph else None,
                    span=running.span,
                )
            else:
                running.run = TaskRun(
                    claim,
                    kind,
                    reporter,
                    self._log,
                    submit=submit,
                    on_deaf=partial(self._leave, running),
                )
        except Exception as error:
            self._end(running, self._internal(running, error))
            return
        loop = asyncio.get_running_loop()
        within = running.span.context() if running.span else None
        running.run.task = loop.create_task(running.run.run(), context=within)
        self._tell_soon()  # after the job's first step
        running.run.task.add_done_callback(lambda task: self._ended(running, task))
        if running.timeout_s:
            running.timer = loop.call_later(running.timeout_s, running.stop, "timeout")

    def count(self, lane: str) -> int:
        """How many slots of a lane are taken: by what runs, not by outcomes on their way."""
        return self._executing[lane]

    @property
    def unsent(self) -> int:
        """How many outcomes Redis has not taken yet."""
        return sum(map(len, self._outboxes))

    def stop(self, run_id: str, reason: str) -> None:
        """Stop a run: ``cancelled``, ``timeout``, ``drain`` or :data:`LOST`. Unknown ids pass."""
        if running := self.running.get(run_id):
            running.stop(reason)

    def stop_all(self, reason: str) -> None:
        """Stop every run."""
        for run_id in list(self.running):
            self.stop(run_id, reason)

    def held(self, shard: int) -> list[str]:
        """The run ids of those whose jobs belong to a shard."""
        return [run_id for run_id in self.running if self._jobs.shard_of(run_id) == shard]

    def kill_all(self) -> None:
        """End every run now; they are handed back, or reported as what they were stopped for."""
        for running in list(self.running.values()):
            running.kill()

    def _begun(self, tracing: "Tracing", claim: Claim) -> "Span":
        return tracing.begin(
            f"run {claim.spec.kind}",
            "CONSUMER",
            claim.spec.traceparent,
            drawbridge__run_id=claim.run_id,
            drawbridge__attempt=claim.attempt,
        )

    def _tell_soon(self) -> None:
        if not self._telling:
            self._telling = True
            asyncio.get_running_loop().call_soon(self._tell)

    def _tell(self) -> None:
        self._telling = False
        for tell in self._tells:
            tell()

    def _leave(self, running: Running) -> None:
        """End the job without its function, which swallows what is to end it."""
        claim = running.claim
        self._log.error("function does not stop", run_id=claim.run_id, kind=claim.spec.kind)
        self._end(running, _STOPPED)

    def _ended(self, running: Running, task: asyncio.Task[Ended]) -> None:
        if running.run is None:  # the job has ended without it
            return
        if task.cancelled():
            ended = _STOPPED
        elif error := task.exception():
            ended = self._internal(running, error)
        else:
            ended = task.result()
        self._end(running, ended)

    def _internal(self, running: Running, error: BaseException) -> Ended:
        """Ours, not the job's: it must not take the worker or its other jobs along."""
        self._log.error("run failed", run_id=running.claim.run_id, exc_info=error)
        told = JobError("InternalError", f"the worker failed to run it: {type(error).__name__}")
        return Ended(None, told, retryable=True)

    def _end(self, running: Running, ended: Ended) -> None:
        if running.timer is not None:
            running.timer.cancel()
        running.took_s = asyncio.get_running_loop().time() - running.began
        running.reporter.close()
        running.run = None
        self._executing[running.claim.spec.lane] -= 1
        running.outcome = self._outcome(running, ended)
        self._outboxes[self._jobs.shard_of(running.claim.run_id)].add(running)
        self._tell_soon()

    def _sent(self, running: Running, held: bool | None) -> None:
        run_id, outcome = running.claim.run_id, running.outcome
        if self.running.get(run_id) is running:
            del self.running[run_id]
        self._tell_soon()
        word = _word(outcome, held)
        for tell in self._on_end:
            tell(running.kind.name if running.kind else "unknown", word, running.took_s)
        if running.span is not None:
            error = outcome.error if outcome else None
            running.span.end(error.class_ if error else None, drawbridge__outcome=word)
        if held is None:
            self._say("job abandoned", running, lost=running.lost)
            return
        status = outcome.status.value if outcome else "handed back"
        event = "job ended" if held else "outcome refused"
        self._say(event, running, ordinary=held and status == "completed", status=status)

    def _say(
        self, event: str, running: Running, *, ordinary: bool = False, **fields: object
    ) -> None:
        """Log. The ordinary lives of asynchronous jobs are for debugging: they may be thousands."""
        ordinary = ordinary and running.kind is not None and not running.kind.cpu
        if ordinary and not self._debugs.isEnabledFor(logging.DEBUG):
            return
        say, claim = (self._log.debug if ordinary else self._log.info), running.claim
        request_id = claim.spec.correlation_id
        say(event, run_id=claim.run_id, request_id=request_id, kind=claim.spec.kind, **fields)

    def _outcome(self, running: Running, ended: Ended) -> Outcome | None:
        """What to report; ``None`` to hand the job back."""
        claim, error = running.claim, ended.error
        completed = ended.result is not None and not ended.interrupted
        retry_in_ms = 0
        if completed:
            status = JobState.COMPLETED
        elif ended.interrupted and running.stopped == "drain":
            return None
        elif ended.interrupted and running.stopped == "cancelled":
            status, error = JobState.CANCELLED, None
        elif ended.interrupted and running.stopped == "timeout":
            status = JobState.FAILED
            limit = running.timeout_s or 0
            error = JobError("JobTimeout", f"ran longer than its timeout of {limit:g} s")
        elif ended.retryable and claim.attempt < claim.spec.max_attempts:
            status = JobState.SCHEDULED
            wait_s = ended.retry_in_s
            retry_in_ms = int((retry_delay_s(claim.attempt) if wait_s is None else wait_s) * 1000)
        else:
            status = JobState.FAILED
        return Outcome(
            run_id=claim.run_id,
            token=claim.token,
            status=status,
            result=ended.result if status.finished else None,
            error=None if completed else error,
            progress=running.reporter.unsent,
            retry_in_ms=retry_in_ms,
        )


def _word(outcome: Outcome | None, held: bool | None) -> str:
    """How a run ended, in a word of :meth:`Executor.on_end`."""
    if not held:
        return "refused"
    if outcome is None:
        return "handed back"
    return "retried" if outcome.status is JobState.SCHEDULED else outcome.status.value
