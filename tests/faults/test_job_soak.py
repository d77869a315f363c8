"""What takes minutes: kills by the hundred, silence, idling. `pytest -m soak` runs it."""

import asyncio
import signal
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from typing import Any

import pytest
from redis.asyncio import Redis
from redis.exceptions import ResponseError

from control import cancelling, keys
from tests.conftest import LiveStores
from tests.faults.conftest import LEASE_S, Jobs, StartWorker
from tests.processes import Replica
from tests.stack import wait_until
from worker.jobs.job import JobEvent, JobState

pytestmark = [pytest.mark.soak, pytest.mark.timeout(3_600)]

TRIALS = 10_000
"""Runs that a kill is to interrupt."""

FLEET = 3
AT_ONCE = 100
NAP_S = 1.0
SOON_MS = 1_000
IDLE_S = 120.0
FROZEN_S = 10.0


@asynccontextmanager
async def ends_heard(redis: Redis) -> AsyncIterator[Counter[str]]:
    """How often each job ended, by the events that its scripts publish."""
    ends: Counter[str] = Counter()
    async with redis.pubsub() as listening:
        await listening.psubscribe(keys.events_channel("*"))
        await listening.get_message(timeout=5)

        async def listen() -> None:
            async for message in listening.listen():
                if JobEvent.parse(message["data"]).type == "end":
                    ends[message["channel"].decode().split(":")[-2]] += 1

        task = asyncio.create_task(listen())
        try:
            yield ends
        finally:
            await cancelling.end(task)


async def held_by(redis: Redis, worker: str) -> int:
    """How many jobs a worker holds."""
    held = 0
    for name in keys.QUEUES:
        with suppress(ResponseError):  # nobody has read from this queue yet
            found: Any = await redis.xpending_range(
                keys.queue("io", name), "workers", "-", "+", AT_ONCE, worker
            )
            held += len(found)
    return held


async def test_ten_thousand_runs_that_were_killed_end_once_each(
    jobs: Jobs, redis: Redis, worker: StartWorker
) -> None:
    submitted: list[str] = []
    interrupted = kills = 0

    async def submit(count: int) -> None:
        for _ in range(count):
            submitted.append(await jobs.submit("nap", {"for_s": NAP_S}, max_attempts=10_000))

    async with AsyncExitStack() as fleet, ends_heard(redis) as ends:

        async def start() -> Replica:
            return await fleet.enter_async_context(worker(DRAWBRIDGE_LOG_LEVEL="info"))

        replicas = await asyncio.gather(*(start() for _ in range(FLEET)))
        await submit(10 * AT_ONCE)
        while interrupted < TRIALS:
            victim = replicas.pop(0)
            name = (await victim.logged("working"))["worker"]

            async def busy(name: str = name) -> bool:
                return await held_by(redis, name) > AT_ONCE / 2

            await wait_until(busy, 60)
            victim.send(signal.SIGKILL)
            await victim.ended()
            kills += 1
            interrupted += await held_by(redis, name)
            replicas.append(await start())
            if len(submitted) - len(ends) < 5 * AT_ONCE:
                await submit(5 * AT_ONCE)
        await wait_until(lambda: len(ends) == len(submitted), 300)
    records = [await jobs.record(run_id) for run_id in submitted]
    print(f"{kills} kills interrupted {interrupted} runs of {len(submitted)} jobs")
    assert {record.status for record in records} == {JobState.COMPLETED}
    assert set(ends.values()) == {1}
    assert sum(record.attempt - 1 for record in records) >= interrupted * 0.99


async def test_a_dead_workers_job_runs_again_within_a_second_of_its_lease(
    jobs: Jobs, redis: Redis, worker: StartWorker
) -> None:
    reading: Any = redis
    late_ms = []
    async with worker() as other:
        await other.logged("joined")
        for _ in range(20):
            async with worker() as victim:
                name = (await victim.logged("working"))["worker"]
                await victim.logged("joined")
                run_id = await jobs.submit("nap", {"for_s": LEASE_S * 4})
                while (await jobs.record(run_id)).worker != name:  # the other one took it
                    await jobs.event(run_id, "status")
                    await jobs.state.cancel_job(run_id)
                    run_id = await jobs.submit("nap", {"for_s": LEASE_S * 4})
                    await wait_until(lambda r=run_id: running(jobs, r))
                victim.send(signal.SIGKILL)
                await victim.ended()
            lease_ends_ms = await reading.zscore(keys.WORKERS, name)
            await wait_until(lambda r=run_id: again(jobs, r))
            started = (await jobs.record(run_id)).started_at
            assert started is not None
            late_ms.append(started.timestamp() * 1000 - lease_ends_ms)
            await jobs.state.cancel_job(run_id)
    print(f"ms after the lease ran out: {sorted(map(round, late_ms))}")
    assert max(late_ms) <= SOON_MS


async def running(jobs: Jobs, run_id: str) -> bool:
    return (await jobs.record(run_id)).status is JobState.RUNNING


async def again(jobs: Jobs, run_id: str) -> bool:
    record = await jobs.record(run_id)
    return record.status is JobState.RUNNING and record.attempt == 2


async def test_ten_seconds_of_silence_cost_no_job(
    jobs: Jobs, redis: Redis, worker: StartWorker, stores: LiveStores
) -> None:
    """With the lease that workers have by default; some runs end while Redis stands still."""
    settings = {"DRAWBRIDGE_LEASE_S": "15"}
    async with ends_heard(redis) as ends, worker(**settings) as one, worker(**settings) as two:
        run_ids = [await jobs.submit("nap", {"for_s": 1 + n / 4}) for n in range(60)]
        await wait_until(lambda: len(ends) > 2)
        stores.freeze("redis")
        try:
            await asyncio.sleep(FROZEN_S)
        finally:
            stores.thaw("redis")
        await wait_until(lambda: len(ends) == len(run_ids), 60)
        assert not [line for r in (one, two) for line in r.lines if line["event"] == "job rescued"]
    assert set(ends.values()) == {1}
    for run_id in run_ids:
        record = await jobs.record(run_id)
        assert (record.status, record.attempt) == (JobState.COMPLETED, 1)


async def test_an_idle_worker_keeps_its_connections(
    jobs: Jobs, redis: Redis, worker: StartWorker
) -> None:
    async with worker() as one:
        await one.logged("joined")
        run_id = await jobs.submit("echo")
        await one.logged("job ended", run_id=run_id)
        await one.logged("archived")
        before: Any = await redis.info("stats")
        lines = len(one.lines)
        await asyncio.sleep(IDLE_S)
        after: Any = await redis.info("stats")
        made = after["total_connections_received"] - before["total_connections_received"]
        assert made <= 1, "it makes its connections again and again"
        assert [line for line in one.lines[lines:] if line["event"] != "listings trimmed"] == []
        run_id = await jobs.submit("echo")
        await one.logged("job ended", run_id=run_id)
