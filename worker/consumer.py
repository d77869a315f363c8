"""Claims the jobs of one lane while slots are free, and sleeps on the lane's bell while there are
none to claim: a blocking read, so an idle worker sends a command every few seconds."""

import asyncio
import contextlib
import random
from collections.abc import Callable, Coroutine, Iterator, Mapping
from typing import Any

from redis.asyncio import Redis
from redis.exceptions import ResponseError

from control import cancelling, logs
from control.backoff import Backoff
from control.clock import Clock
from control.errors import BridgeUp, ControlStateStale, StoreUnavailable
from control.stores.wire import Wire
from worker.drain import Drain
from worker.executor import Executor
from worker.jobs.errors import WorkerLost
from worker.jobs.manager import JobStateManager
from worker.leases import Lease
from worker.ramp import Ramp

BELL_WAIT_S = 10.0
"""How long a blocking read lasts. A lost ring of the bell costs less: heartbeats ring again for
what waits."""

MOST_AT_ONCE = 128
SHARE_S = 0.001
"""Within which those wake who share slots."""


class Asked:
    """How many slots of a lane its consumers are asking jobs for, one consumer for each shard."""

    def __init__(self) -> None:
        self.slots = 0
        self.tells: list[Callable[[], None]] = []
        """What those are told by that some may be free again."""

    @contextlib.contextmanager
    def for_(self, count: int) -> Iterator[None]:
        """For the block they are nobody else's."""
        self.slots += count
        try:
            yield
        finally:
            self.slots -= count
            for tell in self.tells:
                tell()


class Consumer:
    """One lane of one worker, in one shard of the jobs. ``bell`` is a client for this consumer's
    blocking reads alone; ``limits`` are how many jobs of a kind the whole fleet runs at once;
    ``asked`` is shared by the consumers of the lane.

    It claims for free slots only, so no job waits in a worker that is busy while another is idle;
    and for half of the slots at a time, so that the next jobs come while these run.
    """

    def __init__(
        self,
        lane: str,
        slots: int,
        *,
        limits: Mapping[str, int],
        worker: str,
        jobs: JobStateManager,
        executor: Executor,
        lease: Lease,
        drain: Drain,
        bell: Redis,
        clock: Clock,
        shard: int = 0,
        asked: "Asked | None" = None,
    ) -> None:
        self._lane = lane
        self._slots = slots
        self._limits = limits
        self._most = min(MOST_AT_ONCE, (slots + 1) // 2)
        self._worker = worker
        self._jobs = jobs
        self._executor = executor
        self._lease = lease
        self._drain = drain
        self._bell = Wire(bell)
        self._shard = shard
        self._bell_key = jobs.shards[shard].keys.bell(lane)
        self._asked = asked or Asked()
        self._listening = False
        self._ramp = Ramp(slots, clock)
        self._changed = asyncio.Event()
        """Set when runs have begun or ended, or the drain's phase has changed."""
        self._asked.tells.append(self._changed.set)
        self._missed = False
        """Whether jobs may have been assigned in an answer that never came."""
        self._pause = Backoff()
        self._log = logs.get(__name__)
        drain.on_resume(self._resume)
        drain.on_progress(self._look_up)

    async def run(self) -> None:
        """Claim for ever, whenever the drain lets it."""
        try:
            while True:
                if self._drain.shut.is_set():
                    await self._sit_out()
                elif not self._lease.held.is_set():
                    await self._unless_turned(self._lease.held.wait())
                elif not self._drain.admits:
                    await self._unless_turned(self._pause.wait())
                elif (free := self._free) <= 0:
                    await self._room()
                elif not await self._claim(min(free, self._most)):
                    await self._listen()
        finally:
            await self._bell.aclose()

    @property
    def _free(self) -> int:
        """Slots that are free; none while Redis takes outcomes more slowly than it gives jobs."""
        if self._executor.unsent > self._slots:
            return 0
        return self._ramp.open - self._executor.count(self._lane) - self._asked.slots

    def _resume(self, again: bool) -> None:
        self._ramp.begin(self._executor.count(self._lane), bit_by_bit=again)
        self._pause.reset()

    def _look_up(self) -> None:
        self._changed.set()
        if self._listening and self._drain.shut.is_set():
            self._bell.drop()

    async def _sit_out(self) -> None:
        """Give back what was assigned but never arrived, then wait until work goes on."""
        if self._missed:
            await self._claim(0)
        else:
            await self._drain.open.wait()

    async def _claim(self, count: int) -> bool:
        """Claim and start up to ``count`` jobs; false where no more wait."""
        try:
            with self._drain.claim():
                found = await self._take(count)
        except BridgeUp:
            pass  # Redis is ahead of what we were told: the news is on its way
        except (ControlStateStale, StoreUnavailable, WorkerLost) as error:
            self._log.info("cannot claim", lane=self._lane, reason=str(error))
            self._missed = self._missed or not isinstance(error, ControlStateStale)
        else:
            self._missed = False
            self._pause.reset()
            return found
        await self._unless_turned(self._pause.wait())
        return True

    async def _take(self, count: int) -> bool:
        known = self._executor.held(self._shard) if self._missed else None
        with self._asked.for_(count):
            claims = await self._jobs.claim(
                self._worker, self._lane, count,
                limits=self._limits, known=known, shard=self._shard,
            )  # fmt: skip
        if self._drain.admits:
            for claim in claims:
                self._executor.start(claim)
            return len(claims) >= count
        # The drain, or a long standstill, overtook the answer: they go back, uncharged.
        if claims:
            given = [(claim.run_id, claim.token, claim.checkpoint) for claim in claims]
            await self._jobs.requeue(given, drained=True)
        return True

    async def _room(self) -> None:
        """Wait until a slot may be free."""
        self._changed.clear()
        timer = None
        if (next_s := self._ramp.next_s) is not None:
            timer = asyncio.get_running_loop().call_later(next_s, self._changed.set)
        try:
            await self._changed.wait()
        finally:
            if timer is not None:
                timer.cancel()
        if len(self._asked.tells) > 1:
            await asyncio.sleep(random.uniform(0, SHARE_S))  # noqa: S311 - lest one is always first

    async def _listen(self) -> None:
        """Sleep until the bell rings, or long enough that one may have been lost."""
        self._listening = True
        try:
            await self._bell("BLPOP", self._bell_key, BELL_WAIT_S, again=False)
        except (StoreUnavailable, ResponseError):
            pass  # the claim that follows tells what is wrong, and waits
        finally:
            self._listening = False

    async def _unless_turned(self, work: Coroutine[Any, Any, Any]) -> None:
        """Wait for ``work``, but no longer than the drain stays as it is."""
        turned = self._drain.open if self._drain.shut.is_set() else self._drain.shut
        waiters = [asyncio.create_task(work), asyncio.create_task(turned.wait())]
        try:
            await asyncio.wait(waiters, return_when=asyncio.FIRST_COMPLETED)
        finally:
            await cancelling.end(*waiters)
