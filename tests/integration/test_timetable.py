"""Periodic kinds on a real Redis: one run for each time, whoever comes, whatever was missed."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace

import pytest
from redis.asyncio import Redis

from control import keys
from control.clock import SystemClock, from_ms
from control.errors import BridgeUp, ControlStateStale
from tests.job_steps import LEASE_S, claim_one, ended
from tests.serving import served
from tests.stack import clean_environment, drawbridge
from worker.jobs import kinds
from worker.jobs.job import JobRecord
from worker.jobs.kinds import Kind
from worker.jobs.manager import JobStateManager
from worker.jobs.schedule import LATE_MS, MOST, Misfire, Schedule
from worker.jobs.timetable import FORGET_S
from worker.periodic import PeriodicRuns

KINDS = ("tests.models.periodic_kinds",)


@pytest.fixture
def jobs(redis: Redis) -> JobStateManager:
    return JobStateManager(redis, result_ttl_s=600, lease_s=LEASE_S)


def kind(name: str = "tidy", **schedule: object) -> Kind:
    declared = kinds.load(KINDS).get(name)
    assert declared is not None
    if not schedule:
        return declared
    return replace(declared, schedule=Schedule(**schedule))  # type: ignore[arg-type]


def worker(jobs: JobStateManager, *periodic: Kind) -> PeriodicRuns:
    """What runs periodic kinds in one worker."""
    return PeriodicRuns(jobs.timetable, periodic, opened=asyncio.Event(), clock=SystemClock())


async def now(redis: Redis) -> int:
    seconds, micros = await redis.time()
    return int(seconds) * 1000 + micros // 1000


async def due(redis: Redis, name: str, at: int) -> None:
    """Have a time of a kind be the next one."""
    await redis.zadd(keys.SCHEDULES, {name: at})


async def runs(jobs: JobStateManager, name: str = "tidy") -> list[JobRecord]:
    """Its runs, the first time first."""
    return (await jobs.list_jobs(kinds=[name], limit=200)).jobs[::-1]


HOUR = 3_600_000


async def test_a_time_that_came_is_run_for_once_by_whoever_comes_first(
    redis: Redis, jobs: JobStateManager
) -> None:
    await worker(jobs, kind()).turn()
    at = await now(redis) - 5
    await due(redis, "tidy", at)
    await asyncio.gather(*(worker(jobs, kind()).turn() for _ in range(20)))
    [run] = await runs(jobs)
    assert run.run_at == from_ms(at)
    assert (run.submitted_by, run.correlation_id) == ("schedule", run.run_id)
    assert (await claim_one(jobs)).payload == b"{}"
    [told] = await jobs.timetable.list()
    assert (told.kind, told.cron, told.timezone) == ("tidy", "30 2 * * *", "Europe/Berlin")
    assert (told.last_run_at, told.last_run_id) == (from_ms(at), run.run_id)
    assert told.next_run_at == from_ms(kind().schedule.after(at))  # type: ignore[union-attr]


async def test_nothing_runs_before_its_time(redis: Redis, jobs: JobStateManager) -> None:
    one = worker(jobs, kind())
    wait_s = await one.turn()
    assert 0 < wait_s <= 60
    assert await runs(jobs) == []
    [told] = await jobs.timetable.list()
    assert told.last_run_at is None
    # Whatever a worker with a wrong clock believes, Redis's own decides.
    at = await now(redis) + HOUR
    await due(redis, "tidy", at)
    assert await jobs.timetable.fire(kind(), at, at + HOUR) == (0, at)
    assert await runs(jobs) == []


@pytest.mark.parametrize(("misfire", "count"), [("skip", 0), ("once", 1), ("all", 5)])
async def test_what_was_missed_while_no_worker_was_there(
    redis: Redis, jobs: JobStateManager, misfire: Misfire, count: int
) -> None:
    hourly = kind(every_ms=HOUR, misfire=misfire)
    await worker(jobs, hourly).turn()
    following = HOUR * (await now(redis) // HOUR + 1)
    first = following - 5 * HOUR
    if await now(redis) - (following - HOUR) <= LATE_MS:  # the full hour has just come
        count = max(count, 1)
    await due(redis, "tidy", first)
    await worker(jobs, hourly).turn()
    found = [run.run_at for run in await runs(jobs)]
    wanted = [from_ms(first + n * HOUR) for n in range(5)][5 - count :]
    assert found == wanted
    [told] = await jobs.timetable.list()
    assert told.next_run_at == from_ms(following)


async def test_no_more_than_the_last_hundred_are_caught_up_on(
    redis: Redis, jobs: JobStateManager
) -> None:
    every = kind("tick", every_ms=1_000, misfire="all")
    await worker(jobs, every).turn()
    await due(redis, "tick", 1_000)
    await worker(jobs, every).turn()
    assert len(await runs(jobs, "tick")) == MOST


@pytest.mark.parametrize(("flag", "refusal"), [("1", BridgeUp), (None, ControlStateStale)])
async def test_nothing_runs_under_maintenance_and_the_policy_applies_afterwards(
    redis: Redis, jobs: JobStateManager, flag: str | None, refusal: type[Exception]
) -> None:
    one = worker(jobs, kind())
    await one.turn()
    await due(redis, "tidy", await now(redis) - HOUR)
    one = worker(jobs, kind())
    if flag is None:
        await redis.hdel(keys.FLAGS, "app_maintenance")
    else:
        await redis.hset(keys.FLAGS, "app_maintenance", flag)
    for _ in range(2):
        with pytest.raises(refusal):
            await one.turn()
    await redis.hset(keys.FLAGS, "app_maintenance", "0")
    assert await runs(jobs) == []
    await one.turn()
    assert len(await runs(jobs)) == 1


async def test_the_run_of_a_worker_that_was_killed_after_it_is_not_made_again(
    redis: Redis, jobs: JobStateManager
) -> None:
    """Its answer is lost: the next one to come finds the time moved on, or makes the same run."""
    await worker(jobs, kind()).turn()
    at = await now(redis) - 5
    for _ in range(2):
        await due(redis, "tidy", at)
        await worker(jobs, kind()).turn()
    assert len(await runs(jobs)) == 1


async def test_a_changed_schedule_takes_its_new_times_and_the_old_worker_runs_it_no_more(
    redis: Redis, jobs: JobStateManager
) -> None:
    old, new = kind(), kind(every_ms=HOUR)
    before = worker(jobs, old)
    await before.turn()
    await worker(jobs, new).turn()
    [told] = await jobs.timetable.list()
    assert (told.cron, told.every_s) == (None, 3600)
    following = HOUR * (await now(redis) // HOUR + 1)
    assert told.next_run_at == from_ms(following)
    at = await now(redis) - 5
    await due(redis, "tidy", at)
    before._due["tidy"] = at
    await before.turn()
    before._declare_at = 0
    await before.turn()
    assert await runs(jobs) == []
    assert (await jobs.timetable.list())[0].every_s == 3600
    await worker(jobs, new).turn()
    assert len(await runs(jobs)) == 1


async def test_a_schedule_that_nobody_declares_is_forgotten(
    redis: Redis, jobs: JobStateManager
) -> None:
    tick, tidy = kind("tick"), kind()
    await worker(jobs, tick, tidy).turn()
    after = worker(jobs, tidy)

    async def again() -> list[str]:
        after._declare_at = 0
        await after.turn()
        return sorted(each.kind for each in await jobs.timetable.list())

    long_ago = await now(redis) - int(FORGET_S * 1000) - 1
    assert await again() == ["tick", "tidy"]  # an old worker may still be there
    await redis.hset(keys.schedule("tick"), "seen", long_ago)
    await redis.hset(keys.schedule("tidy"), "seen", long_ago)
    # Who has just started does not know who else does.
    await worker(jobs, tidy).turn()
    assert len(await jobs.timetable.list()) == 2
    assert await again() == ["tidy"]
    assert not await redis.exists(keys.schedule("tick"))


@asynccontextmanager
async def running(one: PeriodicRuns) -> AsyncIterator[None]:
    task = asyncio.create_task(one.run())
    try:
        yield
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


async def test_a_worker_goes_on_by_itself(redis: Redis, jobs: JobStateManager) -> None:
    async with running(worker(jobs, kind("tick"))):
        for _ in range(2):
            async with asyncio.timeout(20):
                while not (found := await runs(jobs, "tick")):
                    await asyncio.sleep(0.01)
            claim = await claim_one(jobs)
            assert claim.run_id == found[0].run_id
            assert await jobs.finish(ended(claim))
            await redis.delete(keys.index("tick"))


async def test_they_are_listed_over_http_and_on_the_command_line(stores, redis: Redis) -> None:
    async with served(stores.config) as api:
        await worker(api.jobs, kind("tick"), kind()).turn()
        async with api.http.get("/jobs/schedules") as response:
            assert response.status == 200
            told = (await response.json())["schedules"]
        environ = clean_environment(DRAWBRIDGE_API=api.url, HOME="/nonexistent")
        status, out, err = await drawbridge("jobs", "schedules", environ=environ)
    assert {each["kind"]: each["misfire"] for each in told} == {"tick": "all", "tidy": "once"}
    assert (status, err) == (0, "")
    assert "every 1 s" in out
    assert "30 2 * * *  Europe/Berlin" in out
