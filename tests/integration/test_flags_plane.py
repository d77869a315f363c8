"""The control plane as a whole: commands in, the same document in every instance."""

import asyncio
import json
import math
from collections.abc import AsyncIterator
from datetime import UTC, datetime

import msgspec
import pytest
from redis.asyncio import Redis

from control import ids, keys
from control.clock import SystemClock
from control.flags import commands, events
from control.flags.answers import Answers
from control.flags.document import INGESTION, MAINTENANCE, Document, Flag, Position
from control.flags.errors import NobodyListens
from control.flags.outcome import Verdict
from control.flags.plane import ControlEvent, ControlPlane
from control.flags.publisher import Publisher
from control.stores.postgres import connection
from tests.conftest import LiveStores
from tests.planes import Planes, planes
from tests.stack import wait_until
from tests.steering import settled


async def test_a_command_reaches_every_instance(fleet: Planes, redis: Redis) -> None:
    instances = [await fleet.open(kind) for kind in ("service", "worker", "worker")]
    first = instances[0]
    assert first.replica.document.version == 0
    outcome = await first.change(
        commands.new("set", MAINTENANCE, value=True, actor="ann", reason="db upgrade")
    )
    assert outcome.verdict is Verdict.APPLIED
    assert outcome.document.version == 1
    done = await first.acknowledged(outcome.document.position, "applied", timeout_s=10)
    assert done.complete
    assert len(done.replicas) == 3
    for plane in instances:
        assert plane.replica.document == outcome.document
        assert plane.replica.raised is not None
        assert plane.replica.admits()
    assert await redis.hget(keys.FLAGS, MAINTENANCE) == b"1"
    assert await redis.hget(keys.FLAGS, INGESTION) == b"0"
    assert await redis.get(keys.status(MAINTENANCE)) == b"true"


async def test_too_soon_and_again(fleet: Planes, redis: Redis) -> None:
    plane = await fleet.open()
    toggle = commands.new("toggle", MAINTENANCE, actor="ann")
    assert (await plane.change(toggle)).verdict is Verdict.APPLIED
    again = await plane.change(toggle)
    assert again.verdict is Verdict.APPLIED
    assert again.document.version == 1
    other = await plane.change(commands.new("toggle", MAINTENANCE, actor="bob"))
    assert other.verdict is Verdict.DEBOUNCED
    assert other.document.is_active(MAINTENANCE)
    assert 0 < (other.retry_after_s or 0) <= 2
    held = Position(other.document.epoch, 0)
    late = await plane.change(commands.new("toggle", MAINTENANCE, actor="eve", expected=held))
    assert late.verdict is Verdict.CONFLICT, "to wait would not help"
    free = await plane.change(commands.new("toggle", INGESTION, actor="bob"))
    assert free.verdict is Verdict.APPLIED
    assert (await plane.audit.verify()).rows == 4


async def test_a_debounce_that_somebody_left_for_ever_does_not_count(
    fleet: Planes, redis: Redis
) -> None:
    plane = await fleet.open()
    await redis.set(keys.debounce(MAINTENANCE), "me")
    outcome = await plane.change(commands.new("toggle", MAINTENANCE, actor="ann"))
    assert outcome.verdict is Verdict.APPLIED
    assert 0 < await redis.pttl(keys.debounce(MAINTENANCE)) <= 2000


@pytest.mark.parametrize("ahead_ms", [3_000, 120_000])
async def test_a_clock_set_forward_ends_leases_but_nobody_is_given_up_for_it(
    fleet: Planes, redis: Redis, ahead_ms: int
) -> None:
    plane, other = await fleet.open(), await fleet.open("worker")
    await settled(redis)
    assert (await plane.registry.read()).whole
    # To leases and to Redis's clock it is the same.
    for instance, ends_at in await redis.zrange(keys.LEASES, 0, -1, withscores=True):
        await redis.zadd(keys.LEASES, {instance: ends_at - ahead_ms})
    assert not (await plane.registry.read()).whole
    await wait_until(lambda: _live(plane, 2))
    assert not (await plane.registry.read()).whole, "not before a lease has passed"
    assert other.replica.admits()


async def _live(plane: ControlPlane, count: int) -> bool:
    return len(await plane.replicas()) == count


@pytest.mark.parametrize("key", [keys.LEASES, keys.REPORTS, keys.BEGAN])
async def test_a_roll_that_somebody_spoilt_begins_anew(
    fleet: Planes, redis: Redis, key: str
) -> None:
    plane = await fleet.open()
    [before] = await plane.replicas()
    async with redis.pipeline() as spoiling:
        await spoiling.delete(key).sadd(key, "x").execute()

    async def whole() -> bool:
        return await redis.type(key) != b"set"

    await wait_until(whole)
    assert [report.id for report in await plane.replicas()] == [before.id]


async def test_what_queued_while_another_instance_changed_the_flag_came_too_soon(
    fleet: Planes, redis: Redis
) -> None:
    one, two = await fleet.open(), await fleet.open("worker")
    heard_at = SystemClock().monotonic()
    await one.change(commands.new("toggle", MAINTENANCE, actor="ann"))
    await wait_until(lambda: two.replica.position == one.replica.position)
    await redis.delete(keys.debounce(MAINTENANCE))  # as if its two seconds were over
    queued = commands.new("toggle", MAINTENANCE, actor="bob")
    outcome = await two.controller.carry_out(queued, heard_at=heard_at)
    assert outcome.verdict is Verdict.DEBOUNCED
    assert 0 < (outcome.retry_after_s or 0) <= 2
    fresh = await two.change(commands.new("toggle", MAINTENANCE, actor="bob"))
    assert fresh.verdict is Verdict.APPLIED


async def test_who_came_too_soon_may_come_again(fleet: Planes, redis: Redis) -> None:
    """With the same id: a client that repeats a 429 does so with its Idempotency-Key."""
    plane = await fleet.open()
    await plane.change(commands.new("toggle", MAINTENANCE, actor="ann"))
    first = commands.new("toggle", MAINTENANCE, actor="bob", request_id="one")
    later = msgspec.structs.replace(first, request_id="two")
    verdicts = [(await plane.change(first)).verdict]
    await redis.delete(keys.debounce(MAINTENANCE))
    verdicts += [(await plane.change(each)).verdict for each in (first, later, later)]
    # A copy of what was refused stays refused; asking again is another attempt.
    assert verdicts == [
        Verdict.DEBOUNCED, Verdict.DEBOUNCED, Verdict.APPLIED, Verdict.APPLIED,
    ]  # fmt: skip
    assert plane.replica.position.version == 2


async def test_an_emptied_redis_is_mended(fleet: Planes, redis: Redis) -> None:
    plane = await fleet.open()
    await plane.change(commands.new("toggle", MAINTENANCE, actor="ann"))
    await redis.flushall()

    async def mended() -> bool:
        return bool(await redis.hget(keys.FLAGS, MAINTENANCE) == b"1")

    await wait_until(mended)


async def test_changes_are_told_in_order(fleet: Planes) -> None:
    plane = await fleet.open()
    seen: list[Document] = []
    plane.replica.on_change(lambda _before, after: seen.append(after))
    for flag in (MAINTENANCE, INGESTION):
        await plane.change(commands.new("toggle", flag, actor="ann"))
    assert [document.version for document in seen] == [1, 2]


async def test_expectations_unknown_flags_and_repeats(fleet: Planes, redis: Redis) -> None:
    plane = await fleet.open()
    held = plane.replica.position
    late = commands.new("toggle", MAINTENANCE, actor="ann", expected=Position(held.epoch, 7))
    assert (await plane.change(late)).verdict is Verdict.CONFLICT
    refused = await plane.change(commands.new("toggle", "no_such_flag", actor="ann"))
    assert refused.verdict is Verdict.REFUSED
    # Neither holds up the next one: only what changes a flag is debounced.
    right = commands.new("set", MAINTENANCE, value=True, actor="ann", expected=held)
    assert (await plane.change(right)).verdict is Verdict.APPLIED
    other = commands.new("reset", MAINTENANCE, actor="ann", id=right.id)
    assert (await plane.change(other)).verdict is Verdict.KEY_REUSED
    assert await redis.exists(keys.debounce(MAINTENANCE)), "still that of the first"


async def test_what_drawbridge_does_itself_is_not_debounced(fleet: Planes) -> None:
    plane = await fleet.open()
    for version in (1, 2, 3):
        command = commands.new("toggle", INGESTION, actor="ingest")
        outcome = await plane.change(command, internal=True)
        assert (outcome.verdict, outcome.document.version) == (Verdict.APPLIED, version)


async def test_nonsense_on_the_channels_is_passed_over(fleet: Planes, redis: Redis) -> None:
    plane = await fleet.open()
    nonsense = [b"", b"{", b"\xff\x00", b"null", b'{"type":"flags"}', b"[" * 9000, b"x" * 100_000]
    for message in nonsense:
        assert await redis.publish(keys.COMMANDS_CHANNEL, message) == 1
        assert await redis.publish(keys.EVENTS_CHANNEL, message) == 1
    outcome = await plane.change(commands.new("toggle", MAINTENANCE, actor="ann"))
    assert (outcome.verdict, outcome.document.version) == (Verdict.APPLIED, 1)


async def test_a_bare_publish_works(fleet: Planes, redis: Redis) -> None:
    plane = await fleet.open()
    text = json.dumps({"v": 1, "id": ids.new_id(), "command": "toggle", "flag": MAINTENANCE})
    await redis.publish(keys.COMMANDS_CHANNEL, text)
    await wait_until(lambda: plane.replica.raised)
    assert plane.replica.raised is not None
    assert plane.replica.raised.changed_by == "unknown"


async def test_whoever_ends_is_missed_by_nobody(fleet: Planes) -> None:
    plane = await fleet.open()
    async with planes(fleet.config) as others:
        await others.open("worker")
        await wait_until(lambda: _count(plane, 2))
    assert [report.id for report in await plane.replicas()] == [plane.instance]


async def test_a_straggler_is_named(fleet: Planes, redis: Redis) -> None:
    plane = await fleet.open()
    await wait_until(lambda: _count(plane, 1))
    behind = msgspec.structs.replace(plane.presence.current(), id=ids.new_id(), host="elsewhere")
    await redis.zadd(keys.LEASES, {behind.id: 1 << 45})
    await redis.hset(keys.REPORTS, behind.id, msgspec.json.encode(behind))
    outcome = await plane.change(commands.new("toggle", MAINTENANCE, actor="ann"))
    waited = await plane.acknowledged(outcome.document.position, "applied", timeout_s=0.3)
    assert not waited.complete
    assert [report.host for report in waited.stragglers] == ["elsewhere"]
    rest = await plane.acknowledged(outcome.document.position, "quiesced", timeout_s=0.3)
    assert len(rest.stragglers) == 2
    plane.presence.report(phase="paused", running=0, quiesced=True)
    rest = await plane.acknowledged(outcome.document.position, "quiesced", timeout_s=0.3)
    assert [report.host for report in rest.stragglers] == ["elsewhere"]


async def test_operators_see_what_happens(fleet: Planes) -> None:
    plane = await fleet.open()
    async with plane.follow() as happening:
        await plane.change(commands.new("toggle", MAINTENANCE, actor="ann"))
        plane.presence.report(phase="draining", running=3, quiesced=False)
        seen = {}
        async with asyncio.timeout(60):
            async for event in happening:
                seen[event.type] = msgspec.json.decode(event.data)
                if seen.get("replica", {}).get("phase") == "draining":
                    break
    assert seen["flags"]["flags"][MAINTENANCE]["is_active"] is True
    assert seen["replica"]["running"] == 3


async def test_followers_see_what_redis_carries(fleet: Planes, redis: Redis) -> None:
    committing, other = await fleet.open(), await fleet.open()
    async with (
        asyncio.timeout(60),
        redis.pubsub() as channel,
        committing.follow() as here,
        other.follow() as there,
    ):
        await channel.subscribe(keys.EVENTS_CHANNEL)
        heard = (each["data"] async for each in channel.listen() if each["type"] == "message")
        said = (each async for each in heard if b'"type":"flags"' in each)
        told = [_flags(each) for each in (here, there)]
        toggle = commands.new("toggle", MAINTENANCE, actor="ann")
        await committing.change(toggle, internal=True)
        too_soon = commands.new("toggle", MAINTENANCE, actor="bob")
        await redis.set(keys.debounce(MAINTENANCE), "another", px=60_000)
        await other.change(too_soon)
        for command, verdict in ((toggle, "applied"), (too_soon, "debounced")):
            published = await anext(said)
            event = msgspec.json.decode(published)
            assert event["command_id"] == command.id
            assert event["outcome"]["verdict"] == verdict
            for each in told:
                followed = await anext(each)
                assert followed.data == published
                assert followed.id == f"{event['epoch']}.{event['version']}"


def _flags(happening: AsyncIterator[ControlEvent]) -> AsyncIterator[ControlEvent]:
    return (event async for event in happening if event.type == "flags")


async def test_followers_see_what_no_event_told(
    fleet: Planes, redis: Redis, monkeypatch: pytest.MonkeyPatch
) -> None:
    plane = await fleet.open()
    async with asyncio.timeout(60), plane.follow() as happening:
        flags = _flags(happening)
        outcome = await plane.controller.carry_out(
            commands.new("toggle", MAINTENANCE, actor="ann"), offline=True
        )
        told = await anext(flags)
        assert told.id == str(outcome.document.position)
        assert msgspec.json.decode(told.data)["command_id"] is None
        monkeypatch.setattr(plane.replica, "age_s", lambda _source: math.inf)
        again = commands.new("toggle", INGESTION, actor="ann")
        outcome = await plane.controller.carry_out(again, offline=True)
        assert (await anext(flags)).id == str(outcome.document.position)


async def test_a_truth_that_went_back_is_declared_anew(fleet: Planes, database_url: str) -> None:
    """A backup comes back: PostgreSQL is older than what everybody knows."""
    plane = await fleet.open()
    for flag in (MAINTENANCE, INGESTION):
        await plane.change(commands.new("toggle", flag, actor="ann"))
    known = plane.replica.position
    async with connection(database_url) as restored:
        await restored.execute("UPDATE drawbridge.flags_state SET version = 0")
        await restored.execute("UPDATE base_pricing.bp_app_status_master SET is_active = FALSE")
    await wait_until(lambda: plane.replica.position > known)
    assert plane.replica.position.epoch > known.epoch
    assert not plane.replica.document.is_active(MAINTENANCE)
    assert (await plane.audit.verify()).broken is None


async def test_a_forged_event_does_not_last(fleet: Planes, redis: Redis) -> None:
    plane = await fleet.open()
    forged = Document(plane.replica.position.epoch, 1 << 40, {MAINTENANCE: Flag(is_active=True)})
    seen: list[Document] = []
    plane.replica.on_change(lambda _before, after: seen.append(after))
    await redis.publish(keys.EVENTS_CHANNEL, events.of_document(forged, datetime.now(UTC)))
    await wait_until(lambda: len(seen) > 1)
    assert seen[0] == forged
    assert plane.replica.position.epoch > forged.epoch
    assert not plane.replica.raised


async def test_foreign_values_in_redis_are_mended(fleet: Planes, redis: Redis) -> None:
    await fleet.open()
    await redis.hset(keys.FLAGS, MAINTENANCE, "True")
    await redis.delete(keys.status(INGESTION))
    await redis.rpush(keys.status(INGESTION), "no string at all")
    await redis.set(keys.status(MAINTENANCE), "False")

    async def mended() -> bool:
        if await redis.type(keys.status(INGESTION)) != b"string":
            return False
        found = await redis.mget(keys.status(MAINTENANCE), keys.status(INGESTION))
        return found == [b"false"] * 2 and await redis.hget(keys.FLAGS, MAINTENANCE) == b"0"

    await wait_until(mended)
    await redis.set(keys.FLAGS, "no hash at all")
    await wait_until(lambda: _is_hash(redis))


async def test_without_an_instance_a_command_fails_at_once(
    stores: LiveStores, redis: Redis
) -> None:
    clock = SystemClock()
    with pytest.raises(NobodyListens):
        await Publisher(redis, Answers(clock), clock).send(
            commands.new("toggle", MAINTENANCE, actor="ann"), timeout_s=5
        )


async def test_every_key_is_in_the_inventory(fleet: Planes, redis: Redis) -> None:
    plane = await fleet.open()
    toggle = commands.new("toggle", MAINTENANCE, actor="ann")
    for _ in range(2):
        await plane.change(toggle)
    await wait_until(lambda: _count(plane, 1))
    found = [key.decode() async for key in redis.scan_iter()]
    assert len(found) >= 8
    assert [key for key in found if not keys.is_listed(key)] == []


async def _count(plane: ControlPlane, expected: int) -> bool:
    return len(await plane.replicas()) == expected


async def _is_hash(redis: Redis) -> bool:
    return bool(await redis.type(keys.FLAGS) == b"hash")
