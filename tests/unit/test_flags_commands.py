"""Commands: what is taken, what is dropped, and what each does to a flag."""

import json
from datetime import UTC, datetime, timedelta
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from control import ids
from control.errors import InvalidInput
from control.flags import commands
from control.flags.commands import BadCommand
from control.flags.document import (
    MAINTENANCE,
    Document,
    Flag,
    Position,
    decode,
    encode,
    redis_value_to_bool,
)

NOW = datetime(2026, 11, 21, 12, tzinfo=UTC)
ID = "01KAJ7Q4Y0ZZZZZZZZZZZZZZZZ"
GOOD: dict[str, Any] = {"v": 1, "id": ID, "command": "toggle", "flag": MAINTENANCE, "actor": "ann"}


def raw(**changes: Any) -> bytes:
    return json.dumps({**GOOD, **changes}).encode()


def test_the_contract_s_own_form_is_read() -> None:
    command = commands.parse(
        raw(
            command="set",
            value=True,
            reason="db upgrade",
            until="2026-11-21T14:00:00+01:00",
            expected_version=41,
        )
    )
    assert command.until == datetime(2026, 11, 21, 13, tzinfo=UTC)
    assert (command.value, command.reason, command.expected_version) == (True, "db upgrade", 41)
    nulls = raw(value=None, reason=None, until=None, expected_version=None)
    assert commands.parse(nulls).command == "toggle"


def test_what_a_newer_release_adds_is_passed_over() -> None:
    assert commands.parse(raw(colour="green")).id == ID


@pytest.mark.parametrize(
    "message",
    [
        b"",
        b"toggle",
        b"[]",
        b"null",
        b"\xff\xfe",
        b'{"v":1',
        raw(v=2),
        raw(v="1"),
        raw(id="not-a-ulid"),
        raw(id=ID.lower()),
        raw(id=ID + "\n"),
        raw(command="drop"),
        raw(flag="App"),
        raw(flag=""),
        raw(flag="a" * 64),
        raw(flag="x}\r\nSET a 1"),
        raw(command="set"),
        raw(command="set", value="true"),
        raw(command="set", value=1),
        raw(value=True),
        raw(actor=""),
        raw(actor="a" * 201),
        raw(actor="ann\n[AUDIT] forged"),
        raw(reason="r" * 501),
        raw(reason="\x1b[2J"),
        raw(until="tomorrow"),
        raw(until="2026-11-21T14:00:00"),
        raw(until="0001-01-01T00:00:00+14:00"),
        raw(mode="half"),
        raw(expected_version=-1),
        raw(expected_version=1 << 70),
        raw(request_id="r" * 129),
        b'{"v":1,"v":2,' + raw()[1:-1] + b',"v":3}',
        raw(reason="r" * commands.MAX_BYTES),
        b"[" * 8000,
    ],
)
def test_what_is_no_command_is_refused(message: bytes) -> None:
    with pytest.raises(BadCommand):
        commands.parse(message)


@given(st.binary(max_size=200) | st.text(max_size=200).map(str.encode))
def test_no_bytes_do_harm(message: bytes) -> None:
    with pytest.raises(BadCommand):
        commands.parse(message)


def test_one_of_our_own_is_checked_alike() -> None:
    with pytest.raises(InvalidInput) as refused:
        commands.new("set", MAINTENANCE, actor="ann")
    assert refused.value.where == "value"
    made = commands.new("reset", MAINTENANCE, actor="ann", expected=Position(7, 3))
    assert ids.is_id(made.id)
    assert (made.expected_epoch, made.expected_version) == (7, 3)
    assert commands.parse(commands.encode(made)) == made


def test_a_key_stands_for_one_command() -> None:
    one = commands.id_of_key("ann", "deploy-17")
    assert ids.is_id(one)
    assert one == commands.id_of_key("ann", "deploy-17")
    others = {commands.id_of_key("bob", "deploy-17"), commands.id_of_key("ann", "deploy-18")}
    assert one not in others
    assert len(others) == 2


def test_the_digest_is_of_what_is_asked() -> None:
    one = commands.new("toggle", MAINTENANCE, actor="ann", request_id="a")
    same = commands.new("toggle", MAINTENANCE, actor="ann", request_id="b")
    assert one.digest() == same.digest()
    assert one.digest() != commands.new("reset", MAINTENANCE, actor="ann").digest()


def change(flag: Flag, verb: str, **fields: Any) -> Flag:
    command = commands.new(verb, MAINTENANCE, actor="ann", **fields)  # type: ignore[arg-type]
    return commands.changed(flag, command, NOW)


def test_a_toggle_flips() -> None:
    until = NOW + timedelta(minutes=20)
    on = change(Flag(), "toggle", reason="upgrade", until=until, mode="read_only")
    assert on == Flag(
        is_active=True, changed_at=NOW, changed_by="ann", reason="upgrade", until=until,
        mode="read_only",
    )  # fmt: skip
    off = change(on, "toggle")
    assert off == Flag(is_active=False, changed_at=NOW, changed_by="ann")


def test_a_set_repeats_harmlessly() -> None:
    on = change(Flag(), "set", value=True, reason="upgrade")
    assert change(on, "set", value=True, reason="upgrade") is on
    assert change(on, "set", value=True, reason="longer").reason == "longer"
    assert change(on, "set", value=True, reason="upgrade", mode="read_only").mode == "read_only"


def test_a_reset_switches_off_and_only_off() -> None:
    on = change(Flag(), "toggle")
    off = change(on, "reset", reason="over")
    assert not off.is_active
    assert off.reason == "over"
    assert change(off, "reset") is off
    assert change(off, "set", value=False) is off


def test_positions_are_ordered_and_read_back() -> None:
    assert Position(1, 9) < Position(2, 0) < Position(2, 1)
    assert Position.parse(str(Position(1763700000000, 41))) == Position(1763700000000, 41)
    for text in ("", "1", "1.", ".1", "1.2.3", "-1.2", "1,2"):
        with pytest.raises(ValueError, match="position"):
            Position.parse(text)


def test_a_document_survives_its_journey() -> None:
    document = Document(7, 3, {MAINTENANCE: change(Flag(), "toggle", reason="ünïcode ✓")})
    assert decode(encode(document)) == document
    assert not document.is_active("beta_search")
    with pytest.raises(msgspec.DecodeError):
        decode(b'{"epoch":1}')


@pytest.mark.parametrize(
    ("value", "meaning"),
    [
        ("False", False), ("0", False), ("off", False), (b"true", True), (1, True), (0, False),
        (True, True), (b"False", False), ("TRUE ", True), ("on", True), ("no", False), ("", False),
        (b'"true"', True), (None, None), ("perhaps", None), (b"\xff", None), ([], None),
    ],
)  # fmt: skip
def test_a_foreign_writer_s_value_is_read_as_it_is_meant(value: Any, meaning: bool | None) -> None:
    assert redis_value_to_bool(value) is meaning
