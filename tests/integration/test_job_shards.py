"""Jobs that are divided into shards: each is found by its id, and all of them are listed together.

On one server: which keys a script touches is the same there.
"""

from typing import Any

import msgspec
import pytest
from redis.asyncio import Redis

from control import ids, keys
from control.job_keys import MOST_SHARDS, shard_of_kind, shards
from tests.job_steps import ended, new
from worker.jobs.errors import KeyReused, WorkerLost
from worker.jobs.job import JobError, JobState, NewJob
from worker.jobs.manager import JobStateManager

COUNT = 3
KINDS = ("wait", "tick", "echo")
"""One of each shard."""

LEASE_S = 15.0


@pytest.fixture
async def jobs(redis: Redis) -> JobStateManager:
    """Three shards whose gates are open."""
    for each in shards(COUNT):
        await redis.copy(keys.FLAGS, each.flags)
    return JobStateManager(redis, redis, redis, result_ttl_s=600, lease_s=LEASE_S)


def of(jobs: JobStateManager, kind: str, run_id: str = "", **terms: Any) -> NewJob:
    """A job under an id that tells its shard."""
    return msgspec.structs.replace(new(kind, **terms), run_id=run_id or jobs.new_id(kind))


def test_an_id_tells_its_shard() -> None:
    for count in range(1, MOST_SHARDS + 1):
        for shard in range(count):
            made = ids.new_id()
            marked = ids.with_last_digit(made, shard, count)
            assert ids.last_digit(marked) % count == shard
            assert marked[:-1] == made[:-1]
            assert ids.is_id(marked)
            assert ids.with_last_digit(marked, shard, count) == marked
    assert ids.with_last_digit(made, 0, 1) == made


def test_the_kinds_of_this_test_are_of_different_shards() -> None:
    assert sorted(shard_of_kind(kind, COUNT) for kind in KINDS) == [0, 1, 2]


async def test_each_job_lies_in_the_shard_of_its_kind(jobs: JobStateManager, redis: Redis) -> None:
    made = {kind: await jobs.create_job(of(jobs, kind)) for kind in KINDS}
    many = await jobs.create_jobs([of(jobs, kind) for kind in KINDS * 2])
    run_ids = [one.run_id for one in made.values()]
    assert [jobs.shard_of(run_id) for run_id in run_ids] == [0, 1, 2]
    for kind, one in made.items():
        assert await redis.exists(shards(COUNT)[shard_of_kind(kind, COUNT)].job(one.run_id))
        record = await jobs.get_job(one.run_id)
        assert record is not None
        assert record.kind == kind
    page = await jobs.list_jobs(limit=4)
    rest = await jobs.list_jobs(limit=50, cursor=page.cursor)
    listed = [job.run_id for job in (*page.jobs, *rest.jobs)]
    assert listed == sorted({*run_ids, *(one.run_id for one in many)}, reverse=True)  # type: ignore[union-attr]
    assert jobs.accepted == dict.fromkeys(KINDS, 3)
    found = [key.decode() async for key in redis.scan_iter("drawbridge:*")]
    assert [key for key in found if not keys.is_listed(key)] == []
    with pytest.raises(ValueError, match="another shard"):
        await jobs.create_job(of(jobs, "echo", run_id=jobs.new_id("wait")))


async def test_a_worker_claims_and_ends_in_each_shard(jobs: JobStateManager, redis: Redis) -> None:
    made = [await jobs.create_job(of(jobs, kind)) for kind in KINDS]
    claims = []
    for shard in range(COUNT):
        await jobs.heartbeat("w", [], join=True, shard=shard)
        claims += await jobs.claim("w", "io", 10, shard=shard)
    assert {claim.run_id for claim in claims} == {one.run_id for one in made}
    mixed = [claims[2], claims[0], claims[1]]
    assert await jobs.requeue([(mixed[0].run_id, mixed[0].token, None)], drained=True) == [True]
    outcomes = [ended(claim, result=b"1") for claim in mixed]
    assert await jobs.finish_all(outcomes) == [False, True, True], "in the order that was asked"
    assert await jobs.get_result(mixed[1].run_id) == b"1"
    assert await jobs.leave("w") == 0


async def test_keys_and_callbacks_stay_in_the_shard_of_their_job(
    jobs: JobStateManager, redis: Redis
) -> None:
    first = of(jobs, "tick", key="one", callback_url="https://example.org/hook")
    accepted = await jobs.create_job(first)
    again = await jobs.create_job(msgspec.structs.replace(first, run_id=jobs.new_id("tick")))
    assert (again.run_id, again.created) == (accepted.run_id, False)
    with pytest.raises(KeyReused):
        await jobs.create_job(of(jobs, "tick", key="one", digest="another"))
    shard = jobs.shard_of(accepted.run_id)
    await jobs.heartbeat("w", [], join=True, shard=shard)
    [claim] = await jobs.claim("w", "io", 10, shard=shard)
    assert await jobs.finish(ended(claim, JobState.FAILED, error=JobError("E", "m")))
    [callback] = (await jobs.list_jobs(kinds=["callback"])).jobs
    assert callback.parent == accepted.run_id
    assert jobs.shard_of(callback.run_id) == shard
    assert await jobs.get_job(callback.run_id) == callback
    await jobs.rerun_job(accepted.run_id)
    assert await jobs.cancel_job(accepted.run_id) is JobState.CANCELLED


async def test_a_lease_that_is_lost_costs_the_jobs_of_its_shard_alone(
    jobs: JobStateManager, redis: Redis
) -> None:
    made = {kind: (await jobs.create_job(of(jobs, kind))).run_id for kind in KINDS}
    for number, each in enumerate(jobs.shards):
        await jobs.heartbeat("w", [], join=True, shard=number)
        assert len(await jobs.claim("w", "io", 10, shard=number)) == 1
        if number == 1:
            await redis.zadd(f"{each.keys.prefix}workers", {"w": 1})
    for number in range(COUNT):
        beat = await jobs.heartbeat("judge", [], join=True, shard=number)
        rescued = await jobs.rescue(beat.at_ms, within_s=5, shard=number)
        assert rescued is not None
        assert [job.run_id for job in rescued] == ([made["tick"]] if number == 1 else [])
    with pytest.raises(WorkerLost):
        await jobs.heartbeat("w", [made["tick"]], shard=1)
    assert (await jobs.heartbeat("w", [made["wait"]], shard=0)).stop == []
