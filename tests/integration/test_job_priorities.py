"""The order in which jobs are claimed: the more urgent first, and yet nobody waits for ever."""

import random
import time
from itertools import pairwise

import pytest
from redis.asyncio import Redis

from control import keys
from tests.job_steps import LEASE_S, new
from worker.jobs.manager import JobStateManager

STEP_S = 30
"""What a step of priority is worth; PATIENCE_MS in records.lua."""

HANDICAP_S = {name: STEP_S * rank for rank, name in enumerate(keys.PRIORITIES)}


@pytest.fixture
async def jobs(redis: Redis) -> JobStateManager:
    jobs = JobStateManager(redis, result_ttl_s=600, lease_s=LEASE_S)
    await jobs.heartbeat("w1", [], join=True)
    return jobs


async def queued_ago(
    redis: Redis, jobs: JobStateManager, priority: str, *ages_s: float, now_s: float
) -> list[str]:
    """Jobs that were queued so long before ``now_s``, the oldest first; the queue has no others."""
    stream, now_ms = keys.queue("io", priority), int(now_s * 1000)
    run_ids = [(await jobs.create_job(new(priority=priority))).run_id for _ in ages_s]
    await redis.delete(stream)
    for number, (run_id, age_s) in enumerate(zip(run_ids, ages_s, strict=True)):
        entry = f"{now_ms - int(age_s * 1000)}-{number}"
        await redis.xadd(stream, {"job": run_id}, id=entry)
        await redis.hset(keys.job(run_id), "entry", f"io:{priority} {entry}")
    return run_ids


async def test_low_jobs_move_under_a_constant_stream_of_high_ones(
    jobs: JobStateManager, redis: Redis
) -> None:
    now_s = time.time()
    ages_s = [2 * STEP_S + more for more in (20, 10, -20)]
    low = await queued_ago(redis, jobs, "low", *ages_s, now_s=now_s)
    normal = await queued_ago(redis, jobs, "normal", STEP_S + 15, STEP_S - 25, now_s=now_s)
    order, high = [], []
    for _ in range(8):
        high.append((await jobs.create_job(new(priority="high"))).run_id)
        order += [claim.run_id for claim in await jobs.claim("w1", "io", 1)]
    assert order == [low[0], normal[0], low[1], *high[:5]]
    rest = [claim.run_id for claim in await jobs.claim("w1", "io", 9)]
    assert rest == [*high[5:], low[2], normal[1]]


@pytest.mark.parametrize("seed", range(3))
async def test_a_step_of_priority_is_worth_its_time_in_batches_of_any_size(
    jobs: JobStateManager, redis: Redis, seed: int
) -> None:
    draw = random.Random(seed)
    counted: dict[str, float] = {}
    now_s = time.time()
    for name in keys.PRIORITIES:
        ages = sorted((draw.uniform(0, 4 * STEP_S) for _ in range(40)), reverse=True)
        run_ids = await queued_ago(redis, jobs, name, *ages, now_s=now_s)
        counted |= {r: HANDICAP_S[name] - age for r, age in zip(run_ids, ages, strict=True)}
    order: list[str] = []
    while found := await jobs.claim("w1", "io", draw.choice((1, 2, 7, 30))):
        order += [claim.run_id for claim in found]
    assert len(order) == len(counted)
    steps = [counted[later] - counted[before] for before, later in pairwise(order)]
    assert min(steps) > -0.002, "beyond what is rounded to milliseconds"
