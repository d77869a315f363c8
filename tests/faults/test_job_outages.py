"""Jobs while Redis is away, full or has nothing to give; and a thousand that end as they are
cancelled."""

import os
import random
import signal
import sys
import time
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from redis.asyncio import Redis

from control import keys
from tests.conftest import LiveStores
from tests.faults.conftest import Jobs, StartWorker
from tests.faults.test_job_soak import ends_heard
from tests.processes import replica
from tests.stack import SO_S, wait_for, wait_until
from tests.timing import timed
from worker.consumer import CALL_WAIT_S
from worker.jobs.errors import JobFinished
from worker.jobs.job import JobState

MANY = 40
CROWD = 1_000
RACE_S = 1.0
"""Over which a crowd ends; about as long as it takes to cancel it."""
OFFERS_IN_AN_HOUR = 360
IMPATIENT = Path(__file__).parents[1] / "models" / "impatient"


class Book:
    """Jobs of the kind `witnessed`, and who has ended."""

    def __init__(self, folder: Path) -> None:
        self._gate, self._book = folder / "gate", folder / "book"
        self.payload = {"gate": str(self._gate), "book": str(self._book)}

    def open(self) -> None:
        """Let them end."""
        self._gate.touch()

    @property
    def ends(self) -> list[str]:
        """The run ids of those that ended, one for each time."""
        return self._book.read_text().split() if self._book.exists() else []


@pytest.fixture
def book(tmp_path: Path) -> Book:
    return Book(tmp_path)


async def test_what_ends_while_redis_is_away_is_told_when_it_returns_each_once(
    jobs: Jobs, worker: StartWorker, stores: LiveStores, book: Book
) -> None:
    async with worker() as one:
        run_ids = [await jobs.submit("witnessed", book.payload) for _ in range(MANY)]
        await one.logged("job started", count=MANY)
        await stores.kill("redis")
        try:
            book.open()
            await wait_until(lambda: len(book.ends) == MANY)
            await one.logged("outcome waits")
            assert not [line for line in one.lines if line["event"] == "job ended"]
        finally:
            await stores.restart("redis")
        await one.logged("job ended", status="completed", count=MANY)
    assert sorted(book.ends) == sorted(run_ids), "none ran again"
    for run_id in run_ids:
        assert await jobs.result(run_id) == 1


@pytest.fixture
async def room_again(redis: Redis) -> AsyncIterator[None]:
    """There is room again at the end."""
    yield
    await redis.config_set("maxmemory", "0")


async def test_a_full_redis_refuses_submissions_and_lets_workers_get_the_rest_done(
    jobs: Jobs, worker: StartWorker, redis: Redis, stores: LiveStores, book: Book, room_again: None
) -> None:
    service = replica("service", stores.environment, DRAWBRIDGE_JOBS="tests.kinds")
    async with service as api, worker(DRAWBRIDGE_IO_SLOTS="2") as one, aiohttp.ClientSession() as h:
        url = (await api.logged("serving"))["url"] + "/jobs/echo"

        async def submitted() -> int:
            async with h.post(url, json={"payload": {}}) as answer:
                if answer.status == 503:
                    problem = await answer.json()
                    assert "redis" in problem["detail"].lower()
                    assert answer.headers["Retry-After"]
                return answer.status

        await wait_for(submitted, 202)
        run_ids = [await jobs.submit("witnessed", book.payload) for _ in range(5)]
        await one.logged("job started", kind="witnessed", count=2)
        later = await jobs.submit("flaky", {"succeed_on": 2})
        await redis.config_set("maxmemory", "1")
        assert await submitted() == 503
        book.open()
        for run_id in (*run_ids, later):
            await one.logged("job ended", run_id=run_id, status="completed")
        assert await submitted() == 503, "it was full all along"
        await redis.config_set("maxmemory", "0")
        await wait_for(submitted, 202)
        await one.logged("job ended", kind="echo", status="completed", count=2)
    assert sorted(book.ends) == sorted(run_ids)
    assert (await jobs.record(later)).attempt == 2


async def test_a_thousand_cancels_meet_a_thousand_jobs_that_end_in_a_worker(
    jobs: Jobs, worker: StartWorker, redis: Redis, book: Book
) -> None:
    slots = {"DRAWBRIDGE_IO_SLOTS": str(CROWD), "DRAWBRIDGE_LOG_LEVEL": "info"}
    async with worker(**slots) as one, ends_heard(redis) as ends:
        await one.logged("joined")
        draw = random.Random(3)
        run_ids = [
            await jobs.submit(
                "meet", book.payload | {"later_s": RACE_S * draw.random()}, unique=f"{n}"
            )
            for n in range(CROWD)
        ]
        book.open()
        for run_id in draw.sample(run_ids, CROWD):
            with suppress(JobFinished):
                await jobs.state.cancel_job(run_id)
        await wait_until(lambda: len(ends) == CROWD)
        assert set(ends.values()) == {1}
        became = Counter([(await jobs.record(run_id)).status for run_id in run_ids])
        assert set(became) <= {JobState.COMPLETED, JobState.CANCELLED}
        assert len(became) == 2, f"the race was no race: {became}"
        after = await jobs.submit("echo")
        await wait_until(lambda: after in ends)
    left = {key.decode() async for key in redis.scan_iter(count=1000)}
    assert not [key for key in left if "unique:" in key]
    assert await redis.xlen(keys.queue("io", "normal")) == 0


@timed
async def test_a_job_that_was_brought_to_a_stopped_worker_is_taken_by_another(
    jobs: Jobs, worker: StartWorker, redis: Redis
) -> None:
    asking: Any = redis

    async def all_asleep() -> bool:
        return bool(await asking.hlen(keys.offers("io")) == 2)

    async with worker() as stopped, worker() as other:
        for each in (stopped, other):
            await each.logged("phase", phase="running")
        await wait_until(all_asleep)
        stopped.send(signal.SIGSTOP)
        began = time.monotonic()
        for _ in range(2):  # an offer is good for one call: it is one or the other
            await jobs.event(await jobs.submit("echo"), "end")
        took_s = time.monotonic() - began
        stopped.send(signal.SIGCONT)
        await wait_until(all_asleep)
        started = [
            [line for line in each.lines if line["event"] == "job started"]
            for each in (stopped, other)
        ]
        assert not started[0]
        assert started[1]
    assert took_s < CALL_WAIT_S * 0.8, "it waited for the lease"


async def test_an_hour_without_jobs_keeps_the_worker_on_its_connections(
    jobs: Jobs, worker: StartWorker, redis: Redis
) -> None:
    asking: Any = redis

    async def offers() -> int:
        """Each withdraws the one before, and so reads what is assigned in each queue."""
        told = await asking.info("commandstats")
        return int(told["cmdstat_xreadgroup"]["calls"]) // (len(keys.QUEUES) + 1)

    async def connections() -> int:
        return int((await asking.info("stats"))["total_connections_received"])

    async def an_hour() -> None:
        over = await offers() + 2 * OFFERS_IN_AN_HOUR  # of two consumers

        async def so() -> bool:
            return await offers() >= over

        await wait_until(so, SO_S)

    path = os.pathsep.join([str(IMPATIENT), *filter(None, sys.path)])
    async with worker(PYTHONPATH=path) as one:
        run_id = await jobs.submit("echo")
        await one.logged("job ended", run_id=run_id)
        # What connects when it is first needed has done so by then.
        await one.logged("beacon in office")
        await one.logged("archived")
        await an_hour()
        made, lines = await connections(), len(one.lines)
        await an_hour()
        assert await connections() - made <= 1, "it makes its connections again and again"
        assert one.lines[lines:] == []
        run_id = await jobs.submit("echo")
        await one.logged("job ended", run_id=run_id)
