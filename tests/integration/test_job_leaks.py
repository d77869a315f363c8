"""Nothing of a job stays behind: ten thousand of them, of every outcome."""

import asyncio
import random
from collections import Counter

from redis.asyncio import Redis

from control import keys
from tests.job_steps import LEASE_S, ended, lose, new, rescue
from tests.stack import wait_until
from worker.jobs.errors import JobFinished, UnknownJob
from worker.jobs.job import Claim, JobError, JobState
from worker.jobs.manager import JobStateManager, Progress

JOBS = 10_000
AT_ONCE = 500
LASTING = {keys.FLAGS, keys.KINDS} | {
    keys.queue(lane, name) for lane in keys.LANES for name in keys.QUEUES
}
LIMITS = {"a": 100}
FAILURE = JobError("E", "m")


async def test_nothing_stays_once_the_results_have_expired(redis: Redis) -> None:
    jobs = JobStateManager(redis, result_ttl_s=1, lease_s=LEASE_S)
    draw = random.Random(7)
    made = [
        new(
            draw.choice("abc"),
            key=f"key {n}" if n % 3 == 0 else None,
            priority=draw.choice(keys.PRIORITIES),
            lane=draw.choice(keys.LANES),
            max_attempts=2,
            callback_url="https://example.org/" if n % 50 == 0 else None,
            unique=f"unique {n}" if n % 7 == 0 else None,
            run_at_ms=4_000_000_000_000 if n % 10 == 0 else None,
        )
        for n in range(JOBS)
    ]
    for some in _in_turn(made):
        await asyncio.gather(*(jobs.create_job(job) for job in some))
    assert await jobs.follow(made[0].run_id)
    waiting = draw.sample(made, JOBS // 10) + made[::10]
    for some in _in_turn(waiting):
        answers = await asyncio.gather(
            *(jobs.cancel_job(job.run_id) for job in some), return_exceptions=True
        )
        # Some are cancelled twice; by then the first end may have expired.
        ended = (JobFinished, UnknownJob)
        assert all(a is JobState.CANCELLED or isinstance(a, ended) for a in answers)
    ways: Counter[str] = Counter()
    while claims := await _claim(jobs):
        for way, some in _dealt(claims, draw).items():
            ways[way] += len(some)
            await _end(jobs, redis, way, some)
        for run_id in await redis.zrange(keys.DUE, 0, -1):
            await redis.zadd(keys.DUE, {run_id: 1})
        while (await jobs.promote())[0]:
            pass
    assert len(ways) == len(WAYS)
    for worker in ("judge", "w1"):
        assert await jobs.leave(worker) == 0

    async def only_what_lasts() -> bool:
        await jobs.trim()
        left = {key.decode() async for key in redis.scan_iter(count=1000)}
        assert all(keys.is_listed(key) for key in left)
        return left <= LASTING

    await wait_until(only_what_lasts)
    for lane in keys.LANES:
        for name in keys.QUEUES:
            assert await redis.xlen(keys.queue(lane, name)) == 0
            [group] = await redis.xinfo_groups(keys.queue(lane, name))
            assert (group["pending"], group["consumers"]) == (0, 0)


WAYS = ("completed", "failed", "cancelled", "retried", "given back", "lost", "reported")


def _in_turn(items: list) -> list[list]:
    return [items[at : at + AT_ONCE] for at in range(0, len(items), AT_ONCE)]


def _dealt(claims: list[Claim], draw: random.Random) -> dict[str, list[Claim]]:
    dealt: dict[str, list[Claim]] = {}
    for claim in claims:
        dealt.setdefault(draw.choice(WAYS), []).append(claim)
    lost = dealt.pop("lost", None)  # in the end, when this worker holds nothing else
    return dealt | ({"lost": lost} if lost else {})


async def _claim(jobs: JobStateManager) -> list[Claim]:
    await jobs.heartbeat("w1", [], join=True)
    claims = []
    for lane in keys.LANES:
        claims += await jobs.claim("w1", lane, AT_ONCE, limits=LIMITS)
    return claims


async def _end(jobs: JobStateManager, redis: Redis, way: str, claims: list[Claim]) -> None:
    """Let runs end in one of the ways; those that go on are claimed again later."""
    match way:
        case "completed":
            assert all(await jobs.finish_all([ended(c, result=b"1") for c in claims]))
        case "failed":
            outcomes = [ended(c, JobState.FAILED, result=b"1", error=FAILURE) for c in claims]
            assert all(await jobs.finish_all(outcomes))
            again = (jobs.rerun_job(c.run_id) for c in claims[::2])
            answers = await asyncio.gather(*again, return_exceptions=True)
            # Some may have expired by then, as their results last for a second.
            assert all(a is None or isinstance(a, UnknownJob) for a in answers)
        case "reported":
            some = [Progress(c.run_id, c.token, {"p": 1}, b"1") for c in claims]
            assert all(await asyncio.gather(*map(jobs.report, some)))
            assert all(await jobs.finish_all([ended(c, progress={"p": 2}) for c in claims]))
        case "cancelled":
            await asyncio.gather(*(jobs.cancel_job(c.run_id) for c in claims))
            assert all(await jobs.finish_all([ended(c, JobState.CANCELLED) for c in claims]))
        case "retried":
            status = [
                JobState.SCHEDULED if c.attempt < c.spec.max_attempts else JobState.FAILED
                for c in claims
            ]
            outcomes = [
                ended(c, s, error=FAILURE, retry_in_ms=60_000)
                for c, s in zip(claims, status, strict=True)
            ]
            assert all(await jobs.finish_all(outcomes))
        case "given back":
            given = [(c.run_id, c.token, b"1") for c in claims]
            assert all(await jobs.requeue(given, drained=True))
        case "lost":
            await lose(redis, "w1")
            taken: list = []
            while batch := await rescue(jobs):
                taken += batch
            assert {job.run_id for job in taken} == {c.run_id for c in claims}
            await jobs.heartbeat("w1", [], join=True)
