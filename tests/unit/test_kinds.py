"""Declarations of kinds: what their payloads may be, and what stops the start with one line."""

import sys
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec
import pytest

from control.errors import ConfigError, InvalidInput
from worker import job, resource
from worker.jobs import kinds
from worker.jobs.kinds import kind_of
from worker.resources import NotOpened, opened

USERS = "tests.models.user_kinds"


class Body(msgspec.Struct):
    n: int


@dataclass
class Later:
    n: int


async def run(context: Any, payload: Body) -> None: ...


async def quoted(context: "Unknown", payload: "Later | None") -> None: ...  # type: ignore[name-defined] # noqa: F821


async def bare(context, payload): ...


def plain(context: Any, payload: list[Body]) -> None: ...


@pytest.mark.parametrize(
    ("function", "options", "expected"),
    [
        (run, {}, Body),
        (run, {"payload": Later}, Later),
        (quoted, {}, Later | None),
        (bare, {}, None),
        (plain, {"cpu": True}, list[Body]),
    ],
)
def test_the_annotation_is_the_payloads_type(function, options, expected: Any) -> None:
    assert kind_of(job("k", **options)(function)).payload == expected


async def no_type(context: Any, payload: "Nowhere") -> None: ...  # type: ignore[name-defined] # noqa: F821


async def not_json(context: Any, payload: dict[str, Path | Body]) -> None: ...


async def custom(context: Any, payload: ConfigError) -> None: ...


async def alone(context: Any) -> None: ...


@pytest.mark.parametrize(
    ("function", "options", "told"),
    [
        (no_type, {}, "the annotation of 'payload' cannot be read"),
        (not_json, {}, "its payload must be a msgspec Struct, a dataclass"),
        (custom, {}, "its payload must be a msgspec Struct, a dataclass"),
        (run, {"payload": 7}, "its payload must be"),
        (alone, {}, r"takes \(context, payload\)"),
        (run, {"cpu": True}, "a plain function"),
        (plain, {}, "an async one"),
        (run, {"max_attempts": 0}, "max_attempts"),
        (run, {"timeout_s": 0}, "timeout_s"),
        (run, {"retry_on": (int,)}, "retry_on"),
        (run, {"concurrency": 0}, "concurrency"),
    ],
)
def test_a_wrong_declaration_is_told_in_one_line(function, options, told: str) -> None:
    with pytest.raises(ConfigError, match=told) as caught:
        job("wrong", **options)(function)
    assert "'wrong'" in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("kind", "payload", "field"),
    [
        ("greet", b"{}", "name"),
        ("greet", b'{"name":"x","nam":1}', "nam"),
        ("add", b'{"terms":[1,null]}', "terms[1]"),
        ("weather", b'{"city":1}', "city"),
    ],
)
def test_a_payload_that_does_not_fit_names_the_field(kind: str, payload: bytes, field: str) -> None:
    known = kinds.load([USERS]).get(kind)
    assert known is not None
    with pytest.raises(InvalidInput) as caught:
        known.decode(payload)
    assert caught.value.where == field
    with pytest.raises(InvalidInput):
        known.validated(msgspec.json.decode(payload))


def test_a_module_named_twice_and_a_function_with_two_names(tmp_path, monkeypatch) -> None:
    monkeypatch.syspath_prepend(tmp_path)
    source = "from worker import job\n@job('twin')\nasync def one(c, p): ...\ntwo = one\n"
    (tmp_path / "twins.py").write_text(source)
    known = [kind.name for kind in kinds.load(["twins", "twins"])]
    assert known == [*(kind.name for kind in kinds.load([])), "twin"]


@pytest.mark.parametrize(
    ("source", "told"),
    [
        ("1 / 0", "cannot import faulty: ZeroDivisionError: division by zero (line 1 of "),
        ("def", "cannot import faulty: SyntaxError"),
        ("import nonesuch", "cannot import faulty: No module named 'nonesuch'"),
        ("from worker import job\n@job('X')\nasync def x(c, p): ...", "'X' is no name"),
        (
            "from worker import job\n@job('a')\nasync def x(c, p): ...\n"
            "@job('a')\nasync def y(c, p): ...",
            "two job kinds are named 'a'",
        ),
        ("from worker import resource\n@resource\nasync def x(): ...", "resource x: must be"),
    ],
)
def test_a_module_that_cannot_be_used(tmp_path, monkeypatch, source: str, told: str) -> None:
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.delitem(sys.modules, "faulty", raising=False)
    monkeypatch.setattr(sys, "dont_write_bytecode", True)
    (tmp_path / "faulty.py").write_text(source)
    with pytest.raises(ConfigError) as caught:
        kinds.load(["faulty"])
    assert told in str(caught.value)
    assert "\n" not in str(caught.value)


@resource
async def first() -> AsyncIterator[str]:
    SAID.append("open 1")
    yield "one"
    SAID.append("close 1")


@resource
async def second() -> AsyncIterator[str]:
    SAID.append("open 2")
    if FAIL:
        raise ConnectionError("no such host")
    yield "two"
    SAID.append("close 2")
    raise OSError("broke while closing")


SAID: list[str] = []
FAIL: list[bool] = []


@pytest.fixture(autouse=True)
def quiet() -> None:
    SAID.clear()
    FAIL.clear()


async def test_resources_open_in_order_and_close_whatever_one_raises() -> None:
    async with opened([__name__, __name__]) as found:
        assert found == {first: "one", second: "two"}
    assert SAID == ["open 1", "open 2", "close 2", "close 1"]


async def test_a_resource_that_does_not_open_stops_the_start() -> None:
    FAIL.append(True)
    with pytest.raises(NotOpened, match="resource second did not open: ConnectionError: no such"):
        async with opened([__name__]):
            raise AssertionError
    assert SAID == ["open 1", "open 2", "close 1"]


async def test_kinds_are_given_what_was_opened() -> None:
    async with opened([USERS]) as found:
        shout = kinds.load([USERS]).given(found).get("shout")
    assert shout is not None
    assert list(shout.resources.values()) == [{"hello": "ahoy"}]


def test_limits_are_those_of_the_declaration_unless_the_configuration_says_otherwise() -> None:
    known = kinds.load(["tests.kinds"])
    assert (known.limits("io"), known.limits("cpu")) == ({"single": 1}, {})
    known = known.limited(["optimize=2", "single=5"])
    assert (known.limits("io"), known.limits("cpu")) == ({"single": 5}, {"optimize": 2})
    with pytest.raises(ConfigError, match="no job kind is named 'nonesuch'"):
        known.limited(["nonesuch=1"])
