"""Carries a running job's progress and checkpoints to Redis; the newest of each wins."""

import asyncio
from collections.abc import Callable

from control import logs
from control.backoff import Backoff
from control.errors import StoreUnavailable
from worker.jobs.job import Claim, Progress, Told
from worker.jobs.manager import JobStateManager

_log = logs.get(__name__)


class Reporter:
    """One for each run. ``on_stale`` is called when the run turns out to belong to another."""

    __slots__ = (
        "_claim", "_jobs", "_on_stale", "_sender", "_waiting", "checkpoint", "unsent",
    )  # fmt: skip

    def __init__(self, jobs: JobStateManager, claim: Claim, on_stale: Callable[[], None]) -> None:
        self._jobs = jobs
        self._claim = claim
        self._on_stale = on_stale
        self._waiting: tuple[Told | None, bytes | None] = (None, None)
        self._sender: asyncio.Task[None] | None = None
        self.unsent: Told | None = None
        """The newest progress, if it is not known to have arrived."""
        self.checkpoint = claim.checkpoint
        """The newest checkpoint, sent or not."""

    def on_progress(self, progress: Told) -> None:
        """Send ``progress`` as soon as what is under way has arrived."""
        self.unsent = progress
        self._send(progress, None)

    def on_checkpoint(self, checkpoint: bytes) -> None:
        """Send ``checkpoint`` likewise."""
        self.checkpoint = checkpoint
        self._send(None, checkpoint)

    def close(self) -> None:
        """Stop sending; what was not sent is in :attr:`unsent` and :attr:`checkpoint`."""
        if self._sender is not None:
            self._sender.cancel()
        self._on_stale = _nobody  # no circle is left for the collector

    def _send(self, progress: Told | None, checkpoint: bytes | None) -> None:
        before = self._waiting
        self._waiting = (progress or before[0], checkpoint or before[1])
        if self._sender is None or self._sender.done():
            self._sender = asyncio.create_task(self._send_all())

    async def _send_all(self) -> None:
        pause, told = Backoff(), False
        while self._waiting != (None, None):
            (progress, checkpoint), self._waiting = self._waiting, (None, None)
            report = Progress(self._claim.run_id, self._claim.token, progress, checkpoint)
            try:
                if not await self._jobs.report(report):
                    self._on_stale()
                    return
            except Exception as error:
                if not isinstance(error, StoreUnavailable) and not told:
                    _log.exception("a report is not taken", run_id=report.run_id)
                    told = True
                newer = self._waiting
                self._waiting = (newer[0] or progress, newer[1] or checkpoint)
                await pause.wait()
            else:
                if progress is self.unsent:
                    self.unsent = None


def _nobody() -> None:
    """Whom a run that has ended tells."""
