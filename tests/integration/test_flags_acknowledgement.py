"""Waiting for a large fleet costs reads of the roll by the wait, not by the report."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import aclosing

import pytest
from redis.asyncio import Redis

from control import ids, keys
from control.clock import SystemClock
from control.flags.acknowledgement import LOOK_AGAIN_S, Acknowledgements
from control.flags.document import Document
from control.flags.presence import Presence, Registry, Roll
from control.flags.replica import LEASE_S, Replica
from control.lifespan import Lifespan
from control.stores import redis as redis_store
from control.stores.postgres import Database
from control.stores.wire import Wire
from control.subscriber import Subscriber
from tests.conftest import LiveStores
from tests.stack import wait_until

FLEET = 60
OLD, NEW = (Document(1, version, {}) for version in (1, 2))


class Counted(Registry):
    """The real one; counts how often it is asked."""

    reads = 0

    async def read(self) -> Roll:
        self.reads += 1
        return await super().read()


class Fleet:
    """Real presences on one connection, and one who waits for them."""

    def __init__(
        self, life: Lifespan, commands: Redis, listening: Redis, database: Database
    ) -> None:
        clock = SystemClock()
        wire = Wire(commands)
        self.replicas = [Replica(clock) for _ in range(FLEET)]
        self.presences = [
            Presence(ids.new_id(), "worker", redis=wire, replica=one, clock=clock)
            for one in self.replicas
        ]
        self.registry = Counted(commands, database)
        subscriber = Subscriber(listening, clock)
        self.waiting = Acknowledgements(self.registry, subscriber, clock)
        life.supervise("subscriber", subscriber.run())
        for one in self.replicas:
            one.apply(OLD, "event")
        for number, presence in enumerate(self.presences):
            life.supervise(f"presence {number}", presence.run())


@pytest.fixture
async def fleet(stores: LiveStores, redis: Redis, database: Database) -> AsyncIterator[Fleet]:
    url = stores.addresses.redis_url
    async with Lifespan(signals=False) as life:
        commands = await life.enter(aclosing(redis_store.client(url)))
        listening = await life.enter(aclosing(redis_store.client(url, retries=0)))
        made = Fleet(life, commands, listening, database)

        async def all_live() -> bool:
            return len((await made.registry.read()).replicas) == FLEET

        await wait_until(all_live)
        # The roll has been whole for a lease, as in a fleet that has run for a while.
        await redis.decrby(keys.BEGAN, int(LEASE_S * 1000))
        made.registry.reads = 0
        yield made


async def test_reports_are_heard_and_the_roll_is_read_to_confirm(fleet: Fleet) -> None:
    loop = asyncio.get_running_loop()
    began = loop.time()
    wait = asyncio.create_task(fleet.waiting.wait(NEW.position, "applied", timeout_s=30))
    await wait_until(lambda: fleet.registry.reads)
    for one in fleet.replicas:  # one after the other: each report is a message of its own
        one.apply(NEW, "event")
        await asyncio.sleep(0.005)
    done = await wait
    assert done.complete
    assert [report.position for report in done.replicas] == [NEW.position] * FLEET
    looks = (loop.time() - began) / LOOK_AGAIN_S
    assert fleet.registry.reads <= looks + 3, "at first, each time it looks again, and at last"


async def test_who_leaves_is_waited_for_no_longer(fleet: Fleet) -> None:
    *others, last = fleet.replicas
    wait = asyncio.create_task(fleet.waiting.wait(NEW.position, "applied", timeout_s=30))
    for one in others:
        one.apply(NEW, "event")
    await fleet.presences[-1].leave()
    done = await wait
    assert done.complete
    assert last.position == OLD.position
    assert len(done.replicas) == len(others)


async def test_who_stopped_resting_is_a_straggler(fleet: Fleet) -> None:
    for presence in fleet.presences:
        presence.report(phase="paused", running=0, quiesced=True)
    wait = asyncio.create_task(fleet.waiting.wait(NEW.position, "quiesced", timeout_s=1))
    *others, last = fleet.presences
    for one in fleet.replicas[:-1]:
        one.apply(NEW, "event")
    last.report(phase="running", running=1, quiesced=False)
    fleet.replicas[-1].apply(NEW, "event")
    done = await wait
    assert not done.complete
    assert [late.id for late in done.stragglers] == [last.current().id]
    assert len(done.replicas) == len(others) + 1
