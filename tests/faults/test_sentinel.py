"""Sentinel: the master dies by kill -9 while jobs are submitted and flags are changed."""

import asyncio
import time
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Any, NamedTuple

import aiohttp
import pytest

from control import cancelling
from control.flags.document import Position
from control.migrations import migrate
from tests.conftest import LiveStores
from tests.faults.redis_cluster import Nodes
from tests.faults.redis_forms import Watched, needs_sentinel, watched
from tests.processes import Replica, replica
from tests.stack import SO_S, wait_until

TOKEN = "of-the-sentinel-test"
SPARE = tuple(f"spare_{number}" for number in range(10))
PACE_S = 0.02
_503 = ("bridge-up", "dependency-unavailable", "control_state_stale", "acknowledgement-timeout")

pytestmark = needs_sentinel


class Said(NamedTuple):
    """One request. Times are monotonic seconds."""

    sent: float
    done: float
    status: int | None
    problem: str
    run_id: str


class Fleet:
    """Services and workers, and what became of all that was asked of them."""

    def __init__(self, services: list[Replica], workers: list[Replica], urls: list[str]) -> None:
        self.all = [*services, *workers]
        self.workers = workers
        self.urls = urls
        self.jobs: list[Said] = []
        self.changes: list[tuple[Said, Position | None]] = []
        self.http = aiohttp.ClientSession(
            headers={"Authorization": f"Bearer {TOKEN}"}, timeout=aiohttp.ClientTimeout(30)
        )

    async def ask(self, method: str, path: str, *, at: int = 0, **terms: Any) -> tuple[Said, Any]:
        """A request to one service, with its answer."""
        sent = time.monotonic()
        try:
            async with self.http.request(method, self.urls[at] + path, **terms) as answer:
                body = await answer.json(content_type=None)
                if answer.status == 503:
                    assert answer.content_type == "application/problem+json"
                    assert int(answer.headers["Retry-After"]) > 0
                status: int | None = answer.status
        except (aiohttp.ClientError, TimeoutError) as error:
            status, body = None, {"type": repr(error)}
        problem = str(body.get("type", "")).rpartition("/")[2] if status not in (200, 202) else ""
        return Said(sent, time.monotonic(), status, problem, body.get("run_id", "")), body

    async def submit(self, at: int) -> None:
        """Submit for ever."""
        while True:
            said, _ = await self.ask("POST", "/jobs/nap", at=at, json={"payload": {"for_s": 0.02}})
            self.jobs.append(said)
            await asyncio.sleep(PACE_S)

    async def put(self, flag: str, value: bool, *, at: int = 0, timeout_s: float = 10) -> Said:
        """Set a flag and wait until all have applied it."""
        path = f"/control/flags/{flag}?wait=applied&timeout={timeout_s:g}"
        said, body = await self.ask("PUT", path, at=at, json={"is_active": value})
        place = None
        if said.status == 200:
            place = Position(body["document"]["epoch"], body["document"]["version"])
        self.changes.append((said, place))
        return said

    async def change(self) -> None:
        """Change flags that mean nothing for ever, one after the other, each seldom enough."""
        number = 0
        while True:
            await self.put(SPARE[number % len(SPARE)], number // len(SPARE) % 2 == 0, timeout_s=5)
            number += 1
            await asyncio.sleep(0.25)

    async def insist(self, flag: str, value: bool) -> Said:
        """Set a flag, again until it is acknowledged."""
        while (said := await self.put(flag, value)).status != 200:
            await asyncio.sleep(0.5)
        return said

    async def works_after(self, moment: float) -> tuple[float, float]:
        """Seconds from ``moment`` to the first job accepted and the first change acknowledged of
        those asked for later."""

        def first(said: list[Said], good: int) -> float | None:
            found = (each.done for each in said if each.sent > moment and each.status == good)
            return next(found, None)

        job = await wait_until(lambda: first(self.jobs, 202), 2 * SO_S)
        change = await wait_until(lambda: first([said for said, _ in self.changes], 200), 2 * SO_S)
        return job - moment, change - moment

    def positions(self, instance: Replica) -> list[Position]:
        """Every document that an instance says it applied, in that order."""
        return [
            Position.parse(line["position"])
            for line in instance.lines
            if line["event"] == "flags applied"
        ]


@asynccontextmanager
async def fleet_on(
    redis: Watched | Nodes, stores: LiveStores, database_url: str, **settings: str
) -> AsyncIterator[Fleet]:
    """Two services and two workers that count a job as accepted once a replica has it."""
    await migrate(database_url)
    environment = stores.environment | {
        "REDIS_URL": redis.url,
        "DATABASE_URL": database_url,
        "DRAWBRIDGE_ADMIN_TOKEN": TOKEN,
        "DRAWBRIDGE_JOBS": "tests.kinds",
        "DRAWBRIDGE_FLAGS": ",".join(SPARE),
        "DRAWBRIDGE_WAIT_REPLICAS": "1",
        "DRAWBRIDGE_LEASE_S": "2",
        "DRAWBRIDGE_DRAIN_DELAY_S": "0",
        **settings,
    }
    async with AsyncExitStack() as stack:
        started = [
            await stack.enter_async_context(replica(role, environment))
            for role in ("service", "service", "worker", "worker")
        ]
        services, workers = started[:2], started[2:]
        urls = [(await service.logged("serving"))["url"] for service in services]
        for worker in workers:
            await worker.logged("phase", phase="running")
        fleet = Fleet(services, workers, urls)
        stack.push_async_callback(fleet.http.close)
        yield fleet


@asynccontextmanager
async def under_load(fleet: Fleet) -> AsyncIterator[None]:
    """Submit to both services and change flags for the block."""
    load = [asyncio.create_task(fleet.submit(at)) for at in (0, 0, 1, 1)]
    load.append(asyncio.create_task(fleet.change()))
    try:
        yield
    finally:
        await cancelling.end(*load)
        failed = [each.exception() for each in load if not each.cancelled()]
        assert not failed, failed


async def fail_over(redis: Watched) -> tuple[float, float]:
    """kill -9 of the master; when that was, and how long until there was another."""
    old = await redis.master()
    moment = time.monotonic()
    await old.end()
    await redis.new_master(old)
    took = time.monotonic() - moment
    await old.start()  # it comes back as a replica
    return moment, took


@pytest.mark.soak
@pytest.mark.timeout(600)
async def test_failovers_lose_no_accepted_job_and_no_acknowledged_change(
    stores: LiveStores, database_url: str
) -> None:
    async with watched() as redis, fleet_on(redis, stores, database_url) as fleet:
        async with under_load(fleet):
            await fleet.works_after(time.monotonic())
            for _ in range(3):
                moment, took_s = await fail_over(redis)
                job_s, change_s = await fleet.works_after(moment + took_s)
                print(
                    f"new master after {took_s:.2f} s, first job accepted after "
                    f"{took_s + job_s:.2f} s, first change acknowledged after "
                    f"{took_s + change_s:.2f} s"
                )
                await redis.whole()
            await raised_through_a_failover(redis, fleet)
        await everything_accepted_ends(fleet)
        newest = max(place for _, place in fleet.changes if place is not None)
        for instance in fleet.all:
            await instance.until(
                lambda one=instance: max(fleet.positions(one)) >= newest, SO_S, f"{newest}"
            )
            assert fleet.positions(instance) == sorted(fleet.positions(instance))
        refused = Counter(said.problem for said in fleet.jobs if said.status == 503)
        ran = Counter(
            line["run_id"]
            for worker in fleet.workers
            for line in worker.lines
            if line["event"] == "job ended" and line.get("status") == "completed"
        )
        again = sum(times > 1 for times in ran.values())
        accepted = sum(said.status == 202 for said in fleet.jobs)
        print(f"{accepted} jobs accepted, {again} of them ran twice; 503: {dict(refused)}")
        assert {said.status for said in fleet.jobs} <= {202, 503}
        assert set(refused) <= set(_503), refused


async def raised_through_a_failover(redis: Watched, fleet: Fleet) -> None:
    """Nobody is let in from the moment that the raised bridge was acknowledged until it is
    lowered, whatever the new master has of it."""
    await fleet.insist("app_maintenance", True)
    acknowledged = time.monotonic()
    await fail_over(redis)
    await redis.whole()
    seen = len(fleet.changes)
    await wait_until(lambda: any(said.status == 200 for said, _ in fleet.changes[seen:]), 2 * SO_S)
    lowering = time.monotonic()
    within = [said for said in fleet.jobs if acknowledged < said.sent and said.done < lowering]
    assert len(within) > 20
    assert [said for said in within if said.status != 503] == []
    await fleet.insist("app_maintenance", False)
    await fleet.works_after(time.monotonic())


async def everything_accepted_ends(fleet: Fleet) -> None:
    """Each accepted job is there, and completed."""
    accepted = [said.run_id for said in fleet.jobs if said.status == 202]
    for run_id in accepted:

        async def ended(run_id: str = run_id) -> str:
            said, body = await fleet.ask("GET", f"/jobs/{run_id}")
            assert said.status != 404, f"{run_id} is lost"
            return body["status"] if said.status == 200 and body["finished_at"] else ""

        assert await wait_until(ended, 2 * SO_S) == "completed"
