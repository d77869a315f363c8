"""A kind of which only so many jobs run at once: exact over the fleet, whatever happens to its
runs, and no hindrance to anybody else."""

import random

import pytest
from redis.asyncio import Redis

from control import keys
from tests.job_steps import LEASE_S, ended, listening, lose, new, rescue
from worker.jobs.errors import JobFinished
from worker.jobs.job import Claim, JobError, JobState
from worker.jobs.manager import JobStateManager

FEW = {"few": 2}
WORKERS = ("w1", "w2", "w3")


@pytest.fixture
async def jobs(redis: Redis) -> JobStateManager:
    jobs = JobStateManager(redis, result_ttl_s=600, lease_s=LEASE_S)
    for worker in WORKERS:
        await jobs.heartbeat(worker, [], join=True)
    return jobs


async def submit(jobs: JobStateManager, count: int, kind: str = "few", **spec: object) -> list[str]:
    return [(await jobs.create_job(new(kind, **spec))).run_id for _ in range(count)]


async def claim(jobs: JobStateManager, count: int = 10, worker: str = "w1") -> list[Claim]:
    return await jobs.claim(worker, "io", count, limits=FEW)


async def test_no_more_run_than_may_and_others_pass_them(jobs: JobStateManager) -> None:
    few = await submit(jobs, 600)
    [other] = await submit(jobs, 1, "other")
    found = await claim(jobs, 1)
    while len(found) < 3:
        found += await claim(jobs, 1, random.choice(WORKERS))
    assert [each.run_id for each in found] == [*few[:2], other]
    assert await claim(jobs) == []
    held = await jobs.get_job(few[2])
    assert held is not None
    assert (held.status, held.attempt) == (JobState.QUEUED, 0)


async def test_the_end_of_a_run_rings_for_the_next(jobs: JobStateManager, redis: Redis) -> None:
    few = await submit(jobs, 4)
    one, two = await claim(jobs)
    async with listening(redis) as waiting:
        await waiting.offer(1)
        assert await jobs.finish(ended(one))
        assert await waiting.heard() == [b"1\n"]
        [three] = await claim(jobs, worker="w2")
        assert three.run_id in few[2:]
        await waiting.offer(2)
        assert await jobs.requeue([(two.run_id, two.token, None)], drained=True) == [True]
        assert await waiting.heard() == [b"2\n"]
    [again] = await claim(jobs, worker="w3")
    assert again.run_id == two.run_id


async def test_held_jobs_go_by_priority_then_in_order(jobs: JobStateManager) -> None:
    running = await submit(jobs, 2)
    low = await submit(jobs, 2, priority="low")
    found = await claim(jobs)
    assert [each.run_id for each in found] == running
    high = await submit(jobs, 2, priority="high")
    assert await claim(jobs) == []
    order = []
    while found:
        assert await jobs.finish(ended(found.pop()))
        found += await claim(jobs)
        order += [each.run_id for each in found if each.run_id not in order]
    order = [each for each in order if each not in running]
    assert (set(order[:2]), set(order[2:])) == (set(high), set(low))  # a millisecond may be shared


async def test_a_held_job_is_cancelled_and_listed_like_any_other(
    jobs: JobStateManager, redis: Redis
) -> None:
    few = await submit(jobs, 3)
    await claim(jobs)
    queued = await jobs.list_jobs(status=JobState.QUEUED)
    assert [record.run_id for record in queued.jobs] == [few[2]]
    assert await jobs.cancel_job(few[2]) is JobState.CANCELLED
    assert not await redis.exists(keys.held("few"))


async def test_a_limit_that_was_raised_counts_from_the_next_claim(jobs: JobStateManager) -> None:
    await submit(jobs, 9)
    assert len(await claim(jobs)) == 2
    assert len(await jobs.claim("w1", "io", 10, limits={"few": 5})) == 3
    assert await claim(jobs) == []


async def test_a_spoilt_record_does_not_keep_its_slot(jobs: JobStateManager, redis: Redis) -> None:
    await submit(jobs, 4)
    one, two = await claim(jobs)
    await redis.delete(keys.job(one.run_id))
    await redis.set(keys.job(two.run_id), "no hash")
    found: list[Claim] = []
    for _ in range(50):  # each looks at one slot, whichever
        found += await claim(jobs)
    assert len(found) == 2


async def test_exact_whatever_happens(jobs: JobStateManager, redis: Redis) -> None:
    """Random fates for limited and other jobs on three workers; after each step no more run than
    may, and the slots are those of the runs."""
    draw = random.Random(11)
    submitted: list[str] = []
    held: dict[str, list[Claim]] = {worker: [] for worker in WORKERS}

    async def fate(worker: str) -> None:
        claims = held[worker]
        match draw.choice(("claim", "claim", "lost answer", "finish", "retry", "back", "cancel",
                           "die")):  # fmt: skip
            case "claim":
                claims += await claim(jobs, draw.randint(1, 4), worker)
            case "lost answer":
                await claim(jobs, draw.randint(1, 4), worker)
                known = [each.run_id for each in claims]
                if draw.random() < 0.5:
                    await jobs.withdraw(worker, "io", known)
                else:
                    claims += await jobs.claim(worker, "io", 1, limits=FEW, known=known)
            case "finish" if claims:
                assert await jobs.finish(ended(claims.pop()))
            case "retry" if claims:
                again = ended(claims.pop(), JobState.SCHEDULED, error=JobError("E", "m"))
                assert await jobs.finish(again)
                await jobs.promote()
            case "back" if claims:
                last = claims.pop()
                assert await jobs.requeue([(last.run_id, last.token, None)], drained=True) == [True]
            case "cancel":
                run_id = draw.choice(submitted)
                try:
                    running = await jobs.cancel_job(run_id) is JobState.RUNNING
                except JobFinished:
                    return
                for claims in held.values() if running else ():
                    for each in [each for each in claims if each.run_id == run_id]:
                        claims.remove(each)
                        assert await jobs.finish(ended(each, JobState.CANCELLED))
            case "die":
                await lose(redis, worker)
                assert {job.run_id for job in await rescue(jobs)} == {c.run_id for c in claims}
                claims.clear()
                await jobs.heartbeat(worker, [], join=True)

    most = 0
    for step in range(600):
        if step % 3 == 0:
            kind = draw.choice(("few", "few", "other"))
            submitted += await submit(
                jobs, 1, kind, max_attempts=99, priority=draw.choice(keys.PRIORITIES)
            )
        await fate(draw.choice(WORKERS))
        running = {c.run_id for claims in held.values() for c in claims if c.spec.kind == "few"}
        slots = {run_id.decode() for run_id in await redis.smembers(keys.slots("few"))}
        assert slots == running
        most = max(most, len(running))
        assert most <= FEW["few"]
    assert most == FEW["few"]

    while left := [each for claims in held.values() for each in claims] or await claim(jobs):
        held.clear()
        assert all(await jobs.finish_all([ended(each) for each in left]))
    records = [await jobs.get_job(run_id) for run_id in submitted]
    assert all(record is not None and record.status.finished for record in records)
    assert not await redis.exists(keys.slots("few"), keys.held("few"))
