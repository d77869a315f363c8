"""The gate inside the scripts: under a raised bridge nothing is accepted and nothing is claimed,
and there is no moment between the look at the flag and the act."""

import asyncio
import random
from typing import Any

import pytest
from redis.asyncio import Redis

from control import keys
from control.errors import BridgeUp, ControlStateStale
from control.flags.document import MAINTENANCE, redis_value_to_bool
from control.stores.wire import Wire
from tests.conftest import open_gate
from tests.job_steps import LEASE_S, claim_one, new
from worker.jobs.job import JobState
from worker.jobs.manager import JobStateManager

TRIALS = 10_000

WORDS: list[Any] = [
    1, 0, "1", "0", "true", "false", "True", "False", "TRUE", "on", "Off", "yes", "no", "y", "N",
    b"true", " true ", "\n0\t", '"False"', "'1'", "", "none", "null", "2", "-1", "maybe",
    "truefalse", "0x1", b"\xff", "\\", "%s",
]  # fmt: skip


@pytest.fixture
def jobs(redis: Redis) -> JobStateManager:
    return JobStateManager(redis, result_ttl_s=600, lease_s=LEASE_S)


async def raise_bridge(redis: Redis, value: Any = "1") -> None:
    """Write the flag as the projection does."""
    writing: Any = redis  # redis-py types both ways at once
    await writing.hset(keys.FLAGS, MAINTENANCE, value)


async def test_nothing_is_accepted_or_claimed_under_maintenance(
    jobs: JobStateManager, redis: Redis
) -> None:
    await jobs.create_job(new())
    await jobs.heartbeat("w1", [], join=True)
    await raise_bridge(redis)
    with pytest.raises(BridgeUp):
        await jobs.create_job(new())
    with pytest.raises(BridgeUp):
        await jobs.claim("w1", "io", 1)
    await raise_bridge(redis, "0")
    assert len(await jobs.claim("w1", "io", 5)) == 1


@pytest.mark.parametrize("value", WORDS)
async def test_what_others_wrote_is_read_as_the_boolean_it_means(
    jobs: JobStateManager, redis: Redis, value: Any
) -> None:
    """The scripts and Python read alike; what means nothing lets nothing pass."""
    await jobs.heartbeat("w1", [], join=True)
    await raise_bridge(redis, value)
    match redis_value_to_bool(await redis.hget(keys.FLAGS, MAINTENANCE)):
        case False:
            await jobs.create_job(new())
            assert len(await jobs.claim("w1", "io", 1)) == 1
            return
        case up:
            refusal = BridgeUp if up else ControlStateStale
    with pytest.raises(refusal):
        await jobs.create_job(new())
    with pytest.raises(refusal):
        await jobs.claim("w1", "io", 1)


@pytest.mark.parametrize("damage", ["empty", "no field", "no hash"])
async def test_without_a_projection_nothing_passes(
    jobs: JobStateManager, redis: Redis, damage: str
) -> None:
    await redis.flushall()
    if damage != "empty":
        await open_gate(redis)
    if damage == "no field":
        await redis.hdel(keys.FLAGS, MAINTENANCE)
    if damage == "no hash":
        await redis.set(keys.FLAGS, "0")
    await jobs.heartbeat("w1", [], join=True)
    with pytest.raises(ControlStateStale):
        await jobs.create_job(new())
    with pytest.raises(ControlStateStale):
        await jobs.claim("w1", "io", 1)


async def test_jobs_become_due_and_end_under_maintenance(
    jobs: JobStateManager, redis: Redis
) -> None:
    """Only accepting and claiming stop; what was let in before is carried to its end."""
    await jobs.create_job(new())
    later = await jobs.create_job(new(run_at_ms=4_000_000_000_000))
    claim = await claim_one(jobs)
    await raise_bridge(redis)
    await redis.zadd(keys.DUE, {later.run_id: 1})
    assert await jobs.promote() == (1, None)
    await jobs.heartbeat("w1", [claim.run_id])
    await jobs.update_job_status(claim.run_id, JobState.COMPLETED, token=claim.token, result=b"1")
    assert await jobs.get_result(claim.run_id) == b"1"


async def test_claims_whose_answers_were_lost_are_given_back_under_maintenance(
    jobs: JobStateManager, redis: Redis
) -> None:
    run_ids = {(await jobs.create_job(new())).run_id for _ in range(30)}
    await jobs.heartbeat("w1", [], join=True)
    held = [claim.run_id for claim in await jobs.claim("w1", "io", 4)]
    await jobs.claim("w1", "io", 20)  # imagine that this answer never came
    await raise_bridge(redis)
    assert await jobs.withdraw("w1", "io", held) == 20
    records = [await jobs.get_job(run_id) for run_id in run_ids - set(held)]
    assert [(r.status, r.attempt) for r in records if r] == [(JobState.QUEUED, 0)] * 26
    assert await jobs.withdraw("w1", "io", held) == 0


PROJECT = """
redis.call('HSET', KEYS[1], ARGV[1], '1')
return { redis.call('XLEN', KEYS[2]), redis.call('XPENDING', KEYS[2], 'workers')[1] }
"""


async def test_nothing_is_accepted_or_claimed_after_the_projection(
    jobs: JobStateManager, redis: Redis
) -> None:
    """The projection counts, in its own step, what was let in before it; in the end it must be the
    same. Each call has a connection of its own, so Redis alone decides the order."""
    stream, flags = keys.queue("io", "normal"), Wire(redis)
    one, two, three = (JobStateManager(redis, result_ttl_s=600, lease_s=LEASE_S) for _ in range(3))
    passed = refused = 0

    async def let_in() -> list[int]:
        """How many jobs were accepted, how many claimed."""
        pending, *_ = await flags("XPENDING", stream, "workers")
        return [await flags("XLEN", stream), pending]

    async def project() -> Any:
        return await flags("EVAL", PROJECT, 2, keys.FLAGS, stream, MAINTENANCE)

    await jobs.create_job(new())
    await claim_one(jobs)
    for _ in range(TRIALS):
        await raise_bridge(redis, "0")
        accepted, claimed = await let_in()
        if accepted - claimed < 4:
            await asyncio.gather(*(jobs.create_job(new()) for _ in range(200)))
        racing = [one.claim("w1", "io", 1), two.create_job(new()), three.claim("w1", "io", 1)]
        at = random.randint(0, len(racing))
        results: list[Any] = await asyncio.gather(
            *racing[:at], project(), *racing[at:], return_exceptions=True
        )
        before = results.pop(at)
        assert await let_in() == before
        refused += sum(isinstance(result, BridgeUp) for result in results)
        passed += sum(not isinstance(result, BaseException) for result in results)
    assert passed + refused == 3 * TRIALS
    assert min(passed, refused) > TRIALS / 10, "the race was no race"
