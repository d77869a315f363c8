"""Workers that wait are called, and a single job is brought to one with the call."""

from typing import Any

import pytest
from redis.asyncio import Redis

from control import keys
from control.errors import BridgeUp
from control.flags.document import MAINTENANCE
from tests.job_steps import LEASE_S, ended, listening, lose, new, rescue
from worker.jobs import stored
from worker.jobs.job import Ask, Claim, JobRecord, JobState
from worker.jobs.manager import JobStateManager

NAME = "waiting"
LATE_MS = 4_000


@pytest.fixture
async def jobs(redis: Redis) -> JobStateManager:
    """The job engine, and a lease of the worker that waits."""
    made = JobStateManager(redis, result_ttl_s=600, lease_s=LEASE_S)
    await made.heartbeat(NAME, [], join=True)
    return made


async def wait(jobs: JobStateManager, offer: int = 1, **more: Any) -> list[Claim]:
    """Claim and offer; what was claimed. The offer stands."""
    ask = Ask(worker=NAME, lane="io", count=4, offer=offer, direct=True, **more)
    claims, stands = await jobs.claim_or_wait(ask)
    assert stands
    return claims


async def record(jobs: JobStateManager, run_id: str) -> JobRecord:
    found = await jobs.get_job(run_id)
    assert found is not None
    return found


async def submit(jobs: JobStateManager, **more: Any) -> str:
    return (await jobs.create_job(new(**more))).run_id


async def test_a_single_job_is_claimed_and_brought_in_the_step_that_accepts_it(
    jobs: JobStateManager, redis: Redis
) -> None:
    async with listening(redis) as ear:
        assert await wait(jobs, 17) == []
        job = new(timeout_s=3.0)
        await jobs.create_job(job)
        told = await record(jobs, job.run_id)
        assert (told.status, told.worker, told.attempt) == (JobState.RUNNING, NAME, 1)
        [call] = await ear.heard()
        number, claim = stored.call(call)
        assert number == 17
        assert claim is not None
        assert (claim.run_id, claim.attempt, claim.checkpoint) == (job.run_id, 1, None)
        assert (claim.spec, claim.payload) == (job.spec, job.payload)
        assert await jobs.finish(ended(claim, result=b"1"))
        assert await jobs.get_result(job.run_id) == b"1"


async def test_an_offer_is_good_for_one_call(jobs: JobStateManager, redis: Redis) -> None:
    async with listening(redis) as ear:
        await wait(jobs)
        first, second = await submit(jobs), await submit(jobs)
        assert len(await ear.heard()) == 1
        assert (await record(jobs, second)).status is JobState.QUEUED
        [claim] = await wait(jobs, 2)
        assert claim.run_id == second != first


async def test_jobs_that_come_together_are_only_rung_for(
    jobs: JobStateManager, redis: Redis
) -> None:
    async with listening(redis) as ear:
        await wait(jobs, 5)
        made = [new(), new()]
        await jobs.create_jobs(made)
        assert await ear.heard() == [b"5\n"]
        assert {claim.run_id for claim in await wait(jobs)} == {job.run_id for job in made}


async def test_who_does_not_take_jobs_directly_is_only_rung(
    jobs: JobStateManager, redis: Redis
) -> None:
    async with listening(redis) as ear, listening(redis, "other") as other:
        await ear.offer(3, direct=False)
        await other.offer(3, direct=False)
        run_id = await submit(jobs)
        assert await ear.heard() + await other.heard() == [b"3\n"], "one job, one call"
        assert (await record(jobs, run_id)).status is JobState.QUEUED


async def test_a_delayed_job_is_brought_by_nobody_yet(jobs: JobStateManager, redis: Redis) -> None:
    async with listening(redis) as ear:
        await wait(jobs)
        later = await submit(jobs, run_at_ms=4_000_000_000_000)
        assert await ear.heard() == []
        await redis.zadd(keys.DUE, {later: 1})
        await jobs.promote()
        assert await ear.heard() == [b"1\n"]


async def test_under_maintenance_nothing_is_brought(jobs: JobStateManager, redis: Redis) -> None:
    asking: Any = redis
    async with listening(redis) as ear:
        await wait(jobs)
        await asking.hset(keys.FLAGS, MAINTENANCE, "1")
        with pytest.raises(BridgeUp):
            await submit(jobs)
        assert await ear.heard() == []


async def test_who_listens_no_longer_is_passed_over(jobs: JobStateManager, redis: Redis) -> None:
    """Also while somebody listens to everything, as an operator may."""
    asking: Any = redis
    async with redis.pubsub() as everything:
        await everything.psubscribe("*")
        await everything.get_message(timeout=60)
        await _pass_over(jobs, redis, asking)


async def _pass_over(jobs: JobStateManager, redis: Redis, asking: Any) -> None:
    for gone in range(20):
        await asking.hset(keys.offers("io"), f"gone {gone}", "1 1 {}")
    async with listening(redis) as ear:
        await ear.offer()
        while not await ear.heard():  # chance decides who is asked first
            await submit(jobs)
        await asking.hset(keys.offers("io"), "gone", "1 1 {}")
    run_id = await submit(jobs)
    assert (await record(jobs, run_id)).status is JobState.QUEUED
    assert await asking.hlen(keys.offers("io")) == 0
    async with listening(redis) as ear:
        await asking.hset(keys.offers("io"), "gone", "1 1 {}")
        await ear.offer(4)
        await jobs.create_jobs([new(), new()])
        assert await ear.heard() == [b"4\n"]
        await jobs.create_jobs([new(), new()])
        assert await asking.hlen(keys.offers("io")) == 0


async def test_the_job_whose_turn_it_is_is_brought_and_the_other_rung_for(
    jobs: JobStateManager, redis: Redis
) -> None:
    older = await submit(jobs)
    async with listening(redis) as ear, listening(redis, "other") as other:
        await ear.offer()
        newer = await submit(jobs)
        [call] = await ear.heard()
        _, claim = stored.call(call)
        assert claim is not None
        assert claim.run_id == older
        assert (await record(jobs, newer)).status is JobState.QUEUED
        await submit(jobs)
        await ear.offer(2)
        await other.offer(2)
        await submit(jobs)
        calls = await ear.heard() + await other.heard()
        assert b"2\n" in calls, "what is left is for another one"
        assert len(calls) == 2


async def test_a_kind_that_has_no_slot_is_not_brought(jobs: JobStateManager, redis: Redis) -> None:
    few = {"few": 1}
    async with listening(redis) as ear:
        await wait(jobs, 1, limits=few)
        first = await submit(jobs, kind="few")
        [call] = await ear.heard()
        await wait(jobs, 2, limits=few)
        second = await submit(jobs, kind="few")
        assert await ear.heard() == [b"2\n"]
        assert (await record(jobs, second)).status is JobState.QUEUED
        _, claim = stored.call(call)
        assert claim is not None
        assert claim.run_id == first
        await jobs.finish(ended(claim))
        [next_one] = await wait(jobs, 3, limits=few)
        assert next_one.run_id == second


async def test_what_a_withdrawn_offer_brought_is_claimed_under_a_newer_token(
    jobs: JobStateManager, redis: Redis
) -> None:
    async with listening(redis) as ear:
        await wait(jobs)
        await submit(jobs)
        [call] = await ear.heard()
        _, before = stored.call(call)
        assert before is not None
        [again] = await wait(jobs, 2, known=[])
        assert (again.run_id, again.attempt) == (before.run_id, 1)
        assert again.token > before.token
        assert not await jobs.finish(ended(before, result=b"twice"))
        assert await jobs.finish(ended(again, result=b"once"))


@pytest.mark.parametrize("said", ["nothing", "with a claim", "with a heartbeat"])
async def test_a_job_that_did_not_come_is_taken_by_others_uncharged(
    jobs: JobStateManager, redis: Redis, said: str
) -> None:
    async with listening(redis) as ear:
        await wait(jobs)
        run_id = await submit(jobs)
        [call] = await ear.heard()
    _, claim = stored.call(call)
    assert claim is not None
    await redis.zincrby(keys.HANDED, 60_000, f"{run_id} {claim.token}")
    assert await rescue(jobs) == [], "it may still come"
    await redis.zincrby(keys.HANDED, -60_000 - LATE_MS, f"{run_id} {claim.token}")
    match said:
        case "with a claim":
            await wait(jobs, 2, came=claim)
        case "with a heartbeat":
            await jobs.heartbeat(NAME, [run_id])
        case _:
            due_in_s = (await jobs.heartbeat("judge", [], join=True)).lease_ends_in_s
            assert due_in_s is not None
            assert due_in_s <= 0
    taken = [(job.run_id, job.worker, job.outcome) for job in await rescue(jobs)]
    found = await record(jobs, run_id)
    if said == "nothing":
        assert taken == [(run_id, NAME, "queued")]
        assert (found.status, found.attempt, found.drain_requeues) == (JobState.QUEUED, 0, 0)
        assert not await jobs.finish(ended(claim, result=b"late"))
        [again] = await jobs.claim("judge", "io", 1)
        assert again.run_id == run_id
    else:
        assert taken == []
        assert found.status is JobState.RUNNING
    assert not await redis.exists(keys.HANDED)


async def test_a_job_that_came_and_went_on_is_nobody_s_to_take(
    jobs: JobStateManager, redis: Redis
) -> None:
    async with listening(redis) as ear:
        await wait(jobs)
        run_id = await submit(jobs)
        _, claim = stored.call((await ear.heard())[0])
    assert claim is not None
    await jobs.requeue([(run_id, claim.token, None)], drained=True)
    [other] = await jobs.claim(NAME, "io", 1)
    await redis.zincrby(keys.HANDED, -LATE_MS, f"{run_id} {claim.token}")
    assert await rescue(jobs) == []
    assert await jobs.finish(ended(other, result=b"1"))


async def test_who_leaves_or_is_lost_is_called_no_more(jobs: JobStateManager, redis: Redis) -> None:
    for end in ("left", "lost"):
        await jobs.heartbeat(NAME, [], join=True)
        await wait(jobs)
        if end == "left":
            await jobs.leave(NAME)
        else:
            await lose(redis, NAME)
            await rescue(jobs)
        assert not await redis.exists(keys.offers("io")), end


@pytest.mark.parametrize("damage", ["queue", "offer", "packed"])
async def test_what_cannot_be_brought_is_accepted_all_the_same(
    jobs: JobStateManager, redis: Redis, damage: str
) -> None:
    asking: Any = redis
    async with listening(redis) as ear:
        await wait(jobs)
        job = new()
        match damage:
            case "queue":
                await redis.set(keys.queue("io", "returned"), "no stream")
            case "offer":
                await asking.hset(keys.offers("io"), NAME, "rubbish")
            case _:
                job = new(payload=b'"' + b"x" * 100_000 + b'"')
        await jobs.create_job(job)
        [call] = await ear.heard()
        if damage == "packed":
            with pytest.raises(ValueError, match="packed"):
                stored.call(call)
            [claim] = await wait(jobs, 2, known=[])
            assert claim.payload == job.payload
        else:
            assert stored.call(call)[1] is None
            assert (await record(jobs, job.run_id)).status is JobState.QUEUED
