"""Callbacks by real workers: told at least once, under one id, whatever happens in between."""

import asyncio
import signal
from collections.abc import AsyncIterator

import pytest
from aiohttp import web
from redis.asyncio import Redis

from control import keys
from tests.faults.conftest import Jobs, StartWorker
from tests.stack import wait_until
from tests.webhooks import SETTINGS, Receiver, receiver
from worker.jobs.job import JobRecord


@pytest.fixture
async def there() -> AsyncIterator[Receiver]:
    async with receiver() as made:
        yield made


async def delivery(jobs: Jobs, status: str) -> JobRecord:
    """The one callback, once it is in ``status``."""

    async def found() -> JobRecord | None:
        page = await jobs.state.list_jobs(kinds=["callback"])
        return next((job for job in page.jobs if job.status == status), None)

    record: JobRecord = await wait_until(found)
    return record


async def test_a_callback_is_told_again_until_it_is_taken(
    jobs: Jobs, worker: StartWorker, there: Receiver
) -> None:
    there.answers = [
        web.Response(status=503, headers={"Retry-After": "3600"}),
        web.Response(status=500),
    ]
    async with worker(**SETTINGS):
        run_id = await jobs.submit("broken", callback_url=there.url)
        first = await delivery(jobs, "scheduled")
        assert first.error is not None
        assert first.error.message == "answered 503"
        await jobs.make_due(first.run_id)
        await there.came(2)
        second = await delivery(jobs, "scheduled")
        await jobs.make_due(second.run_id)
        told = await there.came(3)
        last = await delivery(jobs, "completed")
    assert {message_id for message_id, _ in told} == {last.run_id}
    assert (last.parent, last.attempt) == (run_id, 3)
    for _, message in told:
        assert message["type"] == "job.failed"
        assert message["data"]["run_id"] == run_id
        assert message["data"]["error"] == {"class": "ValueError", "message": "wrong"}
        assert message["timestamp"] == message["data"]["finished_at"]


async def test_the_waits_are_those_of_the_schedule_or_what_the_receiver_asks_for(
    jobs: Jobs, worker: StartWorker, there: Receiver, redis: Redis
) -> None:
    there.answers = [web.Response(status=503, headers={"Retry-After": "3600"})]
    there.answers += [web.Response(status=404) for _ in range(9)]
    waits = []
    async with worker(**SETTINGS) as one:
        await jobs.submit("echo", callback_url=there.url)
        for attempt in range(1, 10):
            await one.logged("job ended", kind="callback", status="scheduled", count=attempt)
            [(member, due)] = await redis.zrange(keys.DUE, 0, -1, withscores=True)
            seconds, micros = await redis.time()
            waits.append(due / 1000 - seconds - micros / 1e6)
            await jobs.make_due(member.decode())
        failed = await delivery(jobs, "failed")
    assert failed.attempt == 10
    wanted = [3600, 300, 1800, 7200, 18000, 36000, 50400, 72000, 86400]
    assert waits == pytest.approx(wanted, abs=20)


async def test_gone_ends_it(jobs: Jobs, worker: StartWorker, there: Receiver) -> None:
    there.answers = [web.Response(status=410)]
    async with worker(**SETTINGS):
        await jobs.submit("echo", callback_url=there.url)
        failed = await delivery(jobs, "failed")
    assert failed.attempt == 1
    assert failed.error is not None
    assert failed.error.message == "answered 410: gone"


async def test_a_worker_posts_nothing_inside_without_leave(
    jobs: Jobs, worker: StartWorker, there: Receiver
) -> None:
    async with worker(**{**SETTINGS, "DRAWBRIDGE_CALLBACK_NETWORKS": ""}):
        await jobs.submit("echo", callback_url=there.url)
        failed = await delivery(jobs, "failed")
    assert failed.error is not None
    assert "not a public one" in failed.error.message
    assert there.got == []


async def test_a_worker_killed_while_it_tells_is_followed_by_another(
    jobs: Jobs, worker: StartWorker, there: Receiver
) -> None:
    there.held = asyncio.Event()
    async with worker(**SETTINGS) as one, worker(**SETTINGS) as two:
        run_id = await jobs.submit("echo", callback_url=there.url)
        [(message_id, _)] = await there.came()
        running = await delivery(jobs, "running")
        for each in (one, two):
            if any(line.get("worker") == running.worker for line in each.lines):
                each.send(signal.SIGKILL)
        there.held.set()
        told = await there.came(2)
        done = await delivery(jobs, "completed")
    assert {message_id} == {each for each, _ in told} == {done.run_id}
    assert done.parent == run_id


async def test_a_worker_killed_at_once_after_the_end_loses_nothing(
    jobs: Jobs, worker: StartWorker, there: Receiver
) -> None:
    """Whether the kill comes before or after the end is for chance; the callback comes once each
    job has ended, and tells of all of them."""
    async with worker(**SETTINGS) as one:
        await one.logged("joined")
        run_ids = [await jobs.submit("echo", {"n": n}, callback_url=there.url) for n in range(40)]
        await there.came(5)
        one.send(signal.SIGKILL)
        await one.ended()
    async with worker(**SETTINGS):
        await wait_until(
            lambda: {message["data"]["run_id"] for _, message in there.got} == set(run_ids)
        )
    ids_of: dict[str, set[str]] = {}
    for message_id, message in there.got:
        ids_of.setdefault(message["data"]["run_id"], set()).add(message_id)
    assert all(len(ids) == 1 for ids in ids_of.values())
