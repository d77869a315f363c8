"""Commands and events that are malformed, hostile, repeated, out of order, or many at once."""

import asyncio
import random
import time
from collections import Counter
from typing import Any

import asyncpg
import msgspec
import pytest

from control import ids, keys
from control.flags.document import Position
from tests.faults.fleet import SPARE, Fleet
from tests.stack import clean_environment, drawbridge, wait_until

FLAG = SPARE[0]
ID = "01J0000000000000000000FAKE"


def command(**changes: Any) -> bytes:
    """A good command, but for ``changes``; ``...`` leaves a field out."""
    good = {"v": 1, "id": ids.new_id(), "command": "set", "flag": FLAG, "value": True}
    fields = {name: value for name, value in {**good, **changes}.items() if value is not ...}
    return msgspec.json.encode(fields)


HOSTILE = {
    "nothing": b"",
    "no JSON": b"maintenance on please",
    "half of it": command()[:-9],
    "two at once": command() + command(),
    "a list": b"[" + command() + b"]",
    "a number": b"1e400",
    "zero bytes": b"\x00" * 64,
    "no UTF-8": command(reason="x").replace(b'"x"', b'"\xff\xfe"'),
    "a lone surrogate": command(reason="x").replace(b'"x"', b'"\\ud800"'),
    "a depth of 4000": b"[" * 4000 + b"]" * 4000,
    "a depth in a good one": command(reason="x").replace(b'"x"', b"[" * 3000 + b"]" * 3000),
    "more than 8 KiB": command(x="x" * 8192),
    "a megabyte": command(x="x" * (1 << 20)),
    "version 2": command(v=2),
    "version true": command(v=True),
    "no version": command(v=...),
    "no id": command(id=...),
    "no ULID": command(id="1"),
    "an id with a line in it": command(id=f"{ID}\n"),
    "an id that is a key": command(id="drawbridge:{jobs}:flags"),
    "no such verb": command(command="drop"),
    "no flag": command(flag=...),
    "a flag with a blank": command(flag="app maintenance"),
    "a flag that is a key": command(flag="debounce:app_maintenance"),
    "set without a value": command(value=...),
    "set to null": command(value=None),
    "set to a word": command(value="true"),
    "a toggle with a value": command(command="toggle"),
    "an actor that clears the screen": command(actor="\x1b[2J"),
    "an actor that forges a line": command(actor="a\n[AUDIT] reset to OFF"),
    "an actor without end": command(actor="a" * 5000),
    "no actor's name": command(actor=""),
    "a reason without end": command(reason="r" * 5000),
    "a reason with a null byte": command(reason="\x00"),
    "until whenever": command(until="tomorrow"),
    "until without a zone": command(until="2026-11-21T10:00:00"),
    "until the year 0": command(until="0000-01-01T00:00:00Z"),
    "until in a zone beyond time": command(until="9999-12-31T23:59:59-23:59"),
    "a version below zero": command(expected_version=-1),
    "a version beyond PostgreSQL": command(expected_version=1 << 63),
    "a version that is a fraction": command(expected_version=1.5),
    "a mode of its own": command(mode="sideways"),
}
"""None of these may change anything, and none may stop anybody from listening."""

ALIEN = {
    "nothing": b"",
    "no JSON": b"\xff\x00",
    "another type": b'{"v":1,"type":"gossip"}',
    "another version": b'{"v":2,"type":"beacon","epoch":9,"version":9,"at":"2026-11-21T10:00:00Z"}',
    "no position": b'{"v":1,"type":"flags","flags":{},"command_id":null}',
    "a position of words": b'{"v":1,"type":"beacon","epoch":"x","version":"y","at":""}',
    "a depth": b"[" * 5000,
    "a depth in a good one": b'{"v":1,"type":"beacon","x":' + b"[" * 5000 + b"]" * 5000 + b"}",
    "a megabyte": b'"' + b"x" * (1 << 20) + b'"',
}
"""On the channel of events."""


async def test_what_is_no_command_is_dropped_and_the_listener_goes_on(fleet: Fleet) -> None:
    before = await fleet.change(FLAG, False, reason="before")
    for said in HOSTILE.values():
        reached = await fleet.redis.publish(keys.COMMANDS_CHANNEL, said)
        assert reached == len(fleet.all)
    after = await fleet.change(FLAG, False, reason="after")
    assert after == before, "something was obeyed"
    for one in fleet.all:
        await one.says("command dropped", after=len(HOSTILE) - 1)
        assert len(one.said("command dropped")) == len(HOSTILE)
        # What is too large at once, the rest when its turn comes.
        sizes = sorted(line["size"] for line in one.said("command dropped"))
        assert sizes == sorted(map(len, HOSTILE.values()))
        assert max(len(str(line)) for line in one.said("command dropped")) < 1000
    assert await fleet.redis.exists(keys.debounce("debounce:app_maintenance")) == 0


async def test_a_flag_that_nobody_declared_is_refused_and_entered(fleet: Fleet) -> None:
    sent = await fleet.publish("toggle", "app_unheard_of")
    answer = await fleet.events.first(command_id=sent)
    assert answer["outcome"]["verdict"] == "refused"
    assert "app_unheard_of" not in answer["flags"]
    [row] = await audited(fleet, command_id=sent)
    assert row["outcome"] == "refused"


async def test_what_is_no_event_is_dropped_and_the_replica_goes_on(fleet: Fleet) -> None:
    before = await fleet.change(FLAG, False, reason="quiet")
    for said in ALIEN.values():
        await fleet.redis.publish(keys.EVENTS_CHANNEL, said)
    position = await fleet.change(FLAG, True)
    await fleet.agreed(position)
    assert position == (before.epoch, before.version + 1)
    assert {one.position for one in fleet.all} == {position}


async def test_old_events_again_and_in_any_order_change_nothing(fleet: Fleet) -> None:
    after = len(fleet.events.heard)
    last = [await fleet.change(FLAG, number % 2 == 0) for number in range(6)][-1]
    await fleet.agreed(last)
    old = [dict(event) for event in fleet.events.heard[after:] if event["type"] == "flags"]
    random.Random(3).shuffle(old)
    for event in old * 3:
        event.pop("heard", None)
        await fleet.redis.publish(keys.EVENTS_CHANNEL, msgspec.json.encode(event))
    following = await fleet.change(FLAG, True)
    await fleet.agreed(following)
    for number in range(len(fleet.services)):
        assert (await fleet.document(number)).is_active(FLAG)


async def test_a_command_repeated_by_many_is_carried_out_once(fleet: Fleet) -> None:
    before = (await fleet.document(0)).position
    await fleet.undebounce(FLAG)
    same = command(command="toggle", value=..., actor="crowd")
    sent = msgspec.json.decode(same)["id"]
    await asyncio.gather(*(fleet.redis.publish(keys.COMMANDS_CHANNEL, same) for _ in range(25)))
    answer = await fleet.events.first(command_id=sent)
    assert answer["outcome"]["verdict"] == "applied"
    position = Position(answer["epoch"], answer["version"])
    assert position == (before.epoch, before.version + 1)
    await fleet.agreed(position)
    assert [row["outcome"] for row in await audited(fleet, command_id=sent)] == ["applied"]
    other = command(id=sent, flag=SPARE[1])
    await fleet.redis.publish(keys.COMMANDS_CHANNEL, other)
    answer = await wait_until(lambda: fleet.events.verdicts(sent).get("key_reused"))
    assert Position(answer["epoch"], answer["version"]) == position
    assert not (await fleet.document(0)).is_active(SPARE[1])


async def test_fifty_clients_at_once(fleet: Fleet) -> None:
    await crowd(fleet, clients=50, seconds=3)


@pytest.mark.soak
async def test_fifty_clients_at_once_for_twenty_seconds(fleet: Fleet) -> None:
    await crowd(fleet, clients=50, seconds=20)


async def crowd(fleet: Fleet, *, clients: int, seconds: float) -> None:
    """Toggle a flag for each five clients, by Redis and by HTTP; then every count must fit."""
    flags = SPARE[: clients // 5]
    started = await fleet.document(0)
    heard = len(fleet.events.heard)
    give_up = time.monotonic() + seconds
    verdicts: Counter[str] = Counter()
    toggled: Counter[str] = Counter()

    async def client(number: int) -> None:
        flag = flags[number % len(flags)]
        while time.monotonic() < give_up:
            if number % 2:
                verdict = await _toggle_by_redis(fleet, flag)
            else:
                verdict = await _toggle_by_http(fleet, flag, number)
            verdicts[verdict] += 1
            if verdict == "applied":
                toggled[flag] += 1
                await fleet.undebounce(flag)

    await asyncio.gather(*(client(number) for number in range(clients)))
    assert set(verdicts) == {"applied", "debounced"}, verdicts
    position = Position(started.epoch, started.version + verdicts["applied"])
    await fleet.agreed(position)
    for number in range(len(fleet.services)):
        ended = await fleet.document(number)
        assert ended.position == position
        for flag in flags:
            assert ended.is_active(flag) is started.is_active(flag) ^ bool(toggled[flag] % 2)
    applied = [
        event["version"]
        for event in fleet.events.heard[heard:]
        if event["type"] == "flags" and (event["outcome"] or {}).get("verdict") == "applied"
    ]
    assert set(applied) == set(range(started.version + 1, position.version + 1))
    environ = clean_environment(REDIS_URL=fleet.server.url, DATABASE_URL=fleet.database_url)
    status, out, err = await drawbridge("audit", "verify", environ=environ)
    assert status == 0, out + err


async def _toggle_by_redis(fleet: Fleet, flag: str) -> str:
    heard = len(fleet.events.heard)
    sent = await fleet.publish("toggle", flag)
    answer = await fleet.events.first(after=heard, command_id=sent)
    verdict: str = answer["outcome"]["verdict"]
    return verdict


async def _toggle_by_http(fleet: Fleet, flag: str, number: int) -> str:
    service = fleet.services[number % len(fleet.services)]
    async with fleet.http.post(f"{service.url}/control/flags/{flag}/toggle") as response:
        said = await response.json()
        if response.status == 429:
            return "debounced"
        assert response.status == 200, said
        return "applied"


async def audited(fleet: Fleet, *, command_id: str) -> list[Any]:
    """The rows of one command."""
    connection = await asyncpg.connect(fleet.database_url)
    try:
        rows: list[Any] = await connection.fetch(
            "SELECT * FROM drawbridge.audit WHERE command_id = $1", command_id
        )
        return rows
    finally:
        await connection.close()
