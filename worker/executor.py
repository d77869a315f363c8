"""Runs claimed jobs: deadline, cancel, outcome. What it reports counts only under its token."""

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import structlog

from control import logs
from control.backoff import Backoff
from control.errors import StoreUnavailable
from worker.backoff import retry_delay_s
from worker.cpu.process import Ended
from worker.jobs.job import Claim, JobError, JobState, Outcome
from worker.jobs.kinds import Kind, Kinds
from worker.jobs.manager import JobStateManager
from worker.reporter import Reporter
from worker.run import ProcessRun, Run, TaskRun

_NOT_STORED = JobError("NotStored", "Redis does not take the outcome of this job")
LOST = "lost"
"""Why a run is stopped whose job belongs to another worker by now: nothing is reported."""


@dataclass
class Running:
    """A job that this worker runs. ``stopped`` says why it was asked to stop, the first time."""

    claim: Claim
    lane: str
    reporter: Reporter
    run: Run | None = None
    stopped: str | None = None
    task: asyncio.Task[None] | None = field(default=None, repr=False)

    def stop(self, reason: str) -> None:
        """Ask the run to stop; a graver reason overrides a drain."""
        if self.stopped in (None, "drain"):
            self.stopped = reason
            if self.run is not None:
                self.run.kill() if reason == LOST else self.run.cancel(reason)


class Executor:
    """The runs of one worker, by run id."""

    def __init__(
        self, jobs: JobStateManager, kinds: Kinds, *, modules: Sequence[str], memory: int
    ) -> None:
        self._jobs = jobs
        self._kinds = kinds
        self._modules = modules
        self._memory = memory
        self._log = logs.get(__name__)
        self._ended = asyncio.Event()
        self._tells: list[Callable[[], None]] = []
        self.running: dict[str, Running] = {}

    def on_change(self, tell: Callable[[], None]) -> None:
        """Have ``tell`` called whenever a run begins or ends."""
        self._tells.append(tell)

    def start(self, claim: Claim) -> None:
        """Run ``claim``; its outcome is reported when it ends."""
        reporter = Reporter(self._jobs, claim, lambda: self.stop(claim.run_id, LOST))
        running = Running(claim, claim.spec.lane, reporter)
        self.running[claim.run_id] = running
        running.task = asyncio.create_task(self._execute(running), name=f"job {claim.run_id}")
        self._tell()

    def count(self, lane: str) -> int:
        """How many jobs of a lane run."""
        return sum(running.lane == lane for running in self.running.values())

    def stop(self, run_id: str, reason: str) -> None:
        """Stop a run: ``cancelled``, ``timeout``, ``drain`` or :data:`LOST`. Unknown ids pass."""
        if running := self.running.get(run_id):
            running.stop(reason)

    def stop_all(self, reason: str) -> None:
        """Stop every run."""
        for running in list(self.running.values()):
            running.stop(reason)

    def kill_all(self) -> None:
        """End every run now; they are handed back, or reported as what they were stopped for."""
        for running in self.running.values():
            running.stopped = running.stopped or "drain"
            if running.run is not None:
                running.run.kill()

    async def freed(self) -> None:
        """Wait until a run ends."""
        self._ended.clear()
        await self._ended.wait()

    def _tell(self) -> None:
        for tell in self._tells:
            tell()

    async def _execute(self, running: Running) -> None:
        claim = running.claim
        with structlog.contextvars.bound_contextvars(
            run_id=claim.run_id, request_id=claim.spec.correlation_id, kind=claim.spec.kind
        ):
            try:
                self._log.info("job started", attempt=claim.attempt)
                ended = await self._run(running)
                await running.reporter.close()
                await self._conclude(running, ended)
            finally:
                del self.running[claim.run_id]
                self._ended.set()
                self._tell()

    async def _run(self, running: Running) -> Ended:
        claim = running.claim
        kind = self._kinds.get(claim.spec.kind)
        if kind is None:
            message = f"this worker knows no kind {claim.spec.kind!r}; see DRAWBRIDGE_JOBS"
            return Ended(None, JobError("UnknownKind", message), retryable=True, interrupted=False)
        try:
            running.run = self._make(claim, kind, running.reporter)
            if running.stopped:
                running.run.cancel(running.stopped)
            timeout_s = claim.spec.timeout_s or kind.timeout_s
            work = asyncio.create_task(running.run.run())
            done, _ = await asyncio.wait([work], timeout=timeout_s)
            if not done:
                running.stop("timeout")
            return await work
        except Exception as error:
            # Ours, not the job's: it must not take the worker or its other jobs along.
            self._log.exception("run failed")
            told = JobError("InternalError", f"the worker failed to run it: {type(error).__name__}")
            return Ended(None, told, retryable=True, interrupted=False)

    def _make(self, claim: Claim, kind: Kind, reporter: Reporter) -> Run:
        if kind.cpu:
            return ProcessRun(claim, self._modules, self._memory, reporter, self._log)
        return TaskRun(claim, kind, reporter, self._log)

    async def _conclude(self, running: Running, ended: Ended) -> None:
        """Report how it ended, however long Redis stays away."""
        pause = Backoff()
        outcome = self._outcome(running, ended)
        while running.stopped != LOST:
            try:
                if outcome is not None:
                    held = await self._jobs.finish(outcome)
                else:
                    given = (running.claim.run_id, running.claim.token, running.reporter.checkpoint)
                    held = (await self._jobs.requeue([given], drained=True))[0]
            except StoreUnavailable as error:
                self._log.warning("outcome waits", reason=error.reason)
                await pause.wait()
                continue
            except Exception:
                # Not an outage: Redis takes this outcome at no time, so tell it that instead.
                self._log.exception("outcome cannot be stored")
                if outcome is not None and outcome.error == _NOT_STORED:
                    return
                outcome = Outcome(
                    run_id=running.claim.run_id,
                    token=running.claim.token,
                    status=JobState.FAILED,
                    error=_NOT_STORED,
                )
                continue
            status = outcome.status.value if outcome else "handed back"
            self._log.info("job ended" if held else "outcome refused", status=status)
            return
        self._log.info("job abandoned", why="it belongs to another worker")

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
            kind = self._kinds.get(claim.spec.kind)
            limit = claim.spec.timeout_s or (kind.timeout_s if kind else None) or 0
            status = JobState.FAILED
            error = JobError("JobTimeout", f"ran longer than its timeout of {limit:g} s")
        elif ended.retryable and claim.attempt < claim.spec.max_attempts:
            status = JobState.SCHEDULED
            retry_in_ms = int(retry_delay_s(claim.attempt) * 1000)
        else:
            status = JobState.FAILED
        return Outcome(
            run_id=claim.run_id,
            token=claim.token,
            status=status,
            result=ended.result if status.finished else None,
            error=None if completed else error,
            progress=running.reporter.progress,
            retry_in_ms=retry_in_ms,
        )
