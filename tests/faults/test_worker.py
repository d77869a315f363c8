"""What a worker does with jobs, and what becomes of them when it is stopped, killed or cut off."""

import asyncio
import signal
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, cast

from redis.asyncio import Redis

from control import cancelling, keys
from tests.conftest import LiveStores
from tests.faults.conftest import LEASE_S, Jobs, StartWorker
from tests.processes import Replica
from tests.stack import wait_until
from tests.timing import timed
from worker.jobs.job import JobState


def holds(replica: Replica, run_id: str) -> bool:
    """Whether this worker started the job."""
    wanted = {"event": "job started", "run_id": run_id}
    return any(wanted.items() <= line.items() for line in replica.lines)


async def started_by_either(one: Replica, two: Replica, run_id: str) -> None:
    """Wait until one of two workers has started the job."""
    waits = [asyncio.create_task(r.logged("job started", run_id=run_id)) for r in (one, two)]
    done, pending = await asyncio.wait(waits, return_when=asyncio.FIRST_COMPLETED)
    await cancelling.end(*pending)
    done.pop().result()


async def test_a_job_runs_and_its_lines_carry_its_ids(jobs: Jobs, worker: StartWorker) -> None:
    async with worker() as one:
        run_id = await jobs.submit("echo", {"x": 1})
        ended = await one.logged("job ended", run_id=run_id, status="completed")
    assert await jobs.result(run_id) == {"payload": {"x": 1}, "attempt": 1}
    assert ended["request_id"] == "corr-echo"
    assert (await jobs.record(run_id)).progress == {"seen": True}


async def test_only_declared_errors_are_retried(jobs: Jobs, worker: StartWorker) -> None:
    async with worker() as one:
        flaky = await jobs.submit("flaky", {"succeed_on": 2})
        broken = await jobs.submit("broken")
        hopeless = await jobs.submit("flaky", {"succeed_on": 9}, max_attempts=1)
        for run_id in (broken, hopeless):
            await one.logged("job ended", run_id=run_id, status="failed")
        await one.logged("job ended", run_id=flaky, status="completed")
    assert await jobs.result(flaky) == {"attempt": 2}
    assert await jobs.statuses(flaky) == [
        "running", "scheduled", "queued", "running", "completed",
    ]  # fmt: skip
    failed = await jobs.record(broken)
    assert failed.attempt == 1
    assert failed.error is not None
    assert (failed.error.class_, failed.error.message) == ("ValueError", "wrong")


async def test_a_job_submits_others_and_a_key_keeps_them_from_being_made_twice(
    jobs: Jobs, worker: StartWorker
) -> None:
    async with worker() as one:
        parent = await jobs.submit("parent", submitted_by="ada", traceparent="t")
        await one.logged("job ended", run_id=parent, status="completed")
        kept = await jobs.result(parent)
        await one.logged("job ended", run_id=kept, status="completed")
    page = await jobs.state.list_jobs(parent=parent)
    assert len(page.jobs) == 3, "two of them without a key"
    assert {(child.parent, child.correlation_id, child.submitted_by) for child in page.jobs} == {
        (parent, "corr-parent", "ada")
    }
    assert (await jobs.record(kept)).priority == "high"
    assert await jobs.result(kept) == {"payload": {"child": "kept"}, "attempt": 1}


async def test_a_poison_job_ends_after_its_attempts_and_harms_no_other(
    jobs: Jobs, worker: StartWorker
) -> None:
    async with worker() as one:
        poison = await jobs.submit("poison")
        bystander = await jobs.submit("wait")
        await one.logged("job started", run_id=bystander)
        await one.logged("job ended", run_id=poison, status="failed")
        await jobs.state.cancel_job(bystander)
        await one.logged("job ended", run_id=bystander, status="cancelled")
    record = await jobs.record(poison)
    assert record.attempt == 2
    assert record.error is not None
    assert record.error.class_ == "ProcessDied"


@timed
async def test_a_function_deaf_to_everything_is_cancelled_and_timed_out(
    jobs: Jobs, worker: StartWorker
) -> None:
    async with worker(DRAWBRIDGE_CPU_SLOTS="2") as one:
        cancelled = await jobs.submit("stubborn")
        timed_out = await jobs.submit("stubborn", timeout_s=0.5)
        await one.logged("job started", run_id=cancelled)
        await jobs.state.cancel_job(cancelled)
        asked = datetime.now(UTC)
        await one.logged("job ended", run_id=cancelled, status="cancelled")
        await one.logged("job ended", run_id=timed_out, status="failed")
    record = await jobs.record(cancelled)
    assert record.finished_at is not None
    # The promise is one second; the margin is for machines that are busy with other tests.
    assert (record.finished_at - asked).total_seconds() < 2.0
    error = (await jobs.record(timed_out)).error
    assert error is not None
    assert (error.class_, error.message) == ("JobTimeout", "ran longer than its timeout of 0.5 s")


async def test_an_asynchronous_function_deaf_to_everything_holds_up_neither_job_nor_worker(
    jobs: Jobs, worker: StartWorker
) -> None:
    async with worker(DRAWBRIDGE_DRAIN_SOFT_S="0.1", DRAWBRIDGE_DRAIN_HARD_S="0.1") as one:
        cancelled, given_back = await jobs.submit("deaf"), await jobs.submit("deaf")
        timed_out = await jobs.submit("deaf", timeout_s=0.1)
        for run_id in (cancelled, given_back):
            await one.logged("job started", run_id=run_id)
        await jobs.state.cancel_job(cancelled)
        await one.logged("function does not stop", run_id=timed_out)
        one.send(signal.SIGTERM)
        await one.logged("job ended", run_id=cancelled, status="cancelled")
        await one.logged("job ended", run_id=timed_out, status="failed")
        await one.logged("job ended", run_id=given_back, status="handed back")
        assert await one.ended() == 0
    assert (await jobs.record(given_back)).status is JobState.QUEUED


async def test_a_function_that_exits_fails_and_its_worker_goes_on(
    jobs: Jobs, worker: StartWorker
) -> None:
    ways = {"exit": "SystemExit", "interrupt": "KeyboardInterrupt", "mute": "Mute"}
    async with worker() as one:
        for how, error in ways.items():
            leaver = await jobs.submit("leaver", how)
            await one.logged("job ended", run_id=leaver, status="failed")
            record = await jobs.record(leaver)
            assert record.attempt == 1
            assert record.error is not None
            assert record.error.class_ == error
        after = await jobs.submit("echo")
        await one.logged("job ended", run_id=after, status="completed")


async def test_what_one_job_says_harms_neither_it_nor_another(
    jobs: Jobs, worker: StartWorker, redis: Redis, tmp_path: Path
) -> None:
    gate, asking = tmp_path / "gate", cast(Any, redis)
    async with worker() as one:
        odd = [await jobs.submit("odd", {"gate": str(gate)}) for _ in range(3)]
        modest = [await jobs.submit("modest") for _ in range(20)]

        async def told() -> bool:
            records = [await jobs.record(run_id) for run_id in modest]
            return all(record.progress == {"step": 1} for record in records)

        await wait_until(told)
        gate.touch()
        for run_id in odd:
            await one.logged("job ended", run_id=run_id, status="completed")
            progress = (await jobs.record(run_id)).progress
            assert progress is not None
            assert (progress["half"], progress["share"]) == ("?", "1")
        for run_id in modest:
            assert await asking.hget(keys.job(run_id), "checkpoint") == b'{"half":"done"}'
            await jobs.state.cancel_job(run_id)


async def test_a_scheduled_job_runs_when_it_is_due(jobs: Jobs, worker: StartWorker) -> None:
    async with worker() as one:
        await one.logged("joined")
        due = int(datetime.now(UTC).timestamp() * 1000) + 600
        run_id = await jobs.submit("echo", run_at_ms=due)
        await one.logged("job ended", run_id=run_id, status="completed")
    record = await jobs.record(run_id)
    assert record.run_at is not None
    assert record.started_at is not None
    assert record.started_at >= record.run_at


async def test_the_jobs_of_a_killed_worker_run_again_elsewhere(
    jobs: Jobs, worker: StartWorker
) -> None:
    async with worker() as one, worker() as two:
        run_id = await jobs.submit("wait")
        await started_by_either(one, two, run_id)
        await jobs.event(run_id, "progress")  # and with it, its checkpoint
        victim, other = (one, two) if holds(one, run_id) else (two, one)
        victim.send(signal.SIGKILL)
        await other.logged("job ended", run_id=run_id, status="completed")
    assert await jobs.result(run_id) == {"restored": {"from": run_id}, "attempt": 2}
    assert (await jobs.statuses(run_id)).count("completed") == 1


async def test_a_limit_holds_over_the_fleet_and_a_killed_worker_gives_its_slot_back(
    jobs: Jobs, worker: StartWorker
) -> None:
    async with worker() as one, worker() as two:
        first = await jobs.submit("single")
        await started_by_either(one, two, first)
        second, bystander = await jobs.submit("single"), await jobs.submit("echo")
        await started_by_either(one, two, bystander)
        await jobs.event(first, "progress")  # and with it, its checkpoint
        assert (await jobs.record(second)).status is JobState.QUEUED
        victim, other = (one, two) if holds(one, first) else (two, one)
        victim.send(signal.SIGKILL)
        await other.logged("job ended", run_id=first, status="completed")
        await other.logged("job started", run_id=second)
    ended, began = (await jobs.record(first)).finished_at, (await jobs.record(second)).started_at
    assert ended is not None
    assert began is not None
    assert ended <= began


async def test_a_worker_that_was_held_too_long_cannot_finish_what_others_took(
    jobs: Jobs, worker: StartWorker
) -> None:
    async with worker() as zombie:
        run_id = await jobs.submit("wait")
        await jobs.event(run_id, "progress")  # and with it, its checkpoint
        zombie.send(signal.SIGSTOP)
        async with worker() as other:
            await other.logged("job rescued", run_id=run_id)
            await other.logged("job ended", run_id=run_id, status="completed")
        zombie.send(signal.SIGCONT)
        await zombie.logged("job abandoned", run_id=run_id)
        again = await jobs.submit("echo")
        await zombie.logged("job ended", run_id=again, status="completed")
    assert (await jobs.statuses(run_id)).count("completed") == 1


async def test_sigterm_lets_running_jobs_finish_and_claims_nothing_more(
    jobs: Jobs, worker: StartWorker
) -> None:
    async with worker(DRAWBRIDGE_DRAIN_SOFT_S="60") as one:
        run_id = await jobs.submit("wait")
        await one.logged("job started", run_id=run_id)
        one.send(signal.SIGTERM)
        await one.logged("phase", phase="stopping")
        late = await jobs.submit("echo")
        await jobs.state.cancel_job(run_id)  # its end, from the worker's point of view
        assert await one.ended() == 0
    assert (await jobs.record(late)).status is JobState.QUEUED
    assert (await jobs.record(run_id)).status is JobState.CANCELLED


async def test_at_the_soft_deadline_jobs_are_asked_and_at_the_hard_one_handed_back(
    jobs: Jobs, worker: StartWorker
) -> None:
    deadlines = {"DRAWBRIDGE_DRAIN_SOFT_S": "0.2", "DRAWBRIDGE_DRAIN_HARD_S": "0.5"}
    async with worker(**deadlines) as one:
        deaf = await jobs.submit("wait")
        polite = await jobs.submit("wait", {"until_drained": True})
        for run_id in (deaf, polite):
            await one.logged("job started", run_id=run_id)
        one.send(signal.SIGTERM)
        assert await one.ended() == 0
    given_back = await jobs.record(deaf)
    assert (given_back.status, given_back.attempt) == (JobState.QUEUED, 0)
    assert given_back.drain_requeues == 1
    assert await jobs.result(polite) == {"drained": True}
    async with worker() as two:
        await two.logged("job ended", run_id=deaf, status="completed")
    assert await jobs.result(deaf) == {"restored": {"from": deaf}, "attempt": 1}


async def test_a_second_sigterm_hands_back_at_once(jobs: Jobs, worker: StartWorker) -> None:
    async with worker(DRAWBRIDGE_DRAIN_SOFT_S="600") as one:
        run_ids = [await jobs.submit("wait"), await jobs.submit("stubborn")]
        for run_id in run_ids:
            await one.logged("job started", run_id=run_id)
        one.send(signal.SIGTERM)
        await one.logged("phase", phase="stopping")
        one.send(signal.SIGTERM)
        assert await one.ended() == 0
    for run_id in run_ids:
        assert (await jobs.record(run_id)).status is JobState.QUEUED


async def test_a_restart_of_redis_neither_ends_the_worker_nor_repeats_a_job(
    jobs: Jobs, worker: StartWorker, stores: LiveStores
) -> None:
    async with worker() as one:
        run_id = await jobs.submit("wait")
        await one.logged("job started", run_id=run_id)
        await stores.kill("redis")
        await one.logged("heartbeat failed")
        await stores.restart("redis")
        await jobs.state.cancel_job(run_id)
        await one.logged("job ended", run_id=run_id, status="cancelled")
        after = await jobs.submit("echo")
        await one.logged("job ended", run_id=after, status="completed")
    started = {"event": "job started", "run_id": run_id}
    assert sum(started.items() <= line.items() for line in one.lines) == 1


async def test_an_outcome_waits_for_redis_to_come_back(
    jobs: Jobs, worker: StartWorker, stores: LiveStores
) -> None:
    async with worker() as one:
        run_id = await jobs.submit("stubborn", timeout_s=2.0)
        await one.logged("job started", run_id=run_id)
        await stores.kill("redis")
        await one.logged("outcome waits", run_id=run_id)
        await stores.restart("redis")
        await one.logged("job ended", run_id=run_id, status="failed")
    assert (await jobs.record(run_id)).attempt == 1


async def test_a_frozen_redis_longer_than_the_lease_does_not_run_a_job_twice(
    jobs: Jobs, worker: StartWorker, stores: LiveStores
) -> None:
    async with worker() as one, worker() as two:
        for replica in (one, two):
            await replica.logged("joined")
        run_id = await jobs.submit("stubborn", timeout_s=LEASE_S * 3)
        await started_by_either(one, two, run_id)
        stores.freeze("redis")
        try:
            for replica in (one, two):
                await replica.logged("heartbeat failed")
        finally:
            stores.thaw("redis")
        holder = one if holds(one, run_id) else two
        await holder.logged("job ended", run_id=run_id, status="failed")
    assert (await jobs.record(run_id)).attempt == 1


async def test_a_spoilt_record_ends_its_own_run_only(
    jobs: Jobs, worker: StartWorker, redis: Redis
) -> None:
    async with worker() as one:
        spoilt = await jobs.submit("wait")
        await jobs.event(spoilt, "progress")
        await redis.set(keys.job(spoilt), "no hash")
        await one.logged("record is spoilt", run_ids=[spoilt])
        after = await jobs.submit("echo")
        await one.logged("job ended", run_id=after, status="completed")
