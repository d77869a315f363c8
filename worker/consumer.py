"""Claims the jobs of one lane while slots are free, and sleeps on the lane's bell while there are
none to claim: a blocking read, so an idle worker sends one command every few seconds."""

import asyncio
from typing import Any

from redis.asyncio import Redis
from redis.exceptions import RedisError

from control import cancelling, keys, logs
from control.errors import BridgeUp, StoreUnavailable
from worker.backoff import Backoff
from worker.executor import Executor
from worker.jobs.errors import WorkerLost
from worker.jobs.manager import JobStateManager
from worker.leases import Lease

BELL_WAIT_S = 5.0
"""How long a blocking read lasts; also the longest that a lost ring of the bell can cost."""

MOST_AT_ONCE = 128


class Consumer:
    """One lane of one worker. ``bell`` is a client for this consumer's blocking reads alone."""

    def __init__(
        self,
        lane: str,
        slots: int,
        *,
        worker: str,
        jobs: JobStateManager,
        executor: Executor,
        lease: Lease,
        bell: Redis,
    ) -> None:
        self._lane = lane
        self._slots = slots
        self._worker = worker
        self._jobs = jobs
        self._executor = executor
        self._lease = lease
        self._bell: Any = bell
        self._closed = asyncio.Event()
        self._log = logs.get(__name__)

    def close(self) -> None:
        """Claim nothing more, from this moment on."""
        self._closed.set()

    async def run(self) -> None:
        """Claim until closed; then wait for the end."""
        pause = Backoff()
        known: list[str] | None = None
        while not self._closed.is_set():
            if not self._lease.held.is_set():
                await self._until_closed_or(self._lease.held.wait())
                continue
            free = self._slots - self._executor.count(self._lane)
            if free <= 0:
                await self._until_closed_or(self._executor.freed())
                continue
            try:
                idle = not await self._claim(min(free, MOST_AT_ONCE), known)
                known = None
                pause.reset()
                if idle:
                    await self._until_closed_or(self._listen())
            except BridgeUp:
                await self._until_closed_or(self._listen())
            except (StoreUnavailable, WorkerLost) as error:
                # Jobs may have been assigned in an answer that never came: ask for them.
                self._log.info("cannot claim", lane=self._lane, reason=str(error))
                known = list(self._executor.running)
                await self._until_closed_or(pause.wait())
        await asyncio.Event().wait()

    async def _claim(self, count: int, known: list[str] | None) -> int:
        claims = await self._jobs.claim(self._worker, self._lane, count, known=known)
        if self._closed.is_set():  # the stop overtook the answer: they go back, uncharged
            given = [(claim.run_id, claim.token, claim.checkpoint) for claim in claims]
            if given:
                await self._jobs.requeue(given, drained=True)
            return 0
        for claim in claims:
            self._executor.start(claim)
        return len(claims)

    async def _listen(self) -> None:
        """Sleep until the bell rings, or long enough that one may have been lost."""
        try:
            await self._bell.blpop([keys.bell(self._lane)], timeout=BELL_WAIT_S)
        except (RedisError, OSError):
            pass  # the claim that follows tells what is wrong, and waits
        except asyncio.CancelledError:
            # The read is still under way on its connection: nobody may use that again.
            await asyncio.shield(self._bell.connection_pool.disconnect())
            raise

    async def _until_closed_or(self, event: Any) -> None:
        waiters = [asyncio.ensure_future(event), asyncio.ensure_future(self._closed.wait())]
        try:
            await asyncio.wait(waiters, return_when=asyncio.FIRST_COMPLETED)
        finally:
            await cancelling.end(*waiters)
