"""One run of a claimed job: in a process of its own, or as a task on the loop."""

import asyncio
import contextlib
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Protocol

import msgspec
from structlog.contextvars import bind_contextvars

from control import cancelling
from control.errors import InvalidInput
from control.logs import Logger
from worker import telling
from worker.context import PASSING, JobContext, Submit
from worker.cpu.frames import GraphAccess
from worker.cpu.process import CpuProcess, Ended
from worker.jobs.job import Claim, JobError
from worker.jobs.kinds import Kind
from worker.reporter import Reporter

if TYPE_CHECKING:
    from control.tracing.spans import Span

DEAF_S = 2.0
"""How long an asynchronous function may go on after it was cancelled, to clean up after itself."""

_LONGEST_WAIT_S = 366 * 86_400
_STOPPED = Ended(None, JobError("Cancelled", "was stopped"), retryable=False, interrupted=True)
_encode = msgspec.json.Encoder().encode


class Run(Protocol):
    """What the executor needs of either way to run a job."""

    async def run(self) -> Ended:
        """Run to the end, whatever it is; the executor makes one task of it and sets ``task``."""
        ...

    task: asyncio.Task[Ended] | None

    def cancel(self, reason: str) -> None:
        """Ask it to stop: ``cancelled`` and ``timeout`` within a second, ``drain`` when it can."""
        ...

    def kill(self) -> None:
        """End it now."""
        ...


class ProcessRun:
    """A CPU-bound kind, in a process of its own."""

    task: asyncio.Task[Ended] | None = None

    def __init__(
        self,
        claim: Claim,
        modules: Sequence[str],
        memory: int,
        reporter: Reporter,
        log: Logger,
        *,
        submit: Submit,
        graph: GraphAccess | None = None,
        span: "Span | None" = None,
    ) -> None:
        self._claim = claim
        self._span = span
        self._process = CpuProcess(
            claim.spec.kind,
            modules,
            memory=memory,
            graph=graph,
            on_progress=reporter.on_progress,
            on_checkpoint=reporter.on_checkpoint,
            on_submit=submit,
            log=log,
        )

    async def run(self) -> Ended:
        claim = self._claim
        _bind(claim)
        with self._span.below("process") if self._span else contextlib.nullcontext() as span:
            return await self._process.run(
                run_id=claim.run_id,
                attempt=claim.attempt,
                correlation_id=claim.spec.correlation_id,
                traceparent=span.traceparent if span else claim.spec.traceparent,
                payload=claim.payload,
                checkpoint=claim.checkpoint,
            )

    def cancel(self, reason: str) -> None:
        self._process.cancel(reason)

    def kill(self) -> None:
        self._process.kill()


class TaskRun:
    """An asynchronous kind, as a task on the worker's loop.

    Nothing but its own code can end a task. ``on_deaf`` is called where it has not ended
    :data:`DEAF_S` after it was cancelled, and cancelled again: the job is to end without it.
    """

    task: asyncio.Task[Ended] | None = None

    def __init__(
        self,
        claim: Claim,
        kind: Kind,
        reporter: Reporter,
        log: Logger,
        *,
        submit: Submit,
        on_deaf: Callable[[], None] = lambda: None,
    ) -> None:
        self._claim = claim
        self._kind = kind
        self._log = log
        self._on_deaf = on_deaf
        self._stopped = False
        self._ending: asyncio.Task[None] | None = None
        restored = claim.checkpoint
        self._context = JobContext(
            run_id=claim.run_id,
            attempt=claim.attempt,
            correlation_id=claim.spec.correlation_id,
            restored=None if restored is None else msgspec.json.decode(restored),
            log=log,
            resources=kind.resources,
            on_progress=reporter.on_progress,
            on_checkpoint=reporter.on_checkpoint,
            submit=submit,
        )

    async def run(self) -> Ended:
        _bind(self._claim)
        try:
            payload = self._kind.decode(self._claim.payload)
            result = _encode(await self._kind.run(self._context, payload))
        except asyncio.CancelledError:
            return _STOPPED
        except BaseException as error:  # SystemExit and KeyboardInterrupt would end the worker
            return self._failed(error)
        interrupted = self._stopped and self._context.draining
        return Ended(result, None, retryable=False, interrupted=interrupted)

    def cancel(self, reason: str) -> None:
        self._context.cancel_reason = reason
        if reason == "drain":
            self._context.draining = True
        else:
            self.kill()

    def kill(self) -> None:
        self._stopped = True
        if self.task is not None and self._ending is None:
            self._ending = asyncio.create_task(self._end(self.task))

    async def _end(self, task: asyncio.Task[Ended]) -> None:
        ending = asyncio.create_task(cancelling.end(task, again_s=1.0))
        await asyncio.wait((ending,), timeout=DEAF_S)
        if not task.done():
            self._on_deaf()
        await ending

    def _failed(self, error: BaseException) -> Ended:
        if not isinstance(error, InvalidInput):
            self._log.warning("job raised", exc_info=error)
        told = JobError(type(error).__name__, telling.message(error))
        retryable = isinstance(error, (*self._kind.retry_on, *PASSING))
        return Ended(None, told, retryable=retryable, retry_in_s=_stated_wait_s(error))


def _stated_wait_s(error: BaseException) -> float | None:
    """When the error itself says that another attempt may be made."""
    stated = getattr(error, "retry_in_s", None)
    return stated if isinstance(stated, int | float) and 0 <= stated <= _LONGEST_WAIT_S else None


def _bind(claim: Claim) -> None:
    """Put the job's ids on every line that is logged in this task."""
    spec = claim.spec
    bind_contextvars(run_id=claim.run_id, request_id=spec.correlation_id, kind=spec.kind)
