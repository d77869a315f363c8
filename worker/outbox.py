"""Outcomes on their way to Redis: what ends at the same time goes in one call, and waits for as
long as Redis stays away."""

import asyncio
from collections import deque
from collections.abc import Callable, Sequence
from typing import Generic, Protocol, TypeVar

from control import logs
from control.backoff import Backoff
from control.errors import StoreUnavailable
from worker.jobs.job import Claim, JobError, JobState, Outcome
from worker.jobs.manager import JobStateManager

_NOT_STORED = JobError("NotStored", "Redis does not take the outcome of this job")
_MOST, _HEAVIEST = 256, 8 << 20


class Letter(Protocol):
    """A run that has ended, as far as the outbox needs to know it."""

    claim: Claim
    outcome: Outcome | None
    """``None`` hands the job back."""

    @property
    def lost(self) -> bool:
        """Whether the job belongs to another worker by now: nothing is to be said of it."""
        ...

    @property
    def checkpoint(self) -> bytes | None:
        """Where the next run may go on."""
        ...


L = TypeVar("L", bound=Letter)


class Outbox(Generic[L]):
    """``sent`` is called for each run once Redis has its outcome (true), has refused it (false), or
    it was given up (``None``)."""

    def __init__(self, jobs: JobStateManager, sent: Callable[[L, bool | None], None]) -> None:
        self._jobs = jobs
        self._sent = sent
        self._waiting: deque[L] = deque()
        self._sender: asyncio.Task[None] | None = None
        self._log = logs.get(__name__)

    def __len__(self) -> int:
        return len(self._waiting)

    def add(self, letter: L) -> None:
        """Report how a run ended."""
        self._waiting.append(letter)
        if self._sender is None:
            self._sender = asyncio.create_task(self._send_all(), name="outbox")

    async def _send_all(self) -> None:
        try:
            while self._waiting:
                await self._deliver(self._next())
        finally:
            self._sender = None

    def _next(self) -> list[L]:
        """The next batch: outcomes alone, or jobs to hand back alone."""
        first = self._waiting.popleft()
        batch, weight = [first], _weight(first)
        back = first.outcome is None
        while self._waiting and len(batch) < _MOST and weight < _HEAVIEST:
            if (self._waiting[0].outcome is None) is not back:
                break
            batch.append(self._waiting.popleft())
            weight += _weight(batch[-1])
        return batch

    async def _deliver(self, batch: list[L]) -> None:
        """Tell Redis, however long it stays away."""
        pause = Backoff()
        told = False
        while True:
            for letter in [letter for letter in batch if letter.lost]:
                batch.remove(letter)
                self._sent(letter, None)
            if not batch:
                return
            try:
                answers = await self._tell(batch)
            except StoreUnavailable as error:
                if not told:
                    for letter in batch:
                        run_id = letter.claim.run_id
                        self._log.warning("outcome waits", run_id=run_id, reason=error.reason)
                told = True
                await pause.wait()
                continue
            except Exception:
                # Not an outage: Redis takes one of these at no time. Find out which.
                if len(batch) > 1:
                    for letter in batch:
                        await self._deliver([letter])
                    return
                if not self._replaced(batch[0]):
                    self._sent(batch[0], None)
                    return
                continue
            for letter, held in zip(batch, answers, strict=True):
                self._sent(letter, held)
            return

    async def _tell(self, batch: Sequence[L]) -> list[bool]:
        outcomes = [letter.outcome for letter in batch if letter.outcome is not None]
        if outcomes:
            return await self._jobs.finish_all(outcomes)
        given = [(each.claim.run_id, each.claim.token, each.checkpoint) for each in batch]
        return await self._jobs.requeue(given, drained=True)

    def _replaced(self, letter: L) -> bool:
        """Report that an outcome cannot be reported in its place; false where it was that."""
        claim, outcome = letter.claim, letter.outcome
        self._log.exception("outcome cannot be stored", run_id=claim.run_id)
        if outcome is not None and outcome.error == _NOT_STORED:
            return False
        letter.outcome = Outcome(
            run_id=claim.run_id, token=claim.token, status=JobState.FAILED, error=_NOT_STORED
        )
        return True


def _weight(letter: Letter) -> int:
    outcome = letter.outcome
    return len(outcome.result or b"") if outcome else len(letter.checkpoint or b"")
