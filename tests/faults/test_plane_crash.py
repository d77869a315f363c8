"""Instances that are killed or held at the worst moment of a change."""

import asyncio
import signal
import time

import pytest

from control import ids, keys
from control.clock import SystemClock
from control.config import PostgresSection
from control.flags import commands
from control.flags.document import MAINTENANCE, Position
from control.flags.ledger import Ledger
from control.flags.outcome import Verdict
from control.stores.postgres import Database
from tests.faults.conftest import Jobs
from tests.faults.fleet import PING, SPARE, Fleet, Instance
from tests.faults.proxy import Way
from tests.faults.witness import monitored, observed
from tests.stack import wait_until

FLAG = SPARE[0]
FLEET = (2, 2)
"""Services and workers. A test may kill the worker that is over."""


async def test_an_instance_held_across_a_change_admits_nothing_afterwards(fleet: Fleet) -> None:
    await held_across_a_change(fleet, requests=1, hold_s=0)


@pytest.mark.soak
@pytest.mark.timeout(600)
async def test_held_for_ten_seconds_again_and_again_under_load(fleet: Fleet) -> None:
    """0 stale admissions in 100,000 requests."""
    await held_across_a_change(fleet, requests=100_000, hold_s=10, connections=4, pace_s=0)


async def held_across_a_change(
    fleet: Fleet, *, requests: int, hold_s: float, connections: int = 2, pace_s: float = 0.005
) -> None:
    """Stop a service and a worker, raise the bridge, wait for all, let them go on.

    Again and again, until ``requests`` were answered.
    """
    held = [fleet.services[1], fleet.workers[0]]
    urls = [one.url for one in fleet.services]
    jobs = Jobs(fleet.redis)
    async with (
        observed(urls, connections=connections, pace_s=pace_s) as observer,
        monitored(fleet.server.socket) as journal,
    ):
        while True:
            for one in held:
                one.replica.send(signal.SIGSTOP)
            stopped = time.monotonic()
            try:
                status, said = await fleet.put(MAINTENANCE, True, wait="applied", timeout_s=20)
                returned = time.monotonic()
                assert status == 200, said
                await asyncio.sleep(max(0.0, stopped + hold_s - returned))  # the fault's own length
            finally:
                for one in held:
                    one.replica.send(signal.SIGCONT)
            await fleet.agreed((await fleet.document(0)).position)
            await observer.all_say(refused=True, since=time.monotonic())
            assert observer.admitted_after(returned) == []
            await fleet.agreed(await fleet.change(MAINTENANCE, False))
            for number in range(len(urls)):
                await observer.says(number, refused=False, since=time.monotonic())
            run_id = await jobs.submit("echo")
            await jobs.event(run_id, "end")
            assert journal.behind_the_bridge() == []
            if len(observer.answers) >= requests:
                return


async def test_an_answer_that_lay_waiting_proves_nothing(fleet: Fleet) -> None:
    """A held instance goes on, finds the answer to its last PING, and hears nothing else.

    It was asked before the change, so the instance must not take it for news.
    """
    held = fleet.services[1]
    await fleet.settled(1)
    ping = held.redis.hold_at(PING)
    await ping.caught()
    async with observed([one.url for one in fleet.services]) as observer:
        held.replica.send(signal.SIGSTOP)
        try:
            answer = held.redis.hold_after(ping.seen.split(b"\r\n")[-2])
            ping.let_go()
            await answer.caught()  # it lies in the buffer of the held process
            held.redis.hold(Way.DOWN)
            held.database.hold(Way.DOWN)
            status, said = await fleet.put(MAINTENANCE, True, wait="applied", timeout_s=20)
            returned = time.monotonic()
            assert status == 200, said
        finally:
            held.replica.send(signal.SIGCONT)
        later = await wait_until(lambda: observer.answers_of(1, since=returned)[20:])
        assert {one.problem for one in later} == {"control_state_stale"}
        assert observer.admitted_after(returned) == []
        held.heal()
        await fleet.agreed((await fleet.document(0)).position)
        assert observer.admitted_after(returned) == []


async def test_a_change_committed_but_never_projected_is_projected_by_the_beacon(
    fleet: Fleet,
) -> None:
    """Committed past every controller, as by one that died right after."""
    known = max(one.position for one in fleet.all)
    command = commands.new("set", MAINTENANCE, value=True, actor="the dead")
    async with Database(PostgresSection(fleet.database_url)) as database:
        outcome = await Ledger(database, SPARE, SystemClock()).commit(command, source="local")
    assert outcome.verdict is Verdict.APPLIED
    assert outcome.document.position == (known.epoch, known.version + 1)
    await fleet.agreed(outcome.document.position)
    assert await fleet.projected(fleet.redis, at_least=outcome.document.position)


async def test_a_projection_that_was_held_up_does_not_undo_a_newer_one(fleet: Fleet) -> None:
    """A slow controller's script reaches Redis only after the next change was projected."""
    sent = ids.new_id()
    traps = [one.redis.hold_at(projecting(sent)) for one in fleet.all]
    await fleet.undebounce(FLAG)
    await fleet.publish("toggle", FLAG, id=sent)
    await wait_until(lambda: any(trap.sprung.is_set() for trap in traps))
    newer = await fleet.change(SPARE[1], True)
    await fleet.agreed(newer)
    for trap in traps:
        trap.let_go()
    late = await fleet.events.first(command_id=sent)
    assert (late["epoch"], late["version"]) == (newer.epoch, newer.version - 1)
    assert await fleet.projected(fleet.redis, at_least=newer)
    assert (await fleet.document(0)).position == newer


async def test_a_stopped_beacon_loses_its_office(fleet: Fleet) -> None:
    holder = await wait_until(fleet.in_office)
    elected = {one.id: len(one.said("beacon in office")) for one in fleet.all}
    holder.replica.send(signal.SIGSTOP)
    try:
        others = [one for one in fleet.all if one is not holder]

        def another() -> Instance | None:
            new = (one for one in others if len(one.said("beacon in office")) > elected[one.id])
            return next(new, None)

        await wait_until(another)
    finally:
        holder.replica.send(signal.SIGCONT)
    await fleet.agreed(await fleet.change(FLAG, True))


async def test_a_beacon_that_goes_on_leaves_what_others_have_answered(fleet: Fleet) -> None:
    """It was held, and finds a command that its sender was told came too soon."""
    changed = await fleet.change(FLAG, True)
    beacon = await wait_until(fleet.in_office)
    beacon.replica.send(signal.SIGSTOP)
    try:
        sent = await fleet.publish("toggle", FLAG)
        answer = await fleet.events.first(command_id=sent)
        assert answer["outcome"]["verdict"] == "debounced"

        async def forgotten() -> bool:
            return not await fleet.redis.exists(keys.debounce(FLAG))

        await wait_until(forgotten)
    finally:
        beacon.replica.send(signal.SIGCONT)
    after = await fleet.change(SPARE[1], True)
    await fleet.agreed(after)
    assert list(fleet.events.verdicts(sent)) == ["debounced"]
    assert after == (changed.epoch, changed.version + 1)


async def test_killed_between_commit_and_projection(fleet: Fleet) -> None:
    """kill -9 of whichever instance carries the command out, its projection still on the way."""
    known = max(one.position for one in fleet.all)
    sent = ids.new_id()
    traps = {one.id: one.redis.hold_at(projecting(sent)) for one in fleet.all}
    await fleet.undebounce(MAINTENANCE)
    await fleet.publish("set", MAINTENANCE, id=sent, value=True)
    dead = await wait_until(
        lambda: next((one for one in fleet.all if traps[one.id].sprung.is_set()), None)
    )
    dead.replica.send(signal.SIGKILL)
    await dead.replica.ended()
    dead.redis.kill()
    for trap in traps.values():
        trap.let_go()
    fleet.bury(dead)
    after = Position(known.epoch, known.version + 1)
    await fleet.agreed(after)
    assert await fleet.projected(fleet.redis, at_least=after)
    heard = len(fleet.events.heard)

    async def answered() -> bool:
        """As a publisher does: the same id again, until somebody answers."""
        await fleet.publish("set", MAINTENANCE, id=sent, value=True)
        return any(event.get("command_id") == sent for event in fleet.events.heard[heard:])

    await wait_until(answered)
    answer = await fleet.events.first(after=heard, command_id=sent)
    assert answer["outcome"]["verdict"] == "applied"
    assert (answer["epoch"], answer["version"]) == after, "it was carried out twice"


async def test_a_killed_beacon_is_succeeded(fleet: Fleet) -> None:
    holder = await wait_until(fleet.in_office)
    holder.replica.send(signal.SIGKILL)
    await holder.replica.ended()
    fleet.bury(holder)
    after = len(fleet.events.heard)
    await fleet.events.first(after=after, type="beacon")
    await fleet.redis.flushall()
    await wait_until(lambda: fleet.projected(fleet.redis))


def projecting(command_id: str) -> bytes:
    """What only the projection of this command's outcome carries to Redis."""
    return f'"command_id":"{command_id}"'.encode()
