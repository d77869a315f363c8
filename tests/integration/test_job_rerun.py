"""Dead jobs: what failed for good is kept with what it was given, and can be run again."""

import asyncio

import pytest
from redis.asyncio import Redis

from control import keys
from control.errors import BridgeUp
from control.flags.document import MAINTENANCE
from control.ids import new_id
from tests.job_steps import LEASE_S, claim_one, ended, lose, new, rescue
from worker.jobs.errors import JobNotFailed, UnknownJob
from worker.jobs.job import Claim, JobError, JobState
from worker.jobs.manager import JobStateManager, Progress

FAILURE = JobError("E", "m")


@pytest.fixture
def jobs(redis: Redis) -> JobStateManager:
    return JobStateManager(redis, result_ttl_s=600, lease_s=LEASE_S)


async def failed(jobs: JobStateManager, **spec: object) -> Claim:
    await jobs.create_job(new(**spec))
    claim = await claim_one(jobs)
    await jobs.report(Progress(claim.run_id, claim.token, {"step": 1}, b'{"at":1}'))
    assert await jobs.finish(ended(claim, JobState.FAILED, error=FAILURE, result=b"1"))
    return claim


async def test_it_runs_again_as_if_it_were_new(jobs: JobStateManager, redis: Redis) -> None:
    first = await failed(jobs, priority="high", max_attempts=2)
    await jobs.rerun_job(first.run_id)
    record = await jobs.get_job(first.run_id)
    assert record is not None
    assert (record.status, record.attempt, record.max_attempts) == (JobState.QUEUED, 0, 2)
    assert (record.error, record.progress, record.finished_at) == (None, None, None)
    assert await jobs.get_result(first.run_id) is None
    assert await redis.ttl(keys.job(first.run_id)) == -1, "it is live and must not expire"
    assert (await jobs.list_jobs(status=JobState.FAILED)).jobs == []

    second = await claim_one(jobs)
    assert (second.run_id, second.payload, second.attempt) == (first.run_id, first.payload, 1)
    assert second.checkpoint is None
    assert not await jobs.finish(ended(first)), "its token is of its former life"
    await lose(redis, "w1")
    assert [job.outcome for job in await rescue(jobs)] == ["queued"], "it has two attempts again"
    assert await jobs.finish(ended(await claim_one(jobs, "w2"), result=b"2"))
    assert await jobs.get_result(first.run_id) == b"2"


async def test_its_events_go_on(jobs: JobStateManager) -> None:
    claim = await failed(jobs)
    before = await jobs.events_after(claim.run_id, None)
    assert before[-1].type == "end"
    await jobs.rerun_job(claim.run_id)
    [event] = await jobs.events_after(claim.run_id, before[-1].id)
    assert '"status":"queued"' in event.data


async def test_only_what_failed_runs_again(jobs: JobStateManager) -> None:
    with pytest.raises(UnknownJob):
        await jobs.rerun_job(new_id())
    accepted = await jobs.create_job(new())
    for status in (JobState.QUEUED, JobState.RUNNING, JobState.COMPLETED):
        if status is JobState.RUNNING:
            claim = await claim_one(jobs)
        elif status is JobState.COMPLETED:
            await jobs.finish(ended(claim))
        with pytest.raises(JobNotFailed) as refused:
            await jobs.rerun_job(accepted.run_id)
        assert refused.value.status is status


async def test_a_cancel_of_its_former_life_does_not_stop_it(jobs: JobStateManager) -> None:
    await jobs.create_job(new())
    claim = await claim_one(jobs)
    await jobs.cancel_job(claim.run_id)
    await jobs.finish(ended(claim, JobState.FAILED, error=FAILURE))  # it failed before it heard
    await jobs.rerun_job(claim.run_id)
    assert (await claim_one(jobs)).run_id == claim.run_id
    assert (await jobs.heartbeat("w1", [claim.run_id])).stop == []


async def test_fifty_at_once_queue_it_once(jobs: JobStateManager, redis: Redis) -> None:
    claim = await failed(jobs)
    answers = await asyncio.gather(
        *(jobs.rerun_job(claim.run_id) for _ in range(50)), return_exceptions=True
    )
    assert sum(answer is None for answer in answers) == 1
    assert sum(isinstance(answer, JobNotFailed) for answer in answers) == 49
    assert len(await jobs.claim("w1", "io", 9)) == 1


async def test_nothing_runs_again_under_maintenance(jobs: JobStateManager, redis: Redis) -> None:
    claim = await failed(jobs)
    await redis.hset(keys.FLAGS, MAINTENANCE, "1")
    with pytest.raises(BridgeUp):
        await jobs.rerun_job(claim.run_id)
    record = await jobs.get_job(claim.run_id)
    assert record is not None
    assert record.status is JobState.FAILED
