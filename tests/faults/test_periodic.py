"""Periodic kinds in a fleet of real workers."""

import signal

from redis.asyncio import Redis

from tests.faults.conftest import Jobs, StartWorker
from tests.stack import wait_until
from worker.jobs.job import JobRecord

PERIODIC = {"DRAWBRIDGE_JOBS": "tests.models.periodic_kinds"}


async def test_three_workers_make_one_run_for_each_time_though_one_is_killed(
    jobs: Jobs, worker: StartWorker, redis: Redis
) -> None:
    async with worker(**PERIODIC) as one, worker(**PERIODIC) as two, worker(**PERIODIC) as three:

        async def ticks(count: int) -> list[JobRecord]:
            async def found() -> list[JobRecord]:
                page = await jobs.state.list_jobs(kinds=["tick"], limit=200)
                done = [job for job in page.jobs if job.status == "completed"]
                return done if len(done) >= count else []

            made: list[JobRecord] = await wait_until(found)
            return made

        before = len(await ticks(2))
        one.send(signal.SIGKILL)
        runs = await ticks(before + 3)
        assert not [line for each in (two, three) for line in each.lines if line.get("exc_info")]
    times = sorted(int(job.run_at.timestamp()) for job in runs if job.run_at)
    assert times == list(range(times[0], times[0] + len(times)))
