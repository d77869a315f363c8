"""A worker under maintenance: real processes, commands as scripts publish them, real signals."""

import signal
from contextlib import AbstractAsyncContextManager
from typing import Any

import aiohttp
import msgspec
import pytest
from redis.asyncio import Redis

from control import keys
from control.clock import SystemClock
from control.flags import commands
from control.flags.document import MAINTENANCE, Document, Position
from control.flags.ledger import Ledger
from control.flags.presence import Registry, ReplicaReport
from control.flags.projection import Projection
from control.ids import new_id
from control.stores.postgres import Database
from tests.faults.conftest import Jobs, StartWorker
from tests.models.hard import market_split
from tests.processes import Replica
from tests.stack import wait_until
from worker.jobs.job import JobState, NewJob, Outcome, Spec

BRIEF = {"DRAWBRIDGE_DRAIN_SOFT_S": "0.2", "DRAWBRIDGE_DRAIN_HARD_S": "0.3"}
PATIENT = {"DRAWBRIDGE_DRAIN_SOFT_S": "600"}


class Bridge:
    """Raises and lowers the bridge of one database, and sees what the fleet makes of it."""

    def __init__(self, redis: Redis, database: Database) -> None:
        clock = SystemClock()
        self._redis = redis
        self._registry = Registry(redis, database)
        self._projection = Projection(redis, clock)
        self.ledger = Ledger(database, (), clock)

    async def move(self, raised: bool, **fields: Any) -> Position:
        """Publish a command as a deploy script does; where the flags stand afterwards."""
        await self._redis.delete(keys.debounce(MAINTENANCE))
        command = commands.new("set", MAINTENANCE, actor="test", value=raised, **fields)
        await wait_until(self._heard)
        async with self._redis.pubsub() as listening:
            await listening.subscribe(keys.EVENTS_CHANNEL)
            await listening.get_message(timeout=5)
            assert await self._redis.publish(keys.COMMANDS_CHANNEL, commands.encode(command))
            while True:
                message = await listening.get_message(timeout=10)
                assert message is not None, "the command was not answered"
                if message["type"] == "message":
                    event = msgspec.json.decode(message["data"])
                    if event.get("command_id") == command.id:
                        return Position(event["epoch"], event["version"])

    async def _heard(self) -> bool:
        """Whether the worker listens: it may know the flags before, from PostgreSQL."""
        [(_, listeners)] = await self._redis.pubsub_numsub(keys.COMMANDS_CHANNEL)
        return bool(listeners)

    async def raise_by_hand(self) -> None:
        """Commit and project where no instance lives yet."""
        command = commands.new("set", MAINTENANCE, actor="test", value=True)
        outcome = await self.ledger.commit(command, source="test")
        await self._projection.write(outcome.document)

    async def report(self) -> ReplicaReport | None:
        """What the one worker last said of itself."""
        found = (await self._registry.read()).replicas
        return found[0] if found else None

    async def quiesced(self, position: Position) -> ReplicaReport:
        """Wait until the worker reported that it is at rest under ``position``."""

        async def so() -> ReplicaReport | None:
            report = await self.report()
            good = report and report.quiesced and report.position >= position
            return report if good else None

        found: ReplicaReport = await wait_until(so)
        return found


@pytest.fixture
def bridge(redis: Redis, database: Database) -> Bridge:
    return Bridge(redis, database)


@pytest.fixture
def drained(worker: StartWorker, database: Database, database_url: str) -> StartWorker:
    """Start a worker on a database of this test's own, whose flags nobody else moves."""

    def start(**settings: str) -> AbstractAsyncContextManager[Replica]:
        return worker(DATABASE_URL=database_url, **settings)

    return start


async def running(one: Replica) -> None:
    await one.logged("phase", phase="running")


async def test_a_raised_bridge_pauses_a_worker_and_a_lowered_one_lets_it_go_on(
    jobs: Jobs, drained: StartWorker, bridge: Bridge
) -> None:
    async with drained(**PATIENT) as one:
        await running(one)
        finishing = await jobs.submit("wait")
        await one.logged("job started", run_id=finishing)
        waiting = await jobs.submit("echo", run_at_ms=4_000_000_000_000)
        position = await bridge.move(True)
        await one.logged("phase", phase="draining", running=1)
        await jobs.state.cancel_job(finishing)  # its end, from the worker's point of view
        report = await bridge.quiesced(position)
        assert (report.kind, report.phase, report.running) == ("worker", "paused", 0)
        await jobs.make_due(waiting)
        await one.logged("jobs due")
        assert (await jobs.record(waiting)).status is JobState.QUEUED
        await bridge.move(False)
        await one.logged("job ended", run_id=waiting, status="completed")
    assert (await jobs.record(finishing)).status is JobState.CANCELLED


async def test_maintenance_leaves_the_probes_and_the_lease_alone(
    redis: Redis, drained: StartWorker, bridge: Bridge
) -> None:
    reading: Any = redis
    async with drained() as one, aiohttp.ClientSession() as http:
        line = await one.logged("working")
        worker, ready = line["worker"], f"{line['probes']}/ready"
        await running(one)

        async def status() -> int:
            async with http.get(ready) as response:
                return response.status

        async def is_ready() -> bool:
            return await status() == 200

        await wait_until(is_ready)
        await bridge.quiesced(await bridge.move(True))
        leases = set()

        async def renewed_again_and_again() -> bool:
            assert await status() == 200
            leases.add(await reading.zscore(keys.WORKERS, worker))
            return len(leases) > 3

        await wait_until(renewed_again_and_again)


async def test_a_solver_keeps_its_incumbent_and_goes_on_from_it(
    jobs: Jobs, redis: Redis, drained: StartWorker, bridge: Bridge
) -> None:
    payload = {"problem": {"format": "mps", "content": market_split()}, "options": {}}
    job = NewJob(
        run_id=new_id(),
        spec=Spec(kind="optimize", lane="cpu", correlation_id="c", max_attempts=3),
        payload=msgspec.json.encode(payload),
    )
    async with drained(DRAWBRIDGE_DRAIN_SOFT_S="0.2") as one:
        await running(one)
        await jobs.state.create_job(job)
        await jobs.progress(job.run_id, lambda progress: progress.get("incumbent") is not None)
        await bridge.quiesced(await bridge.move(True))
        await one.logged("job ended", run_id=job.run_id, status="handed back")
        last = (await jobs.state.events_after(job.run_id, None))[-1].id
        record = await jobs.record(job.run_id)
        assert (record.status, record.attempt, record.drain_requeues) == (JobState.QUEUED, 0, 1)
        kept = msgspec.json.decode(await redis.hget(keys.job(job.run_id), "checkpoint") or b"")
        reached = sum(value for name, value in kept.items() if name[0] in "ST")

        await bridge.move(False)
        await one.logged("job started", run_id=job.run_id, attempt=1, count=2)
        await jobs.progress(
            job.run_id,
            lambda progress: (progress.get("incumbent") or reached + 1) <= reached + 1e-6,
            after=last,
        )
        await jobs.state.cancel_job(job.run_id)
        await one.logged("job ended", run_id=job.run_id, status="cancelled")


async def test_at_the_hard_deadline_a_deaf_job_goes_back_and_a_late_finish_is_refused(
    jobs: Jobs, redis: Redis, drained: StartWorker, bridge: Bridge
) -> None:
    async with drained(**BRIEF) as one:
        await running(one)
        deaf = await jobs.submit("stubborn")
        await jobs.event(deaf, "progress")
        token = int(await redis.hget(keys.job(deaf), "token") or 0)
        await bridge.quiesced(await bridge.move(True))
        record = await jobs.record(deaf)
        assert (record.status, record.attempt, record.drain_requeues) == (JobState.QUEUED, 0, 1)
        late = Outcome(run_id=deaf, token=token, status=JobState.COMPLETED, result=b"1")
        assert not await jobs.state.finish(late)
        await bridge.move(False)
        await one.logged("job started", run_id=deaf, attempt=1, count=2)
        await jobs.state.cancel_job(deaf)
        await one.logged("job ended", run_id=deaf, status="cancelled")


async def test_off_while_it_drains_lets_jobs_run_on_and_claims_again(
    jobs: Jobs, drained: StartWorker, bridge: Bridge
) -> None:
    async with drained(**PATIENT) as one:
        await running(one)
        long = await jobs.submit("wait")
        await one.logged("job started", run_id=long)
        for flap in range(1, 4):
            await bridge.move(True)
            await one.logged("phase", phase="draining", count=flap)
            await bridge.move(False)
            await one.logged("phase", phase="running", count=flap + 1)
            other = await jobs.submit("echo")
            await one.logged("job ended", run_id=other, status="completed")
        await jobs.state.cancel_job(long)
        await one.logged("job ended", run_id=long, status="cancelled")
    assert await jobs.statuses(long) == ["running", "cancelled"]


async def test_a_worker_that_starts_under_maintenance_starts_paused(
    jobs: Jobs, drained: StartWorker, bridge: Bridge
) -> None:
    run_id = await jobs.submit("echo")
    await bridge.raise_by_hand()
    async with drained() as one:
        report = await bridge.quiesced((await bridge.ledger.read()).position)
        assert report.phase == "paused"
        assert (await jobs.record(run_id)).status is JobState.QUEUED
        await bridge.move(False)
        await one.logged("job ended", run_id=run_id, status="completed")
    phases = [line["phase"] for line in one.lines if line["event"] == "phase"]
    assert phases == ["paused", "running"]


async def test_without_any_store_that_knows_the_flags_it_claims_nothing(
    jobs: Jobs, redis: Redis, worker: StartWorker
) -> None:
    """Redis is empty of flags and PostgreSQL away: jobs wait although the lease is held."""
    run_id = await jobs.submit("echo")
    await redis.delete(keys.FLAGS)
    nowhere = "postgresql://127.0.0.1:9/nowhere"
    async with worker(DATABASE_URL=nowhere) as one:
        await one.logged("joined")
        first = await one.logged("phase")
        assert first["phase"] == "paused"
        beats = await redis.zscore(keys.WORKERS, (await one.logged("working"))["worker"])

        async def beaten() -> bool:
            line = await one.logged("working")
            return await redis.zscore(keys.WORKERS, line["worker"]) != beats

        await wait_until(beaten)
        assert (await jobs.record(run_id)).status is JobState.QUEUED


async def untouched(bridge: Bridge, redis: Redis, before: Document) -> None:
    """No flag was written since, neither in PostgreSQL nor in Redis."""
    assert await bridge.ledger.read() == before
    raised = await redis.hget(keys.FLAGS, MAINTENANCE)
    assert raised == (b"1" if before.is_active(MAINTENANCE) else b"0")


async def test_sigterm_while_running_writes_no_flag(
    jobs: Jobs, redis: Redis, drained: StartWorker, bridge: Bridge
) -> None:
    async with drained(**BRIEF) as one:
        await running(one)
        run_id = await jobs.submit("wait")
        await one.logged("job started", run_id=run_id)
        before = await bridge.ledger.read()
        one.send(signal.SIGTERM)
        assert await one.ended() == 0
    assert (await jobs.record(run_id)).attempt == 0
    await untouched(bridge, redis, before)


async def test_sigterm_while_it_drains_keeps_the_deadlines(
    jobs: Jobs, redis: Redis, drained: StartWorker, bridge: Bridge
) -> None:
    async with drained(DRAWBRIDGE_DRAIN_SOFT_S="0.2", DRAWBRIDGE_DRAIN_HARD_S="2") as one:
        await running(one)
        run_id = await jobs.submit("stubborn")
        await jobs.event(run_id, "progress")
        await bridge.move(True)
        await one.logged("asking to stop")
        before = await bridge.ledger.read()
        one.send(signal.SIGTERM)
        await one.logged("phase", phase="stopping")
        assert await one.ended() == 0
    asked = [line for line in one.lines if line["event"] == "asking to stop"]
    assert len(asked) == 1, "a second drain would ask once more"
    record = await jobs.record(run_id)
    assert (record.status, record.attempt) == (JobState.QUEUED, 0)
    await untouched(bridge, redis, before)


async def test_a_second_sigterm_while_it_drains_is_the_hard_deadline(
    jobs: Jobs, drained: StartWorker, bridge: Bridge
) -> None:
    async with drained(**PATIENT) as one:
        await running(one)
        run_id = await jobs.submit("stubborn")
        await jobs.event(run_id, "progress")
        await bridge.move(True)
        await one.logged("phase", phase="draining")
        one.send(signal.SIGTERM)
        await one.logged("phase", phase="stopping")
        one.send(signal.SIGTERM)
        assert await one.ended() == 0
    assert (await jobs.record(run_id)).status is JobState.QUEUED


async def test_sigterm_while_paused_ends_at_once(
    redis: Redis, drained: StartWorker, bridge: Bridge
) -> None:
    async with drained(**PATIENT) as one:
        await running(one)
        await bridge.quiesced(await bridge.move(True))
        before = await bridge.ledger.read()
        one.send(signal.SIGTERM)
        assert await one.ended() == 0
        await one.logged("phase", phase="stopped")
    assert await bridge.report() is None, "it took its leave"
    await untouched(bridge, redis, before)


async def test_sigterm_while_it_takes_up_work_hands_back_what_it_took(
    jobs: Jobs, redis: Redis, drained: StartWorker, bridge: Bridge
) -> None:
    run_ids = [await jobs.submit("wait") for _ in range(64)]
    await bridge.raise_by_hand()
    async with drained(**BRIEF, DRAWBRIDGE_IO_SLOTS="64") as one:
        await bridge.quiesced((await bridge.ledger.read()).position)
        await bridge.move(False)
        await one.logged("job started")
        one.send(signal.SIGTERM)
        assert await one.ended() == 0
    started = {line["run_id"] for line in one.lines if line["event"] == "job started"}
    assert 0 < len(started) < len(run_ids), "it was still at it"
    for run_id in run_ids:
        record = await jobs.record(run_id)
        assert (record.status, record.attempt) == (JobState.QUEUED, 0)
    assert not (await bridge.ledger.read()).is_active(MAINTENANCE)


async def test_on_again_while_it_takes_up_work(
    jobs: Jobs, redis: Redis, drained: StartWorker, bridge: Bridge
) -> None:
    run_ids = [await jobs.submit("echo") for _ in range(64)]
    await bridge.raise_by_hand()
    async with drained() as one:
        await bridge.quiesced((await bridge.ledger.read()).position)
        await bridge.move(False)
        await one.logged("phase", phase="running")
        await bridge.quiesced(await bridge.move(True))
        for run_id in run_ids:
            assert (await jobs.record(run_id)).status is not JobState.RUNNING
        await bridge.move(False)
        for run_id in run_ids:
            await one.logged("job ended", run_id=run_id, status="completed")
    for run_id in run_ids:
        assert (await jobs.statuses(run_id)).count("completed") == 1
