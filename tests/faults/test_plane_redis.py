"""A Redis that forgets, comes back empty, is replaced by one that lags, or drops slow readers."""

import asyncio
import signal
import time

import msgspec
import pytest
from redis.asyncio import Redis

from control import cancelling, keys
from control.errors import DrawbridgeError
from control.flags.document import INGESTION, MAINTENANCE
from tests.faults.conftest import Jobs
from tests.faults.fleet import PING, SPARE, Fleet
from tests.faults.proxy import Way, proxy_to
from tests.faults.servers import own_redis
from tests.faults.witness import monitored, observed
from tests.stack import wait_until

FLAG = SPARE[0]


async def test_flushall_under_load_opens_no_gate_and_is_repaired(fleet: Fleet) -> None:
    urls = [one.url for one in fleet.services]
    async with observed(urls) as observer, monitored(fleet.server.socket) as journal:
        pouring = asyncio.create_task(pour(fleet.redis))
        await wait_until(lambda: journal.count("C") > 5)
        status, _ = await fleet.put(MAINTENANCE, True, wait="applied")
        assert status == 200
        returned = time.monotonic()
        for _ in range(3):
            await fleet.redis.flushall()
            await wait_until(lambda: fleet.projected(fleet.redis))
            await observer.all_say(refused=True, since=time.monotonic())
        assert observer.admitted_after(returned) == []
        assert await fleet.redis.get(keys.status(MAINTENANCE)) == b"true"
        assert journal.behind_the_bridge() == []
        lowered = await fleet.change(MAINTENANCE, False)
        await fleet.agreed(lowered)
        claimed = journal.count("C")
        await wait_until(lambda: journal.count("C") > claimed + 5)
        await cancelling.end(pouring)
        assert journal.steps.count("L") == 1, "nobody else lowered it"


async def test_a_redis_restarted_empty_gets_everything_back(fleet: Fleet) -> None:
    before = await fleet.change(INGESTION, True)
    await fleet.server.kill()
    fleet.server.forget()
    await fleet.server.start()
    await wait_until(lambda: fleet.projected(fleet.redis))
    stored = msgspec.json.decode(await fleet.redis.hget(keys.FLAGS, "document"))
    assert (stored["epoch"], stored["version"]) == before
    assert await fleet.redis.get(keys.status(INGESTION)) == b"true"
    after = await fleet.change(INGESTION, False)
    assert after == (before.epoch, before.version + 1)
    await fleet.agreed(after)


async def test_a_change_made_while_redis_was_gone_is_in_the_empty_one(fleet: Fleet) -> None:
    await fleet.server.kill()
    fleet.server.forget()
    status, said = await fleet.put(MAINTENANCE, True, wait="applied", timeout_s=15)
    assert status == 200, said
    returned = time.monotonic()
    async with observed([one.url for one in fleet.services]) as observer:
        await fleet.server.start()
        await wait_until(lambda: fleet.projected(fleet.redis))
        await observer.all_say(refused=True, since=time.monotonic())
        assert observer.admitted_after(returned) == []
    assert await fleet.redis.hget(keys.FLAGS, MAINTENANCE) == b"1"


async def test_a_replica_promoted_with_a_lost_write_is_brought_forward(
    fleet: Fleet, tmp_path_factory: pytest.TempPathFactory
) -> None:
    """Real replication, cut before the change; then the replica takes the primary's place."""
    port = await fleet.server.listen()
    async with (
        own_redis(tmp_path_factory.mktemp("standby")) as standby,
        proxy_to(("127.0.0.1", port)) as replication,
    ):
        await standby.client.replicaof("127.0.0.1", replication.port)
        known = await fleet.change(INGESTION, False, reason="replicated")
        await wait_until(lambda: fleet.projected(standby.client, at_least=known))
        replication.cut()
        raised = await fleet.change(MAINTENANCE, True, reason="lost")
        await fleet.agreed(raised)
        assert not await fleet.projected(standby.client, at_least=raised)
        async with observed([one.url for one in fleet.services]) as observer:
            moment = time.monotonic()
            await standby.client.replicaof("NO", "ONE")
            fleet.lead_to(standby)
            await wait_until(lambda: fleet.projected(standby.client, at_least=raised))
            await observer.all_say(refused=True, since=time.monotonic())
            assert observer.admitted_after(moment) == []
        assert await standby.client.hget(keys.FLAGS, MAINTENANCE) == b"1"
        fleet.lead_to(fleet.server)
        await wait_until(lambda: fleet.projected(fleet.redis, at_least=raised))


async def test_an_instance_without_the_truth_does_not_refill_an_emptied_redis(
    fleet: Fleet,
) -> None:
    """It missed a change, and finds an empty Redis before anybody who knows better does."""
    knows, missed = fleet.services
    missed.cut_off()
    async with observed([one.url for one in fleet.services]) as observer:
        status, _ = await fleet.put(MAINTENANCE, True, wait="applied", timeout_s=15)
        assert status == 200
        returned = time.monotonic()
        for one in (knows, *fleet.workers):
            one.redis.cut()
        await fleet.redis.flushall()
        missed.redis.heal()  # PostgreSQL stays away from it
        for _ in range(3):  # seconds; by then it has asked both stores for the flags
            second = missed.redis.hold_at(PING)
            await second.caught()
            second.let_go()
        for one in (knows, *fleet.workers):
            one.redis.heal()
        await wait_until(lambda: fleet.projected(fleet.redis))
        await observer.says(1, refused=True, since=time.monotonic())
        assert await fleet.redis.hget(keys.FLAGS, MAINTENANCE) == b"1"
        assert observer.admitted_after(returned) == []


async def test_an_emptied_roll_is_not_taken_for_the_whole_fleet(fleet: Fleet) -> None:
    """Redis forgets who is live while an instance is held; it goes on at once, and hears nothing.

    Until its lease is over it trusts what it knows, so nobody may be told before that.
    """
    held = fleet.services[1]
    await fleet.settled(1)
    async with observed([one.url for one in fleet.services]) as observer:
        held.replica.send(signal.SIGSTOP)
        try:
            held.redis.hold(Way.DOWN)
            held.database.hold(Way.DOWN)
            await fleet.redis.flushall()
            status, said = await fleet.put(MAINTENANCE, True, wait="applied", timeout_s=20)
            returned = time.monotonic()
        finally:
            held.replica.send(signal.SIGCONT)
        assert status == 200, said
        later = await wait_until(lambda: observer.answers_of(1, since=returned)[20:])
        assert {one.problem for one in later} == {"control_state_stale"}
        held.heal()
        await observer.all_say(refused=True, since=time.monotonic())
        assert observer.admitted_after(returned) == []


async def test_a_stalled_reader_is_dropped_and_misses_nothing(fleet: Fleet) -> None:
    """Redis closes the connection of a stopped instance whose output buffer overflows."""
    limit = "client-output-buffer-limit"
    usual = (await fleet.redis.config_get(limit))[limit]
    await fleet.redis.config_set(limit, "pubsub 4mb 4mb 0")
    stalled = fleet.services[1]
    stalled.replica.send(signal.SIGSTOP)
    try:
        before = await overflows(fleet.redis)
        for _ in range(100):
            flood = fleet.redis.pipeline(transaction=False)
            for _ in range(100):
                flood.publish(keys.EVENTS_CHANNEL, b"x" * 8000)  # longer ones Redis only refers to
            await flood.execute()
            if await overflows(fleet.redis) > before:
                break
        else:
            raise AssertionError("no buffer overflowed")
        position = await fleet.change(FLAG, True)
    finally:
        stalled.replica.send(signal.SIGCONT)
        await fleet.redis.config_set(limit, usual)
    await fleet.agreed(position)


async def pour(redis: Redis) -> None:
    """Submit jobs for ever, whatever comes of it."""
    jobs = Jobs(redis)
    while True:
        try:
            await jobs.submit("echo")
        except DrawbridgeError:
            await asyncio.sleep(0.01)


async def overflows(redis: Redis) -> int:
    """How many clients Redis dropped because they did not read."""
    found: int = (await redis.info("stats"))["client_output_buffer_limit_disconnections"]
    return found
