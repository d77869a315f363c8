"""Every transition of a job, against a real Redis: what is allowed, what is refused, what stays."""

import asyncio
import random
from functools import partial

import msgspec
import pytest
from redis.asyncio import Redis

from control import keys
from control.errors import InvalidInput, StoreUnavailable
from control.ids import new_id
from tests.conftest import LiveStores, open_gate
from tests.job_steps import LEASE_S, claim_one, ended, new
from tests.stack import wait_until
from worker.jobs.errors import IllegalTransition, JobFinished, KeyReused, StaleToken, UnknownJob
from worker.jobs.job import JobError, JobEvent, JobState
from worker.jobs.manager import JobStateManager, Progress


@pytest.fixture
def jobs(redis: Redis) -> JobStateManager:
    return JobStateManager(redis, result_ttl_s=600, lease_s=LEASE_S)


async def test_a_job_goes_from_submission_to_result(jobs: JobStateManager) -> None:
    accepted = await jobs.create_job(new(priority="high", max_attempts=3, timeout_s=2.5))
    record = await jobs.get_job(accepted.run_id)
    assert record is not None
    assert (record.status, record.attempt, record.correlation_id) == (JobState.QUEUED, 0, "corr-1")
    assert (record.priority, record.max_attempts, record.timeout_s) == ("high", 3, 2.5)

    claim = await claim_one(jobs)
    assert claim.run_id == accepted.run_id
    assert (claim.payload, claim.attempt) == (b'{"n":1}', 1)
    running = await jobs.get_job(claim.run_id)
    assert running is not None
    assert (running.status, running.worker, running.attempt) == (JobState.RUNNING, "w1", 1)

    await jobs.update_job_status(
        claim.run_id, JobState.RUNNING, token=claim.token, progress={"phase": "half"}
    )
    await jobs.update_job_status(
        claim.run_id, JobState.COMPLETED, token=claim.token, result=b'{"x":1}'
    )
    done = await jobs.get_job(claim.run_id)
    assert done is not None
    assert done.status is JobState.COMPLETED
    assert done.progress == {"phase": "half"}
    assert done.started_at is not None
    assert done.finished_at is not None
    assert done.submitted_at <= done.started_at <= done.finished_at
    assert await jobs.get_result(claim.run_id) == b'{"x":1}'


async def test_a_large_payload_and_result_come_back_as_they_were(jobs: JobStateManager) -> None:
    text = msgspec.json.encode({"model": "x" * 3_000_000})
    await jobs.create_job(msgspec.structs.replace(new(), payload=text))
    claim = await claim_one(jobs)
    assert claim.payload == text
    assert await jobs.finish(ended(claim, result=text))
    assert await jobs.get_result(claim.run_id) == text


async def test_repeating_a_submission_changes_nothing(jobs: JobStateManager, redis: Redis) -> None:
    job = new()
    assert (await jobs.create_job(job)).created
    assert (await jobs.create_job(job)).created
    assert await redis.xlen(keys.queue("io", "normal")) == 1


async def test_an_idempotency_key_gives_the_first_job_back(jobs: JobStateManager) -> None:
    first = await jobs.create_job(new(key="k", digest="a"))
    again = await jobs.create_job(new(key="k", digest="a"))
    assert (again.run_id, again.created) == (first.run_id, False)
    with pytest.raises(KeyReused):
        await jobs.create_job(new(key="k", digest="b"))
    other = await jobs.create_job(new(key="k", digest="a", submitted_by="somebody else"))
    assert other.created


async def test_two_submissions_with_one_key_at_once_make_one_job(jobs: JobStateManager) -> None:
    answers = await asyncio.gather(*(jobs.create_job(new(key="k", digest="a")) for _ in range(50)))
    assert len({answer.run_id for answer in answers}) == 1
    assert sum(answer.created for answer in answers) == 1


async def test_priorities_are_served_in_order_and_returned_jobs_first(
    jobs: JobStateManager,
) -> None:
    ids = {}
    for name in ("low", "normal", "high"):
        ids[name] = (await jobs.create_job(new(priority=name))).run_id
    await jobs.heartbeat("w1", [], join=True)
    [high] = await jobs.claim("w1", "io", 1)
    assert high.run_id == ids["high"]
    urgent = (await jobs.create_job(new(priority="high"))).run_id
    assert await jobs.requeue([(high.run_id, high.token, None)], drained=True) == [True]
    order = [claim.run_id for claim in await jobs.claim("w1", "io", 10)]
    assert order == [ids["high"], urgent, ids["normal"], ids["low"]]


async def test_finishing_twice_is_finishing_once(jobs: JobStateManager) -> None:
    await jobs.create_job(new())
    claim = await claim_one(jobs)
    assert await jobs.finish(ended(claim, result=b"1"))
    assert await jobs.finish(ended(claim, result=b"2")), "its answer was lost; it is repeated"
    assert await jobs.get_result(claim.run_id) == b"1"
    with pytest.raises(StaleToken):
        await jobs.update_job_status(claim.run_id, JobState.FAILED, token=claim.token)
    events = await jobs.events_after(claim.run_id, None)
    assert [(event.id, event.type) for event in events] == [("3", "status"), ("4", "end")]


async def test_a_result_belongs_to_an_end(jobs: JobStateManager) -> None:
    with pytest.raises(IllegalTransition):
        await jobs.update_job_status(new_id(), JobState.RUNNING, token=1, result=b"1")


async def test_a_waiting_job_is_cancelled_at_once(jobs: JobStateManager, redis: Redis) -> None:
    queued = await jobs.create_job(new())
    later = await jobs.create_job(new(run_at_ms=4_000_000_000_000))
    for accepted in (queued, later):
        assert await jobs.cancel_job(accepted.run_id) is JobState.CANCELLED
        with pytest.raises(JobFinished) as raised:
            await jobs.cancel_job(accepted.run_id)
        assert raised.value.status is JobState.CANCELLED
    await jobs.heartbeat("w1", [], join=True)
    assert await jobs.claim("w1", "io", 5) == []
    assert await redis.zcard(keys.DUE) == 0
    with pytest.raises(UnknownJob):
        await jobs.cancel_job(new_id())


async def test_a_running_job_is_marked_and_its_worker_told(
    jobs: JobStateManager, redis: Redis
) -> None:
    await jobs.create_job(new())
    claim = await claim_one(jobs)
    async with redis.pubsub() as listening:
        await listening.subscribe(keys.CANCEL_CHANNEL)
        await listening.get_message(timeout=2)
        assert await jobs.cancel_job(claim.run_id) is JobState.RUNNING
        message = await listening.get_message(timeout=2)
    assert message is not None
    assert message["data"] == claim.run_id.encode()
    beat = await jobs.heartbeat("w1", [claim.run_id])
    assert beat.stop == [claim.run_id], "a worker that missed the message learns it here"
    assert await jobs.finish(ended(claim, JobState.CANCELLED, result=b"0.5"))
    assert await jobs.get_result(claim.run_id) == b"0.5"


async def test_a_retry_waits_until_it_is_due(jobs: JobStateManager) -> None:
    await jobs.create_job(new(max_attempts=2))
    claim = await claim_one(jobs)
    error = JobError("Flaky", "try again")
    assert await jobs.finish(ended(claim, JobState.SCHEDULED, error=error, retry_in_ms=60_000))
    record = await jobs.get_job(claim.run_id)
    assert record is not None
    assert (record.status, record.error) == (JobState.SCHEDULED, error)
    count, next_s = await jobs.promote()
    assert count == 0
    assert next_s is not None
    assert 50 < next_s <= 60
    beat = await jobs.heartbeat("w1", [])
    assert beat.due_in_s is not None
    assert 50 < beat.due_in_s <= 60


async def test_a_due_job_is_queued_and_its_coming_announced(
    jobs: JobStateManager, redis: Redis
) -> None:
    async with redis.pubsub() as listening:
        await listening.subscribe(keys.DUE_CHANNEL)
        await listening.get_message(timeout=2)
        accepted = await jobs.create_job(new(run_at_ms=4_000_000_000_000))
        assert await listening.get_message(timeout=2) is not None
    record = await jobs.get_job(accepted.run_id)
    assert record is not None
    assert record.status is JobState.SCHEDULED
    await redis.zadd(keys.DUE, {accepted.run_id: 1})
    assert await jobs.promote() == (1, None)
    assert (await claim_one(jobs)).run_id == accepted.run_id


async def test_a_listing_is_newest_first_and_pages_without_gap(jobs: JobStateManager) -> None:
    made = [(await jobs.create_job(new(random.choice(["a", "b"])))).run_id for _ in range(25)]
    await jobs.cancel_job(made[3])
    await jobs.heartbeat("w1", [], join=True)
    for claim in await jobs.claim("w1", "io", 5):
        await jobs.finish(ended(claim))
    seen: list[str] = []
    cursor = None
    while True:
        page = await jobs.list_jobs(limit=7, cursor=cursor)
        seen += [record.run_id for record in page.jobs]
        cursor = page.cursor
        if cursor is None:
            break
    assert seen == sorted(made, reverse=True)
    cancelled = await jobs.list_jobs(status=JobState.CANCELLED)
    assert [record.run_id for record in cancelled.jobs] == [made[3]]
    assert {r.kind for r in (await jobs.list_jobs(kinds=["a"])).jobs} == {"a"}
    with pytest.raises(InvalidInput):
        await jobs.list_jobs(cursor="nonsense")


async def test_a_record_is_the_newest_of_each_kind_of_event(jobs: JobStateManager) -> None:
    await jobs.create_job(new())
    claim = await claim_one(jobs)
    for step in range(400):
        assert await jobs.report(Progress(claim.run_id, claim.token, {"step": step}))
    status, progress = await jobs.events_after(claim.run_id, None)
    assert (status.number, status.type, progress.number) == (2, "status", 402)
    assert progress.data == '{"step":399}'
    assert await jobs.events_after(claim.run_id, "2") == [progress]
    assert await jobs.requeue([(claim.run_id, claim.token, None)], drained=True) == [True]
    kept, back = await jobs.events_after(claim.run_id, None)
    assert (kept, back.number, '"status":"queued"' in back.data) == (progress, 403, True)


async def test_only_what_is_followed_is_published(jobs: JobStateManager, redis: Redis) -> None:
    accepted = await jobs.create_job(new())
    assert await jobs.follow(new_id()) is None
    async with redis.pubsub() as listening:
        await listening.subscribe(keys.events_channel(accepted.run_id))
        await listening.get_message(timeout=2)
        claim = await claim_one(jobs)
        known = await jobs.follow(accepted.run_id)
        assert known is not None
        assert [event.number for event in known] == [2]
        await jobs.report(Progress(claim.run_id, claim.token, {"step": 1}))
        await jobs.finish(ended(claim, progress={"step": 2}))
        heard = []
        while not heard or heard[-1].type != "end":
            message = await listening.get_message(timeout=2)
            assert message is not None
            heard.append(JobEvent.parse(message["data"]))
    assert [(event.number, event.type) for event in heard] == [
        (3, "progress"), (4, "progress"), (5, "status"), (6, "end"),
    ]  # fmt: skip
    stood = await jobs.events_after(claim.run_id, "3")
    assert [(event.id, event.type) for event in stood] == [(e.id, e.type) for e in heard[1:]]


@pytest.mark.parametrize("status", [JobState.COMPLETED, JobState.FAILED, JobState.CANCELLED])
async def test_an_ended_job_leaves_nothing_that_stays_for_ever(
    redis: Redis, status: JobState
) -> None:
    jobs = JobStateManager(redis, result_ttl_s=1, lease_s=LEASE_S)
    for _ in range(20):
        await jobs.create_job(new(key="k" + new_id(), digest="d"))
    await jobs.heartbeat("w1", [], join=True)
    for claim in await jobs.claim("w1", "io", 20):
        await jobs.report(Progress(claim.run_id, claim.token, {"p": 1}, b"1"))
        await jobs.finish(ended(claim, status, result=b"1", error=JobError("E", "m")))
    async for key in redis.scan_iter():
        name = key.decode()
        assert keys.is_listed(name), f"{name} is not in the inventory"
        assert ":job:" not in name or 0 < await redis.pttl(key) <= 1000, f"{name} has no TTL"
    for lane in keys.LANES:
        for priority in keys.QUEUES:
            assert await redis.xlen(keys.queue(lane, priority)) == 0
    await wait_until(partial(_trimmed, jobs, redis))


async def _trimmed(jobs: JobStateManager, redis: Redis) -> bool:
    await jobs.trim()
    left = [key async for key in redis.scan_iter(f"{keys.JOBS}index:*")]
    return not left


async def test_scripts_come_back_after_they_were_forgotten(
    jobs: JobStateManager, redis: Redis
) -> None:
    await jobs.create_job(new())
    await redis.script_flush()
    await jobs.create_job(new())
    await redis.flushall()
    await open_gate(redis)
    await jobs.create_job(new())
    assert (await claim_one(jobs)).attempt == 1


async def test_many_submissions_are_answered_one_by_one(
    jobs: JobStateManager, redis: Redis
) -> None:
    first = new(key="taken", digest="a")
    await jobs.create_job(first)
    many = [new(unique=f"{n % 300}") for n in range(301)]
    many[7], many[200] = new(key="taken", digest="b"), new(key="taken", digest="a")
    ends = await jobs.create_jobs(many, within_s=60)
    assert isinstance(ends[7], KeyReused)
    told = [end for end in ends if not isinstance(end, Exception)]
    assert len(told) == 300, "only that one is refused"
    others = {200: first.run_id, 300: many[0].run_id}
    for at, (asked, end) in enumerate(zip(many, ends, strict=True)):
        if not isinstance(end, Exception):
            assert (end.run_id, end.created) == (others.get(at, asked.run_id), at not in others)
    assert await redis.xlen(keys.queue("io", "normal")) == 299
    assert await jobs.create_jobs([]) == []


async def test_many_submissions_that_nobody_answers_are_unknown_in_time(
    jobs: JobStateManager, stores: LiveStores
) -> None:
    await jobs.create_job(new())
    stores.freeze("redis")
    try:
        ends = await jobs.create_jobs([new() for _ in range(200)], within_s=0.2)
    finally:
        stores.thaw("redis")
    assert len(ends) == 200
    assert all(isinstance(end, StoreUnavailable) for end in ends)
