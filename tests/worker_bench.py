"""A worker inside the test's own loop: its flags moved by hand, its jobs in a real Redis."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, aclosing, asynccontextmanager
from typing import Any

from redis.asyncio import Redis

from control import cancelling, keys
from control.clock import SystemClock
from control.errors import StoreUnavailable
from control.flags.document import INGESTION, MAINTENANCE, Document, Flag, Mode
from control.flags.replica import Replica
from control.stores.servers import Servers
from tests.conftest import LiveStores
from tests.job_steps import new
from tests.stack import wait_until
from worker.alarm import Alarm
from worker.consumer import BELL_WAIT_S, Consumer
from worker.drain import Drain, Phase
from worker.executor import Executor
from worker.jobs import kinds
from worker.jobs.job import Claim, JobRecord, JobState
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
        self.passing = asyncio.Event()
        self.passing.set()
        self.lose_next = False

    async def claim(self, worker: str, lane: str, count: int, **more: Any) -> list[Claim]:
        self.asked.append(count)
        claims = await super().claim(worker, lane, count, **more)
        if claims:
            self.answered.set()
        await self.passing.wait()
        if claims and self.lose_next:
            self.lose_next = False
            raise StoreUnavailable("redis", "the answer was lost")
        return claims

    async def record(self, run_id: str) -> JobRecord:
        """What is known of a job that must be there."""
        found = await self.get_job(run_id)
        assert found is not None
        return found


class StandingClock(SystemClock):
    """A clock that can leap, as time does for whoever stood still."""

    def __init__(self) -> None:
        self.ahead_s = 0.0

    def monotonic(self) -> float:
        return super().monotonic() + self.ahead_s


class Bench:
    """A worker without its process."""

    def __init__(self, redis: Redis, soft_s: float, hard_s: float) -> None:
        clock = SystemClock()
        self.redis: Any = redis
        self.jobs = Watched(redis)
        known = kinds.load(("tests.kinds",))
        self.executor = Executor(self.jobs, known, modules=("tests.kinds",), memory=1 << 30)
        self.flags_clock = StandingClock()
        self.replica = Replica(self.flags_clock)
        self.replica.prove("redis", clock.monotonic() + 3600)
        self.urgent = asyncio.Event()
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

    def consumer(self, bell: Redis) -> Consumer:
        """Of the asynchronous lane."""
        return Consumer(
            "io", SLOTS, limits={}, worker="w1", jobs=self.jobs, executor=self.executor,
            lease=self.lease, drain=self.drain, bell=bell, clock=self._clock,
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

    async def submit(self, kind: str = "echo") -> str:
        """Submit a job of one of the test kinds; its run id."""
        return (await self.jobs.create_job(new(kind, max_attempts=3))).run_id

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
        groups = [await self.redis.xinfo_groups(q) for q in (_NORMAL, _RETURNED)]
        return sum(group["pending"] for found in groups for group in found)

    async def nobody_listens(self) -> bool:
        """Whether no blocking read is under way."""
        return bool((await self.redis.info("clients"))["blocked_clients"] == 0)

    async def turns(self) -> None:
        """Let everything that is ready to run do so, and Redis answer what it was asked."""
        for _ in range(20):
            await asyncio.sleep(0)
            await self.redis.ping()

    def _note(self) -> None:
        self.told.append((self.drain.phase, len(self.executor.running), self.drain.quiesced))


@asynccontextmanager
async def bench(
    redis: Redis, stores: LiveStores, *, soft_s: float = 60, hard_s: float = 60
) -> AsyncIterator[Bench]:
    """A bench that has its lease and knows no flags yet; brought to rest in the end."""
    async with AsyncExitStack() as stack:
        made = Bench(redis, soft_s, hard_s)
        url = stores.addresses.redis_url
        bell = Servers(url).blocking(keys.JOBS, block_s=BELL_WAIT_S)
        await stack.enter_async_context(aclosing(bell))
        consumer = made.consumer(bell)
        made.drain.follow()
        tasks = [asyncio.create_task(w) for w in (made.lease.beat(), consumer.run())]
        stack.push_async_callback(cancelling.end, *tasks)
        stack.push_async_callback(_end, made)
        await made.lease.held.wait()
        yield made


async def _end(made: Bench) -> None:
    made.urgent.set()
    made.jobs.passing.set()
    await made.drain.stop()
