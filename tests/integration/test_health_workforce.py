"""The check `workers`: leases, what waits, and for how long."""

import pytest
from redis.asyncio import Redis

from control import keys
from tests.faults.conftest import Jobs
from worker.jobs.workforce import NoWorkers, WorkforceProbe


@pytest.fixture
def probe(redis: Redis) -> WorkforceProbe:
    return WorkforceProbe(redis)


async def test_without_a_worker_nobody_would_run_a_job(redis: Redis, probe: WorkforceProbe) -> None:
    with pytest.raises(NoWorkers):
        await probe.ask()
    await redis.zadd(keys.WORKERS, {"dead": 1})
    await Jobs(redis).submit("echo")
    with pytest.raises(NoWorkers) as none:
        await probe.ask()
    assert none.value.details["waiting"] == {"cpu": 0, "io": 1}


async def test_jobs_that_wait_and_jobs_that_run(redis: Redis, probe: WorkforceProbe) -> None:
    jobs = Jobs(redis)
    await jobs.state.heartbeat("hand", [], join=True)
    none = {"cpu": 0, "io": 0}
    idle = {
        "live": 1, "waiting": none, "held": 0, "running": none, "scheduled": 0,
        "oldest_waiting_s": None,
    }  # fmt: skip
    assert await probe.ask() == idle
    for priority in ("high", "normal", "low"):
        await jobs.submit("echo", priority=priority)
    told = await probe.ask()
    assert told["waiting"] == {"cpu": 0, "io": 3}
    assert 0 <= told["oldest_waiting_s"] < 60
    first, *_ = await jobs.state.claim("hand", "io", 1)
    told = await probe.ask()
    assert told["waiting"] == {"cpu": 0, "io": 2}
    await jobs.state.requeue([(first.run_id, first.token, None)], drained=False)
    assert (await probe.ask())["waiting"] == {"cpu": 0, "io": 3}
    await jobs.state.claim("hand", "io", 10)
    await jobs.submit("echo", run_at_ms=1 << 42)
    assert await probe.ask() == idle | {"running": {"cpu": 0, "io": 3}, "scheduled": 1}


async def test_jobs_that_wait_for_a_slot_of_their_kind(redis: Redis, probe: WorkforceProbe) -> None:
    jobs = Jobs(redis)
    await jobs.state.heartbeat("hand", [], join=True)
    for kind in ("single", "single", "single", "echo"):
        await jobs.submit(kind)
    assert len(await jobs.state.claim("hand", "io", 10, limits={"single": 1})) == 2
    told = await probe.ask()
    assert (told["held"], told["waiting"], told["running"]["io"]) == (2, {"cpu": 0, "io": 0}, 2)
