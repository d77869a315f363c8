"""Calls that meet: whatever their order, each job ends once, and nothing of it stays. And a Redis
that is full: what it holds gets done."""

import asyncio
import random
from collections.abc import AsyncIterator
from operator import itemgetter
from typing import Any

import pytest
from redis.asyncio import Redis

from control import keys
from control.errors import StoreUnavailable
from tests.job_steps import LEASE_S, claim_one, ended, new, rescue
from worker.jobs.errors import JobFinished
from worker.jobs.job import JobState
from worker.jobs.manager import JobStateManager

MANY = 1_000


def manager(redis: Redis, lease_s: float = LEASE_S) -> JobStateManager:
    return JobStateManager(redis, result_ttl_s=600, lease_s=lease_s)


@pytest.fixture
def jobs(redis: Redis) -> JobStateManager:
    return manager(redis)


async def meeting(calls: list[Any]) -> list[Any]:
    """What the calls answer, in their order, when they are sent at once in any other: scripts are
    carried out one by one, so the order is all that a race can be."""
    order = list(range(len(calls)))
    random.Random(5).shuffle(order)
    shuffled = await asyncio.gather(*(calls[at] for at in order), return_exceptions=True)
    return [answer for _, answer in sorted(zip(order, shuffled, strict=True), key=itemgetter(0))]


async def race(jobs: JobStateManager) -> int:
    """A thousand cancels against as many finishes; how many came too late."""
    await asyncio.gather(*(jobs.create_job(new(unique=str(n))) for n in range(MANY)))
    await jobs.heartbeat("w1", [], join=True)
    claims = await jobs.claim("w1", "io", MANY, limits={"demo": MANY})
    assert len(claims) == MANY
    answers = await meeting(
        [jobs.finish_all([ended(claim)]) for claim in claims]
        + [jobs.cancel_job(claim.run_id) for claim in claims]
    )
    finishes, cancels = answers[:MANY], answers[MANY:]
    assert all(held == [True] for held in finishes), "a cancel only marks what runs"
    late = [isinstance(answer, JobFinished) for answer in cancels]
    assert all(is_late or a is JobState.RUNNING for is_late, a in zip(late, cancels, strict=True))
    for claim in claims:
        record = await jobs.get_job(claim.run_id)
        assert record is not None
        assert record.status is JobState.COMPLETED
    return sum(late)


async def test_a_thousand_cancels_meet_a_thousand_finishes(
    jobs: JobStateManager, redis: Redis
) -> None:
    for _ in range(10):
        if 0 < await race(jobs) < MANY:
            break  # else one side was through before the other began
    else:
        pytest.fail("the race was no race")
    left = {key.decode() async for key in redis.scan_iter(count=1000)}
    assert not [key for key in left if "unique:" in key or "slots:" in key]
    assert await redis.xlen(keys.queue("io", "normal")) == 0


async def test_a_thousand_cancels_meet_the_claims(jobs: JobStateManager) -> None:
    """A job is cancelled before it began, or runs and is told to stop; never both or neither."""
    made = await asyncio.gather(*(jobs.create_job(new()) for _ in range(MANY)))
    run_ids = [each.run_id for each in made]
    await jobs.heartbeat("w1", [], join=True)
    answers = await meeting(
        [jobs.cancel_job(run_id) for run_id in run_ids]
        + [jobs.claim("w1", "io", 7) for _ in range(100)]
    )
    told = {r for r, a in zip(run_ids, answers[:MANY], strict=True) if a is JobState.RUNNING}
    running = {claim.run_id for claims in answers[MANY:] for claim in claims}
    assert told == running, "each that ran was told to stop"
    assert 0 < len(running) < MANY, "the race was no race"
    assert set((await jobs.heartbeat("w1", list(running))).stop) == running
    for run_id in set(run_ids) - running:
        record = await jobs.get_job(run_id)
        assert record is not None
        assert (record.status, record.attempt) == (JobState.CANCELLED, 0)


@pytest.fixture
async def room_again(redis: Redis) -> AsyncIterator[None]:
    """There is room again at the end."""
    yield
    await redis.config_set("maxmemory", "0")


async def test_a_full_redis_takes_nothing_new_and_lets_the_rest_get_done(
    jobs: JobStateManager, redis: Redis, room_again: None
) -> None:
    made = [await jobs.create_job(new(max_attempts=3)) for _ in range(5)]
    await redis.config_set("maxmemory", "1")
    with pytest.raises(StoreUnavailable, match="out of memory"):
        await jobs.create_job(new())
    retried = await claim_one(jobs)
    assert await jobs.finish(ended(retried, JobState.SCHEDULED, retry_in_ms=0))
    assert await jobs.promote() == (1, None)
    given_back = await claim_one(jobs)
    assert await jobs.requeue([(given_back.run_id, given_back.token, None)], drained=True) == [True]
    await claim_one(manager(redis, lease_s=0), "w2")
    assert len(await rescue(jobs)) == 1
    assert await jobs.cancel_job(made[-1].run_id) is JobState.CANCELLED
    await jobs.heartbeat("w1", [])
    while claims := await jobs.claim("w1", "io", 9):
        assert all(await jobs.finish_all([ended(claim, result=b"1") for claim in claims]))
    for accepted in made[:-1]:
        assert await jobs.get_result(accepted.run_id) == b"1"
    await jobs.leave("w1")
