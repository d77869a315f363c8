"""Links between an instance and Redis that break, go silent or are slow while a flag changes."""

import time

import pytest

from control import keys
from control.flags.document import MAINTENANCE, Position
from tests.faults.fleet import SPARE, Fleet, Instance
from tests.faults.proxy import Way
from tests.faults.witness import observed
from tests.stack import wait_until

SUBSCRIBE = b"$9\r\nSUBSCRIBE\r\n"
SUBSCRIBED = b"$9\r\nsubscribe\r\n"
SNAPSHOT = b'{"epoch":'
"""How a document begins, and nothing else that Redis sends."""
FLAG = SPARE[0]


@pytest.fixture
async def victim(fleet: Fleet) -> Instance:
    """A service that is not the beacon, for that one hears of changes from PostgreSQL too."""
    beacon = await wait_until(fleet.in_office)
    fleet.services.sort(key=lambda one: one is not beacon)
    await fleet.settled(1)
    return fleet.services[1]


async def test_a_connection_killed_during_a_change_misses_nothing(fleet: Fleet) -> None:
    """Every subscriber loses its connection around each of a series of changes."""
    for number in range(3):
        await fleet.redis.client_kill_filter(_type="pubsub")

        async def changed(value: bool = number % 2 == 0) -> bool:
            status, _ = await fleet.put(FLAG, value, wait="applied")
            assert status in (200, 503), "somebody missed it"
            return status == 200  # else nobody listened

        await wait_until(changed)
    held = [(await fleet.document(number)).position for number in range(2)]
    assert held[0] == held[1]
    await fleet.agreed(held[0])


async def test_what_was_published_before_the_confirmation_is_in_the_snapshot(
    fleet: Fleet, victim: Instance
) -> None:
    """The link heals, but Redis gets the SUBSCRIBE late and the change falls before it.

    After the confirmation the subscription is held too, so that no beacon can help.
    """
    lost = len(victim.said("subscription lost"))
    victim.redis.cut()
    await victim.says("subscription lost", after=lost)
    victim.redis.heal()
    slow = victim.redis.hold_at(SUBSCRIBE, Way.UP)
    deaf = victim.redis.hold_after(SUBSCRIBED)
    await slow.caught()
    for _ in range(20):  # time in which it could read a snapshot too early
        await fleet.freshness(1)
    position = await fleet.change(FLAG, True)
    assert victim.position < position, victim.said("flags applied")[-1]
    before = other_ways(victim)
    slow.let_go()
    await victim.applies(position)
    assert other_ways(victim) == before, "another connection brought it"
    deaf.let_go()


async def test_a_change_while_the_snapshot_is_on_its_way_is_not_undone_by_it(
    fleet: Fleet, victim: Instance
) -> None:
    victim.redis.kill()
    old = victim.redis.hold_at(SNAPSHOT, Way.DOWN)
    await old.caught()
    position = await fleet.change(FLAG, True)
    await victim.applies(position)  # by the event, on the other connection
    old.let_go()
    fresh = len(victim.said("control state fresh"))
    after = await fleet.change(FLAG, False)
    await victim.applies(after)
    assert victim.positions[-2:] == [position, after]
    assert len(victim.said("control state fresh")) == fresh
    assert (await fleet.document(1)).position == after


async def test_a_link_that_swallows_is_noticed_and_postgresql_takes_over(
    fleet: Fleet, victim: Instance
) -> None:
    victim.redis.swallow()
    status, _ = await fleet.put(MAINTENANCE, True, wait="applied")
    returned = time.monotonic()
    assert status == 200
    async with observed([one.url for one in fleet.services]) as observer:
        position = (await fleet.document(0)).position
        await victim.applies(position)
        assert victim.said("flags applied", position=str(position), source="database")
        await observer.all_say(refused=True, since=returned)
        assert observer.admitted_after(returned) == []
    assert (await fleet.freshness(1))["source"] == "database"
    victim.redis.heal()
    await wait_until(lambda: _source_is(fleet, 1, "redis"))


async def test_a_deaf_instance_that_breathes_is_waited_for(fleet: Fleet, victim: Instance) -> None:
    """Its subscription is half-open, its other connection is well: it must not be passed over."""
    trap = victim.redis.hold_after(b'"beacon"')
    await trap.caught()
    async with observed([victim.url]) as observer:
        status, _ = await fleet.put(MAINTENANCE, True, wait="applied")
        returned = time.monotonic()
        assert status == 200
        position = (await fleet.document(0)).position
        assert victim.position >= position
        await observer.says(0, refused=True, since=returned)
        assert observer.admitted_after(returned) == []
    trap.let_go()


async def test_who_is_no_longer_counted_shuts_its_own_door(fleet: Fleet, victim: Instance) -> None:
    """It hears everything, but its lease is not renewed: the fleet goes on without it."""
    victim.database.hold(Way.DOWN)
    victim.redis.hold_at(keys.LEASES.encode(), Way.UP)
    async with observed([victim.url]) as observer:
        await observer.says(0, refused=True, since=time.monotonic())
        position = await fleet.change(FLAG, True)
        await victim.applies(position)
        assert victim.said("flags applied")[-1]["source"] == "event"

        async def forgotten() -> bool:
            status, said = await fleet.get("/control/replicas")
            return status == 200 and victim.id not in {each["id"] for each in said["replicas"]}

        # Its lease ends after its own door is shut, by as long as the renewal was on its way.
        await wait_until(forgotten)
        victim.heal()
        await observer.says(0, refused=False, since=time.monotonic())


async def test_a_beacon_cut_off_from_redis_gives_up_its_office(fleet: Fleet) -> None:
    """It still holds its lock in PostgreSQL, but nobody hears it."""
    beacon = await wait_until(fleet.in_office)
    beacon.redis.cut()
    await wait_until(lambda: fleet.in_office() is not beacon)
    await fleet.events.first(after=len(fleet.events.heard), type="beacon")


async def test_a_slow_link_brings_everything_late_and_in_order(
    fleet: Fleet, victim: Instance
) -> None:
    before = victim.position
    victim.redis.slow(0.15)
    victim.redis.kill()
    positions = [await fleet.change(FLAG, number % 2 == 0) for number in range(5)]
    await victim.applies(positions[-1])
    assert set(victim.positions) >= {Position(*before)}


def other_ways(one: Instance) -> int:
    """How often it began to hear of changes otherwise: on a new connection, or from PostgreSQL."""
    return len(one.said("subscription lost")) + len(one.said("control state stale"))


async def _source_is(fleet: Fleet, service: int, source: str) -> bool:
    return bool((await fleet.freshness(service))["source"] == source)
