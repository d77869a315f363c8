"""Who holds a job: claims, fencing tokens, leases that run out, jobs that go back."""

import asyncio

import pytest
from redis.asyncio import Redis

from control import keys
from tests.job_steps import LEASE_S, claim_one, ended, listening, lose, new, rescue
from worker.jobs.errors import WorkerLost
from worker.jobs.job import JobState
from worker.jobs.manager import JobStateManager, Progress


@pytest.fixture
def jobs(redis: Redis) -> JobStateManager:
    return JobStateManager(redis, result_ttl_s=600, lease_s=LEASE_S)


async def test_a_handed_back_job_is_not_charged_and_the_old_token_is_dead(
    jobs: JobStateManager,
) -> None:
    await jobs.create_job(new())
    first = await claim_one(jobs)
    assert await jobs.requeue([(first.run_id, first.token, b'{"at":7}')], drained=True) == [True]
    assert not await jobs.finish(ended(first, result=b"1"))
    assert await jobs.requeue([(first.run_id, first.token, None)], drained=True) == [False]
    second = await claim_one(jobs, "w2")
    assert (second.attempt, second.checkpoint) == (1, b'{"at":7}')
    assert second.token > first.token
    assert not await jobs.finish(ended(first, result=b"1"))
    assert not await jobs.report(Progress(first.run_id, first.token, {"late": True}))
    assert await jobs.finish(ended(second, result=b"2"))
    assert await jobs.get_result(first.run_id) == b"2"
    record = await jobs.get_job(first.run_id)
    assert record is not None
    assert record.drain_requeues == 1


async def test_what_is_handed_back_takes_along_what_ended_after_it(
    jobs: JobStateManager, redis: Redis
) -> None:
    """Entries are trimmed up to the oldest one that is held; here that one goes last."""
    await jobs.create_job(new())
    await jobs.create_job(new())
    await jobs.heartbeat("w1", [], join=True)
    older, newer = await jobs.claim("w1", "io", 2)
    await jobs.finish(ended(newer))
    await jobs.requeue([(older.run_id, older.token, None)], drained=True)
    assert await redis.xlen(keys.queue("io", "normal")) == 0


async def test_a_heartbeat_rings_again_for_what_waits_and_for_nothing_else(
    jobs: JobStateManager, redis: Redis
) -> None:
    async with listening(redis) as waiting, listening(redis, lane="cpu") as elsewhere:

        async def rung() -> list[bytes]:
            await waiting.offer(7)
            await elsewhere.offer(8, "cpu")
            await jobs.heartbeat("w1", [], join=True)
            return await waiting.heard() + await elsewhere.heard()

        assert await rung() == []
        await redis.delete(keys.offers("io"))
        await jobs.create_job(new())
        assert await rung() == [b"7\n"], "whoever heard of it first is gone"
        claim = await claim_one(jobs, "w1")
        assert await rung() == [], "it runs"
        assert await jobs.finish(ended(claim))
        assert await rung() == []
        await redis.delete(keys.queue("io", "normal"))
        await redis.set(keys.queue("io", "normal"), "no stream")
        assert await rung() == [], "a spoilt queue costs no lease"


async def test_the_jobs_of_a_lost_worker_run_again(jobs: JobStateManager, redis: Redis) -> None:
    await jobs.create_job(new(max_attempts=2))
    first = await claim_one(jobs, "w1")
    assert await rescue(jobs) == [], "its lease is good"
    await lose(redis, "w1")
    [rescued] = await rescue(jobs)
    assert (rescued.run_id, rescued.worker, rescued.outcome) == (first.run_id, "w1", "queued")
    with pytest.raises(WorkerLost):
        await jobs.heartbeat("w1", [first.run_id])
    with pytest.raises(WorkerLost):
        await jobs.claim("w1", "io", 1)

    second = await claim_one(jobs, "w2")
    assert second.attempt == 2
    assert not await jobs.finish(ended(first, result=b"zombie"))
    await lose(redis, "w2")
    [again] = await rescue(jobs)
    assert again.outcome == "failed"
    record = await jobs.get_job(first.run_id)
    assert record is not None
    assert record.error is not None
    assert (record.status, record.error.class_) == (JobState.FAILED, "WorkerLost")


async def test_rescue_takes_every_job_of_a_worker_with_many(
    jobs: JobStateManager, redis: Redis
) -> None:
    await asyncio.gather(*(jobs.create_job(new(max_attempts=2)) for _ in range(250)))
    await jobs.heartbeat("w1", [], join=True)
    assert len(await jobs.claim("w1", "io", 250)) == 250
    await lose(redis, "w1")
    rescued = []
    while batch := await rescue(jobs):
        rescued += batch
    assert len({job.run_id for job in rescued}) == 250
    assert await redis.zrange(keys.WORKERS, 0, -1) == [b"judge"]


async def test_a_worker_that_was_held_up_itself_calls_nobody_lost(
    jobs: JobStateManager, redis: Redis
) -> None:
    await jobs.create_job(new())
    await claim_one(jobs)
    beat = await jobs.heartbeat("judge", [], join=True)
    await lose(redis, "w1")
    assert await jobs.rescue(beat.at_ms - 6000, within_s=5) is None
    assert len(await rescue(jobs)) == 1


async def test_a_lease_that_ran_out_unnoticed_is_renewed(
    jobs: JobStateManager, redis: Redis
) -> None:
    await jobs.create_job(new())
    claim = await claim_one(jobs)
    await lose(redis, "w1")
    await jobs.heartbeat("w1", [claim.run_id])
    assert await rescue(jobs) == []
    assert await jobs.finish(ended(claim))


async def test_a_claim_whose_answer_was_lost_is_found_again(jobs: JobStateManager) -> None:
    for _ in range(3):
        await jobs.create_job(new())
    await jobs.heartbeat("w1", [], join=True)
    [known] = await jobs.claim("w1", "io", 1)
    lost = await jobs.claim("w1", "io", 1)  # imagine that this answer never came
    found = await jobs.claim("w1", "io", 1, known=[known.run_id])
    assert [claim.run_id for claim in found] == [claim.run_id for claim in lost]
    assert found[0].token > lost[0].token
    assert found[0].attempt == 1, "it did not run yet, so it is not charged"


async def test_a_cancelled_job_is_not_run_again_when_it_is_handed_back_or_lost(
    jobs: JobStateManager, redis: Redis
) -> None:
    for way in ("requeue", "rescue"):
        accepted = await jobs.create_job(new(max_attempts=3))
        claim = await claim_one(jobs, way)
        await jobs.cancel_job(accepted.run_id)
        if way == "requeue":
            await jobs.requeue([(claim.run_id, claim.token, None)], drained=True)
        else:
            await lose(redis, way)
            await rescue(jobs)
        record = await jobs.get_job(accepted.run_id)
        assert record is not None
        assert record.status is JobState.CANCELLED


@pytest.mark.parametrize("part", ["spec", "payload"])
async def test_a_job_of_bad_bytes_fails_and_harms_no_other(
    jobs: JobStateManager, redis: Redis, part: str
) -> None:
    corrupt, healthy = [(await jobs.create_job(new())).run_id for _ in range(2)]
    if part == "spec":
        await redis.hset(keys.job(corrupt), "spec", b"\xff{")
    else:
        await redis.hdel(keys.job(corrupt), "payload")
    await jobs.heartbeat("w1", [], join=True)
    assert [claim.run_id for claim in await jobs.claim("w1", "io", 5)] == [healthy]
    assert await redis.hget(keys.job(corrupt), "status") == b"failed"
    listed = [record.run_id for record in (await jobs.list_jobs()).jobs]
    assert listed == ([healthy] if part == "spec" else sorted([corrupt, healthy], reverse=True))
