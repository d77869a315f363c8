"""Unique jobs: one live job for each key of a kind, whatever happens at once."""

import asyncio

import pytest
from redis.asyncio import Redis

from control import keys
from tests.job_steps import LEASE_S, claim_one, ended, lose, new, rescue
from worker.jobs.errors import JobNotFailed, UniqueKeyTaken
from worker.jobs.job import JobError, JobState
from worker.jobs.manager import JobStateManager

FAILURE = JobError("E", "m")


@pytest.fixture
def jobs(redis: Redis) -> JobStateManager:
    return JobStateManager(redis, result_ttl_s=600, lease_s=LEASE_S)


async def test_fifty_at_once_make_one_job(jobs: JobStateManager) -> None:
    answers = await asyncio.gather(*(jobs.create_job(new(unique="u")) for _ in range(50)))
    assert len({answer.run_id for answer in answers}) == 1
    assert sum(answer.created for answer in answers) == 1
    [record] = (await jobs.list_jobs()).jobs
    assert record.unique == "u"


async def test_a_key_is_of_one_kind(jobs: JobStateManager) -> None:
    answers = [await jobs.create_job(new(kind, unique="u")) for kind in ("one", "other", "one")]
    assert [answer.created for answer in answers] == [True, True, False]


@pytest.mark.parametrize("end", ["completed", "failed", "cancelled", "cancelled while it waits",
                                 "cancelled while it runs", "lost"])  # fmt: skip
async def test_the_end_of_a_job_frees_its_key(
    jobs: JobStateManager, redis: Redis, end: str
) -> None:
    first = await jobs.create_job(new(unique="u"))
    match end:
        case "cancelled while it waits":
            await jobs.cancel_job(first.run_id)
        case "cancelled while it runs":
            claim = await claim_one(jobs)
            await jobs.cancel_job(first.run_id)
            await jobs.requeue([(claim.run_id, claim.token, None)], drained=True)
        case "lost":
            await claim_one(jobs)
            await lose(redis, "w1")
            await rescue(jobs)
        case _:
            claim = await claim_one(jobs)
            again = await jobs.create_job(new(unique="u"))
            assert (again.run_id, again.created) == (first.run_id, False)
            assert again.status is JobState.RUNNING
            await jobs.finish(ended(claim, JobState(end)))
    assert [key async for key in redis.scan_iter(f"{keys.JOBS}unique:*")] == []
    assert (await jobs.create_job(new(unique="u"))).created


@pytest.mark.parametrize("way", ["retry", "requeue", "rescue"])
async def test_a_job_that_goes_on_keeps_its_key(
    jobs: JobStateManager, redis: Redis, way: str
) -> None:
    first = await jobs.create_job(new(unique="u", max_attempts=3))
    claim = await claim_one(jobs)
    match way:
        case "retry":
            await jobs.finish(ended(claim, JobState.SCHEDULED, retry_in_ms=60_000))
        case "requeue":
            await jobs.requeue([(claim.run_id, claim.token, None)], drained=True)
        case "rescue":
            await lose(redis, "w1")
            await rescue(jobs)
    assert (await jobs.create_job(new(unique="u"))).run_id == first.run_id


async def test_an_idempotency_key_remembers_the_job_that_a_unique_key_gave(
    jobs: JobStateManager,
) -> None:
    first = await jobs.create_job(new(unique="u"))
    given = await jobs.create_job(new(unique="u", key="k", digest="d"))
    assert (given.run_id, given.created) == (first.run_id, False)
    await jobs.cancel_job(first.run_id)
    again = await jobs.create_job(new(unique="u", key="k", digest="d"))
    assert (again.run_id, again.created) == (first.run_id, False)


async def test_a_key_whose_job_was_spoilt_is_anybodys(jobs: JobStateManager, redis: Redis) -> None:
    first = await jobs.create_job(new(unique="u"))
    await redis.set(keys.job(first.run_id), "no hash")
    second = await jobs.create_job(new(unique="u"))
    assert second.created
    assert (await jobs.create_job(new(unique="u"))).run_id == second.run_id


async def test_a_failed_job_does_not_run_again_beside_one_with_its_key(
    jobs: JobStateManager,
) -> None:
    first = await jobs.create_job(new(unique="u"))
    await jobs.finish(ended(await claim_one(jobs), JobState.FAILED, error=FAILURE))
    second = await jobs.create_job(new(unique="u"))
    with pytest.raises(UniqueKeyTaken) as refused:
        await jobs.rerun_job(first.run_id)
    assert refused.value.holder == second.run_id
    await jobs.cancel_job(second.run_id)
    await jobs.rerun_job(first.run_id)
    assert (await jobs.create_job(new(unique="u"))).run_id == first.run_id
    with pytest.raises(JobNotFailed):
        await jobs.rerun_job(first.run_id)
