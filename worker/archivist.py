"""Brings finished jobs to PostgreSQL, in batches, and removes what is older than is wanted.

Whichever worker has the turn does it. A job waits in Redis until it is stored, so a kill in between
means that it is stored again, which changes nothing; and while PostgreSQL is away it waits there.
"""

import asyncio
import random
from collections.abc import Sequence

from control import logs
from control.backoff import Backoff
from control.clock import Clock
from control.errors import StoreUnavailable
from worker.jobs.archive import Archive, Ended
from worker.jobs.ended import EndedJobs

EVERY_S, IDLE_S = 5.0, 15.0
"""How often it looks while there is something to archive, and while there is not."""

BATCH = 200
_PRUNE_EVERY_S = 3_600.0
_BACKOFF_S = (1.0, 30.0)


class Archivist:
    """``worker`` is who does it; what ended more than ``days`` ago is removed, 0: does nothing."""

    def __init__(
        self, worker: str, ended: EndedJobs, archive: Archive, *, days: int, clock: Clock
    ) -> None:
        self._worker = worker
        self._ended = ended
        self._archive = archive
        self._days = days
        self._clock = clock
        self._prune_at = clock.monotonic()
        self._log = logs.get(__name__)

    async def run(self) -> None:
        """Archive for ever."""
        if not self._days:
            await asyncio.Event().wait()
        pause, told, wait_s = Backoff(*_BACKOFF_S), False, EVERY_S
        while True:
            await asyncio.sleep(wait_s * random.uniform(0.5, 1.0))  # noqa: S311 - jitter
            try:
                wait_s = EVERY_S if await self.turn() else IDLE_S
            except StoreUnavailable as error:
                if not told:
                    self._log.warning("archive waits", reason=str(error))
                told = True
                await pause.wait()
            else:
                pause.reset()
                told = False

    async def turn(self) -> int:
        """Archive all that waits, unless it is another worker's turn; how many jobs were stored.

        Raises :class:`StoreUnavailable`.
        """
        count, left = 0, 1
        while left:
            batch = await self._ended.next(self._worker, BATCH)
            if batch is None:
                return count
            if not batch:
                break
            count += await self._store([each.job for each in batch if each.job is not None])
            left = await self._ended.archived(batch)
        if count:
            self._log.debug("archived", count=count)
        await self._prune()
        return count

    async def _store(self, jobs: Sequence[Ended]) -> int:
        """Store them; one that PostgreSQL will never take is left out."""
        try:
            await self._archive.store(jobs)
        except StoreUnavailable:
            raise
        except Exception:
            if len(jobs) == 1:
                self._log.exception("job cannot be archived", run_id=jobs[0].record.run_id)
                return 0
            return sum([await self._store([job]) for job in jobs])
        return len(jobs)

    async def _prune(self) -> None:
        if self._clock.monotonic() < self._prune_at:
            return
        removed = 0
        while some := await self._archive.prune(self._days):
            removed += some
        self._prune_at = self._clock.monotonic() + _PRUNE_EVERY_S
        if removed:
            self._log.info("archive pruned", count=removed)
