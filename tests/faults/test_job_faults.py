"""What may befall many jobs at once: kills of workers and of Redis, a worker whose loop is held up
or whose clock is set."""

import asyncio
import os
import signal
import sys
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from redis.asyncio import Redis

from control import keys
from control.errors import StoreUnavailable
from tests.conftest import LiveStores
from tests.faults.conftest import Jobs, StartWorker
from tests.job_steps import new
from tests.processes import Replica
from tests.stack import wait_until
from worker.jobs.errors import JobFinished
from worker.jobs.job import JobState, NewJob

MANY = 40
STEPPED = Path(__file__).parents[1] / "models" / "stepped"


async def started(one: Replica, count: int) -> None:
    """Wait until a worker has started so many jobs."""
    await one.logged("job started", count=count)


async def test_forty_jobs_of_a_killed_worker_run_again_each_once(
    jobs: Jobs, worker: StartWorker
) -> None:
    run_ids = [await jobs.submit("wait") for _ in range(MANY)]
    async with worker() as victim:
        await started(victim, MANY)
        for run_id in run_ids:
            await jobs.event(run_id, "progress")  # and with it, its checkpoint
        async with worker() as other:
            await other.logged("joined")
            victim.send(signal.SIGKILL)
            await other.logged("job ended", status="completed", count=MANY)
    for run_id in run_ids:
        assert await jobs.result(run_id) == {"restored": {"from": run_id}, "attempt": 2}
        assert (await jobs.statuses(run_id)).count("completed") == 1


async def test_sigterm_with_forty_running_takes_no_more_and_ends_with_the_last(
    jobs: Jobs, worker: StartWorker
) -> None:
    run_ids = [await jobs.submit("wait") for _ in range(MANY + 20)]
    async with worker(DRAWBRIDGE_IO_SLOTS=str(MANY), DRAWBRIDGE_DRAIN_SOFT_S="600") as one:
        await started(one, MANY)
        one.send(signal.SIGTERM)
        await one.logged("phase", phase="stopping")
        running = {line["run_id"] for line in one.lines if line["event"] == "job started"}
        await asyncio.gather(*(jobs.state.cancel_job(run_id) for run_id in running))
        assert await one.ended() == 0
    assert len(running) == MANY
    for run_id in set(run_ids) - running:
        record = await jobs.record(run_id)
        assert (record.status, record.attempt) == (JobState.QUEUED, 0)


async def test_a_job_that_kills_its_worker_each_time_ends_dead_and_others_go_on(
    jobs: Jobs, worker: StartWorker
) -> None:
    async with worker() as one, worker() as two, worker() as three:
        replicas = (one, two, three)
        for replica in replicas:
            await replica.logged("joined")
        bystander, killer = await jobs.submit("wait"), await jobs.submit("killer")

        async def dead() -> bool:
            return (await jobs.record(killer)).status is JobState.FAILED

        await wait_until(dead)
        [survivor] = [each for each in replicas if each.process.returncode is None]
        after = await jobs.submit("echo")
        await survivor.logged("job ended", run_id=after, status="completed")
        with suppress(JobFinished):  # it ends by itself where it began on a worker that was killed
            await jobs.state.cancel_job(bystander)
        await jobs.event(bystander, "end")
    assert (await jobs.record(bystander)).status is not JobState.FAILED
    record = await jobs.record(killer)
    assert record.attempt == 2
    assert record.error is not None
    assert record.error.class_ == "WorkerLost"


async def test_no_submission_is_lost_or_doubled_by_a_kill_of_redis(
    jobs: Jobs, stores: LiveStores
) -> None:
    """Five hundred by ten clients; what was not acknowledged is sent again, as it was."""
    some, refused = 150, 0
    accepted: list[str] = []
    halfway = asyncio.Event()

    async def submit(job: NewJob) -> None:
        nonlocal refused
        while True:
            try:
                accepted.append((await jobs.state.create_job(job)).run_id)
            except StoreUnavailable:
                refused += 1
                await asyncio.sleep(0.02)  # as a client would
            else:
                if len(accepted) == some:
                    halfway.set()
                return

    async def client() -> None:
        for _ in range(50):
            await submit(new())

    clients = [asyncio.create_task(client()) for _ in range(10)]
    await halfway.wait()
    await stores.kill("redis")
    await stores.restart("redis")
    await asyncio.gather(*clients)
    assert refused > 0, "nobody noticed"
    await jobs.state.heartbeat("w1", [], join=True)
    found: list[str] = []
    while claims := await jobs.state.claim("w1", "io", 128):
        found += [claim.run_id for claim in claims]
    assert len(found) == 500
    assert set(found) == set(accepted)


async def test_a_function_that_holds_up_its_loop_loses_its_jobs_to_others(
    jobs: Jobs, worker: StartWorker, tmp_path: Path
) -> None:
    enough = tmp_path / "enough"
    async with worker() as held:
        bystander = await jobs.submit("wait")
        await jobs.event(bystander, "progress")  # and with it, its checkpoint
        hog = await jobs.submit("hog", {"until": str(enough)})
        await held.logged("job started", run_id=hog)
        async with worker() as other:
            for run_id in (bystander, hog):
                await other.logged("job rescued", run_id=run_id)
                await other.logged("job ended", run_id=run_id, status="completed")
        enough.touch()
        await held.logged("job abandoned", run_id=bystander)
        after = await jobs.submit("echo")
        await held.logged("job ended", run_id=after, status="completed")
    assert await jobs.result(hog) == {"attempt": 2}
    assert (await jobs.statuses(hog)).count("completed") == 1


async def test_a_worker_whose_clock_is_set_keeps_its_lease_and_its_jobs(
    jobs: Jobs, redis: Redis, worker: StartWorker, tmp_path: Path
) -> None:
    step = tmp_path / "step"
    step.write_text("0")
    path = os.pathsep.join([str(STEPPED), *filter(None, sys.path)])
    reading: Any = redis
    async with worker(PYTHONPATH=path, CLOCK_STEP=str(step)) as one, worker() as other:
        name = (await one.logged("working"))["worker"]
        await one.logged("joined")
        await other.logged("joined")
        for hours in (1, -2):
            long = await jobs.submit("wait")
            await wait_until(lambda run_id=long: begun(run_id, one, other))
            step.write_text(str(hours * 3600))
            leases: set[float] = set()

            async def renewed(leases: set[float] = leases) -> bool:
                leases.add(await reading.zscore(keys.WORKERS, name))
                return len(leases) > 4  # longer than a lease

            await wait_until(renewed)
            due_ms = int(datetime.now(UTC).timestamp() * 1000) + 500
            later = await jobs.submit("echo", run_at_ms=due_ms)
            await wait_until(lambda run_id=later: finished(run_id, one, other))
            await jobs.state.cancel_job(long)
            await wait_until(lambda run_id=long: finished(run_id, one, other))
            record = await jobs.record(later)
            assert record.run_at is not None
            assert record.started_at is not None
            assert record.started_at >= record.run_at
            assert (await jobs.record(long)).attempt == 1
    assert not [line for line in other.lines if line["event"] == "job rescued"]
    assert one.lines[-1]["timestamp"][:13] != other.lines[-1]["timestamp"][:13], (
        "its clock is right"
    )


def begun(run_id: str, *replicas: Replica) -> bool:
    return said("job started", run_id, *replicas)


def finished(run_id: str, *replicas: Replica) -> bool:
    return said("job ended", run_id, *replicas)


def said(event: str, run_id: str, *replicas: Replica) -> bool:
    wanted = {"event": event, "run_id": run_id}
    return any(wanted.items() <= line.items() for one in replicas for line in one.lines)
