"""The drain of a worker, turn by turn: flags come and go, answers are late, lost or overtaken."""

import asyncio
from collections.abc import AsyncIterator

import pytest
from redis.asyncio import Redis

from control import keys
from control.flags.document import MAINTENANCE
from tests.conftest import LiveStores
from tests.job_steps import ring
from tests.stack import wait_until
from tests.worker_bench import SLOTS, Bench, bench
from worker.consumer import CALL_GOOD_S, CALL_WAIT_S
from worker.drain import Phase
from worker.jobs import stored
from worker.jobs.job import JobState, Outcome


@pytest.fixture
async def idle(redis: Redis, stores: LiveStores) -> AsyncIterator[Bench]:
    """One that knows no flags yet."""
    async with bench(redis, stores) as made:
        yield made


@pytest.fixture
async def working(idle: Bench) -> Bench:
    """One that works, and has all its slots; it waits for jobs."""
    idle.say(False)
    await wait_until(idle.waits)
    return idle


async def test_it_claims_nothing_until_it_knows_the_flags(idle: Bench) -> None:
    run_id = await idle.submit()
    await idle.turns()
    assert (idle.drain.phase, idle.drain.quiesced, idle.jobs.asked) == (Phase.PAUSED, True, [])
    idle.say(False)
    await idle.status(run_id, JobState.COMPLETED)
    assert idle.phases == [Phase.PAUSED, Phase.RUNNING]


async def test_it_stays_paused_where_maintenance_is_on_from_the_start(idle: Bench) -> None:
    run_id = await idle.submit()
    await idle.move(True)
    await idle.turns()
    assert idle.jobs.asked == []
    await idle.move(False)
    await idle.status(run_id, JobState.COMPLETED)
    assert idle.phases == [Phase.PAUSED, Phase.RUNNING]


async def test_the_event_alone_stops_claiming_in_its_own_turn(working: Bench) -> None:
    working.say(True)  # Redis is still open, so only the worker's own word holds
    assert not working.drain.admits
    await working.phase(Phase.PAUSED)
    assert not await working.waits(), "it would be called all the same"
    asked = len(working.jobs.asked)
    run_id = await working.submit()
    await working.turns()
    assert (working.jobs.asked[asked:], working.calls.came) == ([], [])
    async with asyncio.timeout(CALL_WAIT_S / 2):
        working.say(False)
        await working.status(run_id, JobState.COMPLETED)


async def test_what_arrives_after_the_event_goes_back_uncharged(working: Bench) -> None:
    working.jobs.passing.clear()
    run_id, _ = await working.submit_some()
    await working.jobs.answered.wait()
    await working.move(True)
    await working.turns()
    assert not working.drain.quiesced, "an answer is still under way"
    working.jobs.passing.set()
    await working.phase(Phase.PAUSED)
    record = await working.jobs.record(run_id)
    assert (record.status, record.attempt, record.drain_requeues) == (JobState.QUEUED, 0, 1)
    assert working.executor.running == {}
    await working.move(False)
    await working.status(run_id, JobState.COMPLETED)


async def test_a_lost_answer_s_jobs_are_given_back_under_the_raised_bridge(
    working: Bench,
) -> None:
    working.jobs.passing.clear()
    working.jobs.lose_next = True
    run_ids = await working.submit_some(3)
    await working.jobs.answered.wait()
    await working.move(True)
    working.jobs.passing.set()
    for run_id in run_ids:
        await working.status(run_id, JobState.QUEUED)
        assert (await working.jobs.record(run_id)).attempt == 0
    assert await working.held() == 0
    await working.move(False)
    for run_id in run_ids:
        await working.status(run_id, JobState.COMPLETED)


async def test_running_jobs_run_on_where_maintenance_ends_before_they_are_asked(
    working: Bench,
) -> None:
    waiting = await working.submit("wait")
    await working.started(waiting)
    await working.move(True)
    assert working.drain.phase is Phase.DRAINING
    assert not working.drain.quiesced
    await working.move(False)
    other = await working.submit()
    await working.status(other, JobState.COMPLETED)
    assert working.executor.running[waiting].stopped is None
    assert working.phases[-3:] == [Phase.RUNNING, Phase.DRAINING, Phase.RUNNING]


async def test_a_job_that_was_asked_is_not_killed_once_maintenance_has_ended(
    redis: Redis, stores: LiveStores
) -> None:
    async with bench(redis, stores, soft_s=0.05, hard_s=0.3) as made:
        made.say(False)
        deaf = await made.submit("wait")
        await made.started(deaf)
        await made.move(True)
        await wait_until(lambda: made.executor.running[deaf].stopped == "drain")
        await made.move(False)
        later = await made.submit("wait")
        await made.started(later)
        # A further drain ends in a kill, and so shows that the first one's never came.
        assert made.executor.running.keys() == {deaf, later}
        await made.move(True)
        await made.phase(Phase.PAUSED)
        for run_id in (deaf, later):
            record = await made.jobs.record(run_id)
            assert (record.status, record.drain_requeues) == (JobState.QUEUED, 1)


async def test_at_the_hard_deadline_a_job_goes_back_under_a_new_token(
    redis: Redis, stores: LiveStores
) -> None:
    async with bench(redis, stores, soft_s=0.05, hard_s=0.05) as made:
        made.say(False)
        run_id = await made.submit("wait")
        await made.started(run_id)
        claim = made.executor.running[run_id].claim
        await made.move(True)
        await made.phase(Phase.PAUSED)
        record = await made.jobs.record(run_id)
        assert (record.status, record.attempt) == (JobState.QUEUED, 0)
        late = Outcome(
            run_id=run_id, token=claim.token, status=JobState.COMPLETED, result=b'"late"'
        )
        assert not await made.jobs.finish(late)
        assert made.told[-1] == (Phase.PAUSED, 0, True)
        assert (Phase.DRAINING, 0, False) in made.told, "each end is drain progress"
        await made.move(False)
        await made.status(run_id, JobState.COMPLETED)


async def test_flapping_runs_every_job_once(working: Bench) -> None:
    run_ids = []
    for flap in range(60):
        await working.move(False)
        run_ids += [await working.submit() for _ in range(3)]
        for _ in range(flap % 7):
            await asyncio.sleep(0)
        await working.move(True)
    await working.phase(Phase.PAUSED)
    assert await working.held() == 0
    await working.move(False)
    for run_id in run_ids:
        await working.status(run_id, JobState.COMPLETED)
        assert (await working.jobs.record(run_id)).attempt == 1


@pytest.mark.parametrize("gate", ["closed", "unknown"])
async def test_where_redis_is_ahead_it_tries_again_shortly(working: Bench, gate: str) -> None:
    run_id = await working.submit("wait")
    await working.started(run_id)
    await wait_until(working.waits)
    if gate == "closed":
        await working.project(True)
    else:
        await working.redis.hdel(keys.FLAGS, MAINTENANCE)
    asked = len(working.jobs.asked)
    await ring(working.redis, "w1")
    await wait_until(lambda: len(working.jobs.asked) > asked + 1)
    assert working.drain.phase is Phase.RUNNING
    async with asyncio.timeout(CALL_WAIT_S / 2):
        await working.project(False)
        await working.status(await working.submit(), JobState.COMPLETED)


async def test_it_claims_nothing_on_stale_knowledge(redis: Redis, stores: LiveStores) -> None:
    async with bench(redis, stores) as made:
        made.flags_clock.ahead_s = 7200
        made.say(False)
        run_id = await made.submit()
        await made.turns()
        assert (made.drain.phase, made.jobs.asked) == (Phase.RUNNING, [])
        made.flags_clock.ahead_s = 0
        await made.status(run_id, JobState.COMPLETED)


async def test_an_answer_that_comes_after_a_standstill_goes_back(working: Bench) -> None:
    working.jobs.passing.clear()
    run_id, _ = await working.submit_some()
    await working.jobs.answered.wait()
    working.flags_clock.ahead_s = 7200
    working.jobs.passing.set()
    await working.status(run_id, JobState.QUEUED)
    assert (await working.jobs.record(run_id)).attempt == 0
    working.flags_clock.ahead_s = 0
    await working.status(run_id, JobState.COMPLETED)


async def test_a_call_brings_a_job_and_redis_is_told_that_it_came(working: Bench) -> None:
    run_id = await working.submit("wait")
    await working.started(run_id)
    await wait_until(working.waits)
    assert len(working.calls.came) == 1
    assert not await working.redis.exists(keys.HANDED)
    assert await working.held() == 1


@pytest.mark.parametrize("lost", [False, True])
async def test_a_call_that_the_event_overtakes_goes_back_uncharged(
    working: Bench, lost: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    hurried: list[str] = []
    monkeypatch.setattr(working.executor, "stop_all", hurried.append)
    working.calls.holding = True
    run_id = await working.submit()
    await wait_until(lambda: working.calls.came)
    assert (await working.jobs.record(run_id)).status is JobState.RUNNING
    working.jobs.passing.clear()
    await working.move(True)
    await working.jobs.withdrawing.wait()
    await working.turns()
    assert not working.drain.quiesced, "the job is this worker's by Redis's account"
    assert hurried == [], "and it has until the soft deadline"
    working.jobs.passing.set()
    if lost:
        working.calls.lose()
    else:
        working.calls.release()
    await working.phase(Phase.PAUSED)
    record = await working.jobs.record(run_id)
    assert (record.status, record.attempt) == (JobState.QUEUED, 0)
    assert working.executor.running == {}
    await working.move(False)
    await working.status(run_id, JobState.COMPLETED)


async def test_a_call_that_comes_after_the_next_claim_is_not_heard(working: Bench) -> None:
    working.calls.holding = True
    run_id = await working.submit("wait")
    await wait_until(lambda: working.calls.came)
    await working.resubscribed()
    await working.started(run_id)
    token = working.executor.running[run_id].claim.token
    working.calls.release()
    assert working.executor.running[run_id].claim.token == token
    await wait_until(working.waits)
    assert await working.held() == 1


async def test_a_call_that_was_lost_with_the_subscription_is_made_good(working: Bench) -> None:
    working.calls.holding = True
    run_id = await working.submit()
    await wait_until(lambda: working.calls.came)
    working.calls.lose()
    await working.resubscribed()
    async with asyncio.timeout(CALL_WAIT_S / 2):
        await working.status(run_id, JobState.COMPLETED)
    assert (await working.jobs.record(run_id)).attempt == 1


async def test_a_call_that_is_read_after_a_standstill_starts_nothing(working: Bench) -> None:
    working.flags_clock.ahead_s = 7200
    run_id = await working.submit()
    await wait_until(lambda: working.calls.came)
    assert working.executor.running == {}
    working.flags_clock.ahead_s = 0
    await working.status(run_id, JobState.COMPLETED)
    assert (await working.jobs.record(run_id)).attempt == 1


async def test_a_call_that_may_be_old_starts_nothing(working: Bench) -> None:
    working.calls.holding = True
    run_id = await working.submit("wait")
    await wait_until(lambda: working.calls.came)
    _, brought = stored.call(working.calls.came[0])
    assert brought is not None
    assert working.calls.fresh_at is not None
    working.calls.fresh_at -= CALL_GOOD_S
    working.calls.release()
    assert working.executor.running == {}
    await working.started(run_id)
    assert working.executor.running[run_id].claim.token > brought.token


async def test_a_call_that_cannot_be_read_is_claimed(working: Bench) -> None:
    run_ids = [
        await working.submit(payload=b'"' + b"x" * size + b'"') for size in (10, 100_000, 10)
    ]
    for run_id in run_ids:
        await working.status(run_id, JobState.COMPLETED)
        assert (await working.jobs.record(run_id)).attempt == 1


async def test_with_a_single_slot_redis_is_told_that_a_job_came(
    redis: Redis, stores: LiveStores
) -> None:
    async with bench(redis, stores, slots=1) as made:
        made.say(False)
        await wait_until(made.waits)
        first = await made.submit("wait")
        await made.started(first)

        async def told() -> bool:
            return not await made.redis.exists(keys.HANDED)

        await wait_until(told, CALL_WAIT_S / 4)  # the next heartbeat would tell it too
        second = await made.submit()
        assert (await made.jobs.record(second)).status is JobState.QUEUED
        await made.jobs.cancel_job(first)
        made.executor.stop(first, "cancelled")
        await made.status(second, JobState.COMPLETED)


async def test_many_jobs_that_are_held_back_hold_up_no_others(
    redis: Redis, stores: LiveStores
) -> None:
    """More than one claim looks at."""
    async with bench(redis, stores, limits={"wait": 1}) as made:
        held = await made.submit_some(1_000, "wait")
        other = await made.submit()
        async with asyncio.timeout(CALL_WAIT_S / 2):
            made.say(False)
            await made.status(other, JobState.COMPLETED)
        assert set(made.executor.running) & {*held} == set(held[:1])


async def test_without_its_lease_it_is_called_again_once_it_has_another(working: Bench) -> None:
    """As after FLUSHALL: no lease, no offer, no flags."""
    await working.redis.flushall()
    await working.project(False)
    await working.lease.beat_now()
    await wait_until(working.waits, CALL_WAIT_S / 2)
    await working.status(await working.submit(), JobState.COMPLETED)


async def test_other_changes_of_flags_do_nothing(working: Bench) -> None:
    waiting = await working.submit("wait")
    await working.started(waiting)
    working.say(False, ingestion=True)
    working.say(False)
    assert working.phases == [Phase.PAUSED, Phase.RUNNING]
    await working.move(True)
    working.say(True, mode="read_only")
    working.say(True, mode="full", ingestion=True)
    assert working.phases == [Phase.PAUSED, Phase.RUNNING, Phase.DRAINING]


async def test_after_a_pause_it_takes_up_work_bit_by_bit(working: Bench) -> None:
    await working.move(True)
    await working.project(False)  # so that jobs can be submitted; its own memory holds it back
    run_ids = [await working.submit("wait") for _ in range(SLOTS)]
    del working.jobs.asked[:]
    working.say(False)
    await working.started(*run_ids)
    assert working.jobs.asked[0] == 1
    assert sum(working.jobs.asked) <= 2 * SLOTS
    assert len(working.jobs.asked) >= 4, "1, 2, 4 and 8 slots"


@pytest.mark.parametrize("phase", [Phase.RUNNING, Phase.DRAINING, Phase.PAUSED])
async def test_a_stop_from_any_phase_ends_at_rest(
    redis: Redis, stores: LiveStores, phase: Phase
) -> None:
    async with bench(redis, stores, soft_s=0.2, hard_s=0.2) as made:
        made.say(False)
        run_id = await made.submit("wait")
        await made.started(run_id)
        if phase is not Phase.RUNNING:
            await made.move(True)
        await made.phase(phase)
        await made.drain.stop()
        assert made.phases[-2:] == [Phase.STOPPING, Phase.STOPPED]
        assert made.drain.quiesced
        assert (await made.jobs.record(run_id)).status is JobState.QUEUED
        await made.move(False)
        assert made.drain.phase is Phase.STOPPED, "no flag brings it back"
