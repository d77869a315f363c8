"""A worker inside the test's own loop: its flags moved by hand, its jobs in a real Redis."""

import asyncio
from collections.abc import AsyncIterator, Callable, Iterable, Mapping
from contextlib import AsyncExitStack, aclosing, asynccontextmanager
from typing import Any

from redis.asyncio import Redis

from control import cancelling, keys
from control.clock import Clock, SystemClock
from control.errors import StoreUnavailable
from control.flags.document import INGESTION, MAINTENANCE, Document, Flag, Mode
from control.flags.replica import Replica
from control.stores.servers import Servers
from control.subscriber import Listener, Subscriber
from tests.conftest import LiveStores
from tests.job_steps import new
from tests.stack import wait_until
from worker.alarm import Alarm
from worker.consumer import Consumer
from worker.drain import Drain, Phase
from worker.executor import Executor
from worker.jobs import kinds
from worker.jobs.job import UNLIMITED, Ask, Claim, JobRecord, JobState
from worker.jobs.manager import JobStateManager
from worker.leases import Lease

SLOTS = 8
_NORMAL, _RETURNED = keys.queue("io", "normal"), keys.queue("io", "returned")


class Watched(JobStateManager):
    """Jobs whose claims are noted, and whose claims' answers a test can hold up or lose."""

    def __init__(self, redis: Redis) -> None:
        super().__init__(redis, result_ttl_s=600, lease_s=15)
        self.asked: list[int] = []
        """The counts that were claimed."""
        self.answered = asyncio.Event()
        """Set when a claim's answer is there, held up or not."""
        self.withdrawing = asyncio.Event()
        """Set when an offer is withdrawn, held up or not."""
        self.passing = asyncio.Event()
        self.passing.set()
        self.lose_next = False

    async def claim_or_wait(self, ask: Ask, *, shard: int = 0) -> tuple[list[Claim], bool]:
        self.asked.append(ask.count)
        claims, stands = await super().claim_or_wait(ask, shard=shard)
        if claims:
            self.answered.set()
        await self.passing.wait()
        if claims and self.lose_next:
            self.lose_next = False
            raise StoreUnavailable("redis", "the answer was lost")
        return claims, stands

    async def withdraw(
        self, worker: str, lane: str, known: Iterable[str], *, shard: int = 0
    ) -> int:
        self.withdrawing.set()
        await self.passing.wait()
        return await super().withdraw(worker, lane, known, shard=shard)

    async def record(self, run_id: str) -> JobRecord:
        """What is known of a job that must be there."""
        found = await self.get_job(run_id)
        assert found is not None
        return found


class Calls(Subscriber):
    """Calls that a test can hold up, or lose."""

    def __init__(self, redis: Redis, clock: Clock) -> None:
        super().__init__(redis, clock)
        self.came: list[bytes] = []
        """What was published, held up or not."""
        self.holding = False
        self._held: list[Callable[[], None]] = []

    async def add(self, channel: str, listener: Listener, *, wait_s: float = 2.0) -> bool:
        def take(call: bytes) -> None:
            self.came.append(call)
            if self.holding:
                self._held.append(lambda: listener.on_message(call))
            else:
                listener.on_message(call)

        return await super().add(channel, Listener(take, listener.resync), wait_s=30)

    def release(self) -> None:
        """Let them pass."""
        self.holding = False
        for deliver in self._held:
            deliver()
        self._held.clear()

    def lose(self) -> None:
        """Let them never have come."""
        self.holding = False
        self._held.clear()


class StandingClock(SystemClock):
    """A clock that can leap, as time does for whoever stood still."""

    def __init__(self) -> None:
        self.ahead_s = 0.0

    def monotonic(self) -> float:
        return super().monotonic() + self.ahead_s


class Bench:
    """A worker without its process."""

    def __init__(self, redis: Redis, soft_s: float, hard_s: float, slots: int) -> None:
        clock = SystemClock()
        self._slots = slots
        self.limits: Mapping[str, int] = UNLIMITED
        self.redis: Any = redis
        self.jobs = Watched(redis)
        known = kinds.load(("tests.kinds",))
        self.executor = Executor(self.jobs, known, modules=("tests.kinds",), memory=1 << 30)
        self.flags_clock = StandingClock()
        self.replica = Replica(self.flags_clock)
        self.replica.prove("redis", clock.monotonic() + 3600)
        self.urgent = asyncio.Event()
        self.calls: Calls
        self.drain = Drain(
            self.executor, self.replica, soft_s=soft_s, hard_s=hard_s, urgent=self.urgent,
            clock=clock,
        )  # fmt: skip
        self.told: list[tuple[Phase, int, bool]] = []
        self.drain.on_progress(self._note)
        self.lease = Lease(
            "w1", lease_s=15, jobs=self.jobs, executor=self.executor, clock=clock,
            due=Alarm(clock), lost=Alarm(clock),
        )  # fmt: skip
        self._clock = clock
        self._version = 0

    def consumer(self) -> Consumer:
        """Of the asynchronous lane."""
        return Consumer(
            "io", self._slots, limits=self.limits, worker="w1", jobs=self.jobs,
            executor=self.executor, lease=self.lease, drain=self.drain, clock=self._clock,
        )  # fmt: skip

    @property
    def phases(self) -> list[Phase]:
        """The phases so far, each once."""
        named = [phase for phase, _, _ in self.told]
        return [p for at, p in enumerate(named) if at == 0 or named[at - 1] is not p]

    def say(self, raised: bool, *, mode: Mode = "full", ingestion: bool = False) -> None:
        """Tell the replica of new flags, and Redis not."""
        self._version += 1
        flags = {
            MAINTENANCE: Flag(is_active=raised, mode=mode),
            INGESTION: Flag(is_active=ingestion),
        }
        self.replica.apply(Document(2, self._version, flags), "test")

    async def project(self, raised: bool) -> None:
        """Tell Redis, and the replica not."""
        await self.redis.hset(keys.FLAGS, MAINTENANCE, int(raised))

    async def move(self, raised: bool) -> None:
        """Move the bridge as a controller does."""
        await self.project(raised)
        self.say(raised)

    async def submit(self, kind: str = "echo", **more: Any) -> str:
        """Submit a job of one of the test kinds, which a call brings if the worker waits; its run
        id."""
        return (await self.jobs.create_job(new(kind, max_attempts=3, **more))).run_id

    async def submit_some(self, count: int = 2, kind: str = "echo") -> list[str]:
        """Submit several together, which the worker claims; their run ids."""
        made = await self.jobs.create_jobs([new(kind, max_attempts=3) for _ in range(count)])
        return [one.run_id for one in made if not isinstance(one, Exception)]

    async def started(self, *run_ids: str) -> None:
        """Wait until these jobs run."""
        await wait_until(lambda: self.executor.running.keys() >= set(run_ids))

    async def status(self, run_id: str, status: JobState) -> None:
        """Wait until a job is in this status."""

        async def so() -> bool:
            return (await self.jobs.record(run_id)).status is status

        await wait_until(so)

    async def phase(self, phase: Phase) -> None:
        """Wait until the worker is in this phase."""
        await wait_until(lambda: self.drain.phase is phase)

    async def held(self) -> int:
        """How many jobs are claimed, by Redis's account."""
        queues = [q for q in (_NORMAL, _RETURNED) if await self.redis.exists(q)]
        groups = [await self.redis.xinfo_groups(q) for q in queues]
        return sum(group["pending"] for found in groups for group in found)

    async def waits(self) -> bool:
        """Whether an offer of the worker stands."""
        return bool(await self.redis.hexists(keys.offers("io"), "w1"))

    async def resubscribed(self) -> None:
        """Break the subscription, and wait until there is another one, and an offer after that."""
        before = self.calls.since
        await self.redis.client_kill_filter(_type="pubsub")
        await wait_until(lambda: self.calls.since not in (None, before))
        await wait_until(self.waits)

    async def turns(self) -> None:
        """Let everything that is ready to run do so, and Redis answer what it was asked."""
        for _ in range(20):
            await asyncio.sleep(0)
            await self.redis.ping()

    def _note(self) -> None:
        self.told.append((self.drain.phase, len(self.executor.running), self.drain.quiesced))


@asynccontextmanager
async def bench(
    redis: Redis,
    stores: LiveStores,
    *,
    soft_s: float = 60,
    hard_s: float = 60,
    slots: int = SLOTS,
    limits: Mapping[str, int] = UNLIMITED,
) -> AsyncIterator[Bench]:
    """A bench that has its lease and knows no flags yet; brought to rest in the end."""
    async with AsyncExitStack() as stack:
        made = Bench(redis, soft_s, hard_s, slots)
        made.limits = limits
        servers = await stack.enter_async_context(aclosing(Servers(stores.addresses.redis_url)))
        calls = made.calls = Calls(servers.listening(keys.JOBS), SystemClock())
        consumer = made.consumer()
        made.drain.follow()
        tasks = [
            asyncio.create_task(work) for work in (calls.run(), made.lease.beat(), consumer.run())
        ]
        stack.push_async_callback(cancelling.end, *tasks)
        stack.push_async_callback(_end, made)
        await consumer.listen(calls)
        calls.fresh_at = SystemClock().monotonic()  # a second before the first PING is answered
        await made.lease.held.wait()
        yield made


async def _end(made: Bench) -> None:
    made.urgent.set()
    made.jobs.passing.set()
    await made.drain.stop()
