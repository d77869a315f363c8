"""Claims the jobs of one lane while slots are free, and sleeps while there are none to claim: with
the claim that finds none it offers to take the next one, and is called when that comes."""

import asyncio
import contextlib
import random
from collections.abc import Awaitable, Callable, Coroutine, Iterator, Mapping
from functools import partial
from typing import Any

from control import cancelling, logs
from control.backoff import Backoff
from control.clock import Clock
from control.errors import BridgeUp, ControlStateStale, StoreUnavailable
from control.subscriber import Listener, Subscriber
from worker.drain import Drain
from worker.executor import Executor
from worker.jobs import stored
from worker.jobs.errors import WorkerLost
from worker.jobs.job import Ask, Claim
from worker.jobs.manager import JobStateManager
from worker.leases import Lease
from worker.ramp import Ramp

CALL_WAIT_S = 10.0
"""After which an offer is made anew. A call that went to a worker that stands still costs less:
heartbeats call another one for what waits."""

CALL_GOOD_S = 3.0
"""A call that may be older starts nothing: others take a job that did not come, a second later."""

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
    """One lane of one worker, in one shard of the jobs. ``limits`` are how many jobs of a kind the
    whole fleet runs at once; ``asked`` is shared by the consumers of the lane.

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
        self._shard = shard
        # Where consumers share the slots, one may be taken by the time a job is brought.
        self._direct = len(jobs.shards) == 1
        self._asked = asked or Asked()
        self._number = 0
        self._offer = 0
        """The number of the offer that may stand; 0 where none does."""
        self._called = asyncio.Event()
        self._subscriber: Subscriber | None = None
        self._clock = clock
        self._came: Claim | None = None
        """The job that a call brought, until Redis has been told that it came."""
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
        lease.on_loss(self._lose)

    async def listen(self, subscriber: Subscriber) -> None:
        """Hear when it is called; after a gap, look."""
        self._subscriber = subscriber
        channel = self._jobs.shards[self._shard].keys.call_channel(self._lane, self._worker)
        await subscriber.add(channel, Listener(self._hear, self._look), wait_s=0)

    async def run(self) -> None:
        """Claim for ever, whenever the drain lets it."""
        while True:
            if count := self._wanted:
                if not await self._claim(count):
                    await self._wait()
            elif self._came:
                await self._carefully(self._say_came)
            elif self._drain.shut.is_set():
                await self._sit_out()
            elif not self._lease.held.is_set():
                await self._unless_turned(self._lease.held.wait())
            elif not self._drain.admits:
                await self._unless_turned(self._pause.wait())
            else:
                await self._room()

    @property
    def _wanted(self) -> int:
        """How many jobs to claim now; none while Redis takes outcomes more slowly than it gives
        jobs."""
        if not (self._lease.held.is_set() and self._drain.admits):
            return 0
        if self._executor.unsent > self._slots:
            return 0
        free = self._ramp.open - self._executor.count(self._lane) - self._asked.slots
        return max(0, min(free, self._most))

    def _resume(self, again: bool) -> None:
        self._ramp.begin(self._executor.count(self._lane), bit_by_bit=again)
        self._pause.reset()

    def _look_up(self) -> None:
        self._changed.set()
        if self._drain.shut.is_set():
            self._called.set()

    def _lose(self) -> None:
        self._came = None
        self._called.set()

    async def _look(self) -> None:
        self._called.set()

    def _hear(self, message: bytes) -> None:
        """Start the job that a call brings: here, because each further step costs it time."""
        try:
            number, claim = stored.call(message)
        except ValueError:  # the next claim brings it, or tells what is wrong with it
            number, claim, self._missed = self._offer, None, True
        if number != self._offer:
            return  # that one was withdrawn
        self._offer = 0
        if claim is not None:
            if self._drain.admits and self._timely:
                self._came = claim
                self._executor.start(claim)
            else:
                self._missed = True
        self._called.set()  # what that wakes runs after the job's first step

    @property
    def _timely(self) -> bool:
        """Whether a call that is heard now is a fresh one: it was made later than the newest PING
        that has been answered before it."""
        asked_at = self._subscriber.fresh_at if self._subscriber else None
        return asked_at is not None and self._clock.monotonic() - asked_at <= CALL_GOOD_S

    async def _sit_out(self) -> None:
        """Withdraw the offer and give back what was assigned but never arrived, then wait until
        work goes on."""
        if self._missed or self._offer:
            await self._carefully(self._withdraw)
        else:
            await self._drain.open.wait()

    async def _claim(self, count: int) -> bool:
        """Claim and start up to ``count`` jobs; false where no more wait."""
        return await self._carefully(partial(self._take, count))

    async def _carefully(self, ask: Callable[[], Awaitable[bool]]) -> bool:
        """Ask something of Redis, after which the worker is at rest again; its answer. Where that
        fails, pause; true then."""
        try:
            with self._drain.claim():
                answer = await ask()
        except BridgeUp:
            pass  # Redis is ahead of what we were told: the news is on its way
        except (ControlStateStale, StoreUnavailable, WorkerLost) as error:
            self._log.info("cannot claim", lane=self._lane, reason=str(error))
            self._missed = self._missed or not isinstance(error, ControlStateStale)
        else:
            self._pause.reset()
            return answer
        await self._unless_turned(self._pause.wait())
        return True

    async def _take(self, count: int) -> bool:
        known = self._executor.held(self._shard) if self._missed or self._offer else None
        self._missed = False
        self._called.clear()
        self._number += 1
        self._offer = number = self._number
        with self._asked.for_(count):
            ask = Ask(
                worker=self._worker, lane=self._lane, count=count, limits=self._limits, known=known,
                offer=number, direct=self._direct, came=self._came,
            )  # fmt: skip
            claims, stands = await self._jobs.claim_or_wait(ask, shard=self._shard)
        if self._came is ask.came:
            self._came = None
        if not stands and self._offer == number:
            self._offer = 0
        if self._drain.admits:
            for claim in claims:
                self._executor.start(claim)
            return not stands
        # The drain, or a long standstill, overtook the answer: they go back, uncharged.
        if claims:
            given = [(claim.run_id, claim.token, claim.checkpoint) for claim in claims]
            await self._jobs.requeue(given, drained=True)
        return True

    async def _withdraw(self) -> bool:
        self._missed, self._offer = False, 0
        known = self._executor.held(self._shard)
        await self._jobs.withdraw(self._worker, self._lane, known, shard=self._shard)
        return True

    async def _say_came(self) -> bool:
        if came := self._came:
            await self._jobs.shards[self._shard].say_came(came)
        if self._came is came:
            self._came = None
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

    async def _wait(self) -> None:
        """Sleep until it is called, or long enough that a call may have been lost. The worker is
        not at rest while its offer stands."""
        with self._drain.claim(), contextlib.suppress(TimeoutError):
            await asyncio.wait_for(self._called.wait(), CALL_WAIT_S)

    async def _unless_turned(self, work: Coroutine[Any, Any, Any]) -> None:
        """Wait for ``work``, but no longer than the drain stays as it is."""
        turned = self._drain.open if self._drain.shut.is_set() else self._drain.shut
        waiters = [asyncio.create_task(work), asyncio.create_task(turned.wait())]
        try:
            await asyncio.wait(waiters, return_when=asyncio.FIRST_COMPLETED)
        finally:
            await cancelling.end(*waiters)
