"""Claims the jobs of one lane while slots are free, and sleeps on the lane's bell while there are
none to claim: a blocking read, so an idle worker sends one command every few seconds."""

import asyncio
import contextlib
from collections.abc import Coroutine
from typing import Any

from redis.asyncio import Redis
from redis.exceptions import RedisError

from control import cancelling, keys, logs
from control.backoff import Backoff
from control.clock import Clock
from control.errors import BridgeUp, ControlStateStale, StoreUnavailable
from worker.drain import Drain
from worker.executor import Executor
from worker.jobs.errors import WorkerLost
from worker.jobs.manager import JobStateManager
from worker.leases import Lease
from worker.ramp import Ramp

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
        drain: Drain,
        bell: Redis,
        clock: Clock,
    ) -> None:
        self._lane = lane
        self._worker = worker
        self._jobs = jobs
        self._executor = executor
        self._lease = lease
        self._drain = drain
        self._bell: Any = bell
        self._ramp = Ramp(slots, clock)
        self._missed = False
        """Whether jobs may have been assigned in an answer that never came."""
        self._pause = Backoff()
        self._log = logs.get(__name__)
        drain.on_resume(self._resume)

    async def run(self) -> None:
        """Claim for ever, whenever the drain lets it."""
        while True:
            if self._drain.shut.is_set():
                await self._sit_out()
            elif not self._lease.held.is_set():
                await self._unless_turned(self._lease.held.wait())
            elif not self._drain.admits:
                await self._unless_turned(self._pause.wait())
            elif (free := self._ramp.open - self._executor.count(self._lane)) <= 0:
                await self._unless_turned(self._room())
            elif not await self._claim(min(free, MOST_AT_ONCE)):
                await self._unless_turned(self._listen())

    def _resume(self) -> None:
        self._ramp.begin(self._executor.count(self._lane))
        self._pause.reset()

    async def _sit_out(self) -> None:
        """Give back what was assigned but never arrived, then wait until work goes on."""
        if self._missed:
            await self._claim(0)
        else:
            await self._drain.open.wait()

    async def _claim(self, count: int) -> bool:
        """Claim and start up to ``count`` jobs; false where there are none, as far as we know."""
        try:
            with self._drain.claim():
                found = await self._take(count)
        except BridgeUp:
            pass  # Redis is ahead of what we were told: the news is on its way
        except ControlStateStale as error:
            self._log.info("cannot claim", lane=self._lane, reason=str(error))
        except (StoreUnavailable, WorkerLost) as error:
            self._log.info("cannot claim", lane=self._lane, reason=str(error))
            self._missed = True
        else:
            self._missed = False
            self._pause.reset()
            return found
        await self._unless_turned(self._pause.wait())
        return True

    async def _take(self, count: int) -> bool:
        known = list(self._executor.running) if self._missed else None
        claims = await self._jobs.claim(self._worker, self._lane, count, known=known)
        if self._drain.admits:
            for claim in claims:
                self._executor.start(claim)
            return bool(claims)
        # The drain, or a long standstill, overtook the answer: they go back, uncharged.
        if claims:
            given = [(claim.run_id, claim.token, claim.checkpoint) for claim in claims]
            await self._jobs.requeue(given, drained=True)
        return True

    async def _room(self) -> None:
        """Wait until a slot may be free."""
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(self._executor.freed(), self._ramp.next_s)

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

    async def _unless_turned(self, work: Coroutine[Any, Any, Any]) -> None:
        """Wait for ``work``, but no longer than the drain stays as it is."""
        turned = self._drain.open if self._drain.shut.is_set() else self._drain.shut
        waiters = [asyncio.create_task(work), asyncio.create_task(turned.wait())]
        try:
            await asyncio.wait(waiters, return_when=asyncio.FIRST_COMPLETED)
        finally:
            await cancelling.end(*waiters)
