"""Keeps ``app_data_ingestion`` on while data are being ingested, and only then.

PostgreSQL knows which uploads are under way, and an advisory lock puts "one begins, so it goes on"
and "the last one has ended, so it goes off" in one order, over the whole fleet. An upload whose
worker died stays under way until its job has run again. Where a job ends without a worker that
could say so (its attempts are used up, it was cancelled in the queue), the workers notice.

Operators may flip the flag meanwhile: that starts and stops nothing.
"""

import asyncio
import contextlib
from collections.abc import AsyncIterator

from control import logs, sql
from control.errors import StoreUnavailable
from control.flags import commands
from control.flags.document import INGESTION
from control.flags.outcome import Verdict
from control.flags.plane import ControlPlane
from control.stores.postgres import Database
from worker.jobs.manager import JobStateManager

ACTOR = "drawbridge"
LOOK_S = 5.0
"""How often workers look whether what is under way still is, while the flag is on."""

_LOCK = 0x696E_6765_7374
"""Key of the advisory lock: the letters "ingest"."""

_LOCK_S = 10.0


class Lamp:
    """The flag, as the ingesting jobs of all workers steer it.

    Methods raise :class:`control.errors.StoreUnavailable` where PostgreSQL is away.
    """

    def __init__(self, database: Database, plane: ControlPlane, jobs: JobStateManager) -> None:
        self._database = database
        self._plane = plane
        self._jobs = jobs
        self._queries = sql.queries("uploads")
        self._turn = asyncio.Lock()  # one connection of the pool at most waits for the other lock
        self._log = logs.get(__name__)

    async def begin(self, run_id: str, attempt: int) -> bool:
        """The job has begun: the flag is on when this returns. ``False`` where there is no such
        upload, or a later attempt has begun."""
        async with self._alone():
            begun = await self._database.fetch(self._queries["begin"], run_id, attempt)
            if begun:
                await self._set(True, f"ingest {run_id}")
        return bool(begun)

    async def end(self, run_id: str, attempt: int) -> None:
        """The job has ended, unless a later attempt is under way; the last one turns it off."""
        async with self._alone():
            await self._database.execute(self._queries["end"], run_id, attempt)
            await self._off_if_last()

    async def run(self) -> None:
        """Look after jobs that ended without a word, for ever."""
        while True:
            await asyncio.sleep(LOOK_S)
            try:
                await self.look()
            except StoreUnavailable as error:
                self._log.debug("ingestion not looked at", reason=error.reason)

    async def look(self) -> None:
        """Turn the flag off where it is on for jobs that are under way no more."""
        flag = self._plane.replica.document.flags.get(INGESTION)
        if flag is None or not flag.is_active:
            return
        running = await self._database.fetch(self._queries["running"])
        over = [row for row in running if await self._is_over(row["run_id"])]
        for row in over:
            self._log.info("ingestion ended without a word", run_id=row["run_id"])
            await self.end(row["run_id"], row["attempt"])
        if not running and flag.changed_by == ACTOR:
            async with self._alone():
                await self._off_if_last()

    async def _is_over(self, run_id: str) -> bool:
        record = await self._jobs.get_job(run_id)
        return record is None or record.status.finished

    async def _off_if_last(self) -> None:
        if not await self._database.fetch(self._queries["running"]):
            await self._set(False, "nothing is being ingested")

    async def _set(self, value: bool, reason: str) -> None:
        if (await self._plane.ledger.read()).is_active(INGESTION) is value:
            return
        command = commands.new("set", INGESTION, value=value, actor=ACTOR, reason=reason)
        outcome = await self._plane.change(command, internal=True)
        if outcome.verdict is Verdict.UNAVAILABLE:
            raise StoreUnavailable("database", "the flag could not be changed")

    @contextlib.asynccontextmanager
    async def _alone(self) -> AsyncIterator[None]:
        async with self._turn, self._database.session() as connection:
            await connection.execute(self._queries["lock"], _LOCK, timeout=_LOCK_S)
            try:
                yield
            finally:
                await connection.execute(self._queries["unlock"], _LOCK)
