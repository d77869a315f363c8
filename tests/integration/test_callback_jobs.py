"""A job that names a callback makes one in the step that ends it, whichever ends it."""

import json
import re
from importlib.resources import files

import pytest
from redis.asyncio import Redis

from control import keys
from tests.job_steps import LEASE_S, claim_one, ended, lose, new, rescue
from worker.callback import Ending
from worker.jobs import stored
from worker.jobs.job import Claim, JobError, JobState
from worker.jobs.manager import JobStateManager

URL = "https://example.org/told?token=t"


@pytest.fixture
def jobs(redis: Redis) -> JobStateManager:
    return JobStateManager(redis, result_ttl_s=600, lease_s=LEASE_S)


async def callbacks(jobs: JobStateManager) -> list[Claim]:
    """The callbacks that wait, claimed."""
    await jobs.heartbeat("caller", [], join=True)
    return await jobs.claim("caller", "io", 100)


async def the_callback_of(jobs: JobStateManager, run_id: str, status: str) -> None:
    """Exactly one waits, and it tells of this job's end what the record says."""
    [claim] = await callbacks(jobs)
    assert (claim.spec.kind, claim.spec.parent) == ("callback", run_id)
    assert (claim.spec.correlation_id, claim.spec.submitted_by) == ("corr-1", "ada")
    assert claim.spec.max_attempts == 10
    told = json.loads(claim.payload)
    assert told["url"] == URL
    record = await jobs.get_job(run_id)
    assert Ending(told["run_id"], told["url"], told["fields"]).record() == record
    assert record is not None
    assert record.status == status
    page = await jobs.list_jobs(kinds=["callback"])
    assert [(job.run_id, job.parent) for job in page.jobs] == [(claim.run_id, run_id)]


def calling(**spec: object):
    return new(callback_url=URL, submitted_by="ada", **spec)


@pytest.mark.parametrize("status", [JobState.COMPLETED, JobState.FAILED, JobState.CANCELLED])
async def test_the_end_of_a_run_makes_one(jobs: JobStateManager, status: JobState) -> None:
    made = calling(run_at_ms=1)
    await jobs.create_job(made)
    claim = await claim_one(jobs)
    failure = JobError("E", 'says "no"\n/ü') if status is JobState.FAILED else None
    outcome = ended(claim, status, error=failure, result=b"1", progress={"of": "ü/"})
    assert await jobs.finish(outcome)
    assert await jobs.finish(outcome)  # its answer was lost: it is sent again
    await the_callback_of(jobs, made.run_id, status.value)


async def test_a_retry_makes_none_and_the_end_after_it_one(jobs: JobStateManager) -> None:
    made = calling(max_attempts=2)
    await jobs.create_job(made)
    claim = await claim_one(jobs)
    assert await jobs.finish(ended(claim, JobState.SCHEDULED, retry_in_ms=0))
    assert await callbacks(jobs) == []
    await jobs.promote()
    assert await jobs.finish(ended(await claim_one(jobs)))
    await the_callback_of(jobs, made.run_id, "completed")


@pytest.mark.parametrize("waits", ["queued", "scheduled"])
async def test_a_cancel_makes_one(jobs: JobStateManager, waits: str) -> None:
    made = calling(run_at_ms=4_000_000_000_000 if waits == "scheduled" else None)
    await jobs.create_job(made)
    await jobs.cancel_job(made.run_id)
    await the_callback_of(jobs, made.run_id, "cancelled")


async def test_a_job_handed_back_after_its_cancel_makes_one(jobs: JobStateManager) -> None:
    made = calling()
    await jobs.create_job(made)
    claim = await claim_one(jobs)
    await jobs.cancel_job(made.run_id)
    assert await jobs.requeue([(claim.run_id, claim.token, None)], drained=True) == [True]
    await the_callback_of(jobs, made.run_id, "cancelled")


async def test_a_job_whose_workers_were_lost_makes_one(redis: Redis, jobs: JobStateManager) -> None:
    made = calling()
    await jobs.create_job(made)
    await claim_one(jobs)
    await lose(redis, "w1")
    [lost] = await rescue(jobs)
    assert lost.outcome == "failed"
    await the_callback_of(jobs, made.run_id, "failed")


async def test_a_job_that_names_none_makes_none(jobs: JobStateManager) -> None:
    sly = new(submitted_by='x","callback_url":"https://example.org/')
    await jobs.create_job(sly)
    claim = await claim_one(jobs)
    assert await jobs.finish(ended(claim))
    assert await callbacks(jobs) == []


async def test_the_callback_is_made_under_maintenance_and_waits(
    redis: Redis, jobs: JobStateManager
) -> None:
    made = calling()
    await jobs.create_job(made)
    claim = await claim_one(jobs)
    await redis.hset(keys.FLAGS, "app_maintenance", "1")
    assert await jobs.finish(ended(claim))
    await redis.hset(keys.FLAGS, "app_maintenance", "0")
    await the_callback_of(jobs, made.run_id, "completed")


def test_what_is_told_is_all_that_a_record_needs() -> None:
    text = files("worker.jobs").joinpath("lua", "ending.lua").read_text()
    [told] = re.findall(r"local TOLD = \{(.*?)\}", text, re.DOTALL)
    assert set(re.findall(r"'(\w+)'", told)) == set(stored.FIELDS)
