"""Logs: every line says who speaks, is one line, and holds no secret."""

import asyncio
import io
import json
import logging
import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from typing import Any

import pytest
import structlog

from control import logs
from control.config import LogSection
from tests.stack import ROOT, clean_environment

SECRET = "hunter2-hunter2"


@pytest.fixture(autouse=True)
def _restored() -> Iterator[None]:
    """Put the process's logging back as it was."""
    root = logging.getLogger()
    handlers, level, before = root.handlers[:], root.level, structlog.get_config()
    levels = {
        name: logging.getLogger(name).level for name in ("neo4j", "asyncio", "aiohttp.access")
    }
    yield
    root.handlers[:] = handlers
    root.setLevel(level)
    for name, was in levels.items():
        logging.getLogger(name).setLevel(was)
    structlog.configure(**before)


class Sink:
    """Collects what is logged."""

    def __init__(self, **section: str) -> None:
        self.stream = io.StringIO()
        options = {"level": "info", "format": "json"} | section
        logs.configure(LogSection(**options), process="worker", instance="i-1", stream=self.stream)

    @property
    def text(self) -> str:
        return self.stream.getvalue()

    def lines(self) -> list[dict[str, Any]]:
        return [json.loads(line) for line in self.text.splitlines()]

    def line(self) -> dict[str, Any]:
        (only,) = self.lines()
        return only


def test_a_line_is_json_and_says_who_speaks() -> None:
    sink = Sink()
    logs.get("worker.drain").info("paused", running=2)
    line = sink.line()
    assert line.pop("timestamp").endswith("Z")
    assert line == {
        "event": "paused",
        "level": "info",
        "logger": "worker.drain",
        "process": "worker",
        "instance": "i-1",
        "running": 2,
    }


def test_what_is_bound_to_the_work_at_hand_is_on_each_line() -> None:
    sink = Sink()
    with structlog.contextvars.bound_contextvars(request_id="r-1", run_id="j-1"):
        logs.get("a").info("one")
        logging.getLogger("b.library").warning("two")
    logs.get("a").info("three")
    seen = [(line.get("request_id"), line.get("run_id")) for line in sink.lines()]
    assert seen == [("r-1", "j-1"), ("r-1", "j-1"), (None, None)]


def test_the_libraries_lines_have_the_same_form() -> None:
    sink = Sink()
    logging.getLogger("some.library").warning("took %s ms", 12, extra={"peer": "x"})
    line = sink.line()
    assert (line["event"], line["level"], line["logger"]) == (
        "took 12 ms",
        "warning",
        "some.library",
    )
    assert (line["process"], line["instance"], line["peer"]) == ("worker", "i-1", "x")


def test_levels_are_kept() -> None:
    sink = Sink(level="warning")
    logs.get("a").info("no")
    logging.getLogger("b").info("no")
    logging.getLogger("neo4j.pool").warning("no")
    logs.get("a").warning("yes")
    assert [line["event"] for line in sink.lines()] == ["yes"]


@pytest.mark.parametrize(
    "name", ["password", "admin_token", "api_key", "Authorization", "set_cookie"]
)
def test_what_is_named_like_a_secret_is_masked(name: str) -> None:
    sink = Sink()
    logs.get("a").info("x", **{name: SECRET})
    assert sink.line()[name] == "***"


@pytest.mark.parametrize(
    "text",
    [
        f"cannot reach redis://user:{SECRET}@host:6379",
        f"postgresql:///db?password={SECRET}&host=/run",
        f"amqp://:{SECRET}@host",
    ],
)
def test_passwords_inside_addresses_are_masked_wherever_they_stand(text: str) -> None:
    sink = Sink()
    logs.get("a").info(text, error=text)
    logging.getLogger("b").error("%s", text)
    assert SECRET not in sink.text
    assert "***" in sink.lines()[0]["event"]
    assert "***" in sink.lines()[0]["error"]


def fail(dsn: str) -> None:
    password = SECRET  # noqa: F841 - a traceback must not show a frame's variables
    raise ConnectionError(f"cannot reach {dsn}")


@pytest.mark.parametrize("form", ["json", "console"])
def test_a_traceback_shows_no_secret(form: str) -> None:
    sink = Sink(format=form)
    try:
        fail(f"redis://user:{SECRET}@host")
    except ConnectionError:
        logs.get("a").exception("failed")
        logging.getLogger("b").exception("failed as well")
    assert "ConnectionError" in sink.text
    assert "fail" in sink.text
    assert SECRET not in sink.text


def test_a_json_line_stays_one_line() -> None:
    sink = Sink()
    logs.get("a").info("two\nlines", value="a\r\nb")
    try:
        fail("x")
    except ConnectionError:
        logs.get("a").exception("failed")
    assert len(sink.text.splitlines()) == 2
    assert sink.lines()[0]["event"] == "two\nlines"


def test_console_is_for_people_and_auto_means_json_off_a_terminal() -> None:
    console = Sink(format="console")
    logs.get("a").info("hello", n=1)
    assert "hello" in console.text
    assert not console.text.startswith("{")
    automatic = Sink(format="auto")
    logs.get("a").info("hello")
    assert automatic.line()["event"] == "hello"


def test_configuring_twice_writes_each_line_once() -> None:
    Sink()
    sink = Sink()
    logs.get("a").info("once")
    assert sink.line()["event"] == "once"


def test_what_cannot_be_json_does_not_break_the_line() -> None:
    sink = Sink()
    logs.get("a").info("odd", thing=object(), raw=b"\xff", nested={"x": {1, 2}})
    assert sink.line()["event"] == "odd"


@pytest.mark.parametrize("odd", [1 << 70, "\ud800", "a\u2028b\x85c", float("nan"), {1: {2: 3}}])
def test_whatever_a_line_holds_it_is_one_line_of_json(odd: Any) -> None:
    sink = Sink()
    logs.get("a").info("odd", thing=odd)
    assert len(sink.text.splitlines()) == 1
    assert sink.line()["event"] == "odd"
    assert "thing" in sink.line()


def test_a_log_that_nobody_takes_does_not_stop_the_work() -> None:
    reading, writing = os.pipe()
    os.close(reading)
    stream = os.fdopen(writing, "w")
    logs.configure(LogSection("info", "json"), process="p", instance="i", stream=stream)
    logs.get("a").info("into nothing")
    logging.getLogger("b").warning("into nothing as well")
    with pytest.raises(BrokenPipeError):
        stream.close()


async def test_lines_of_one_turn_of_the_loop_are_one_write_and_in_order() -> None:
    sink = Sink()
    writes: list[str] = []
    real = sink.stream.write
    sink.stream.write = lambda text: writes.append(text) or real(text)  # type: ignore[assignment,func-returns-value]
    for number in range(3):
        logs.get("a").info(str(number))
    logging.getLogger("b").warning("3")
    assert writes == []
    await asyncio.sleep(0)
    assert len(writes) == 1
    assert [line["event"] for line in sink.lines()] == ["0", "1", "2", "3"]


async def test_a_line_that_may_wait_has_the_time_of_what_it_tells(monkeypatch: Any) -> None:
    monkeypatch.setattr(logs, "SOON_S", 0.001)
    sink, said = Sink(), asyncio.Event()

    def say(what: str, *, timestamp: str) -> None:
        logs.get("a").info(what, timestamp=timestamp)
        said.set()

    logs.soon(say, "happened")
    assert not said.is_set()
    logs.get("a").info("later")
    await said.wait()
    await asyncio.sleep(0)
    assert [line["event"] for line in sink.lines()] == ["later", "happened"]
    assert sink.lines()[1]["timestamp"] <= sink.lines()[0]["timestamp"]


def test_a_line_that_may_wait_is_written_at_once_without_a_loop(monkeypatch: Any) -> None:
    monkeypatch.setattr(logs, "SOON_S", 60.0)
    sink = Sink()
    logs.soon(logs.get("a").info, "happened")
    assert sink.line()["event"] == "happened"


async def test_another_thread_does_not_wait_for_a_loop_that_is_held() -> None:
    sink = Sink()
    logs.get("a").info("before")
    thread = threading.Thread(target=lambda: logs.get("a").warning("blocked"))
    thread.start()
    thread.join()  # holds the loop
    assert [line["event"] for line in sink.lines()] == ["before", "blocked"]


def test_what_was_said_last_is_written_at_the_end_of_the_process() -> None:
    script = """
import asyncio
from control import logs
from control.config import LogSection
async def main():
    logs.configure(LogSection(level="info", format="json"), process="p", instance="i")
    logs.get("a").info("last words")
    asyncio.get_running_loop().stop()
    await asyncio.sleep(1)
try:
    asyncio.run(main())
except RuntimeError:
    pass
"""
    said = subprocess.check_output(
        [sys.executable, "-c", script], text=True, cwd=ROOT, env=clean_environment()
    )
    assert json.loads(said)["event"] == "last words"


@pytest.mark.parametrize("form", ["json", "console"])
@pytest.mark.parametrize(
    "said", ["two\r\nlines", "\x1b[2J\x1b]0;title\x07", "\x9b31m", "a\u2028b", "\u202egpj.exe"]
)
def test_what_callers_say_neither_steers_a_terminal_nor_begins_a_line(form: str, said: str) -> None:
    sink = Sink(format=form)
    logs.get("x").info("request", detail=said, reason=said)
    logging.getLogger("library").error("%s", said)
    assert len(sink.text.splitlines()) == 2
    assert not set(sink.text) & {"\r", "\x1b", "\x07", "\x9b", "\u2028", "\u202e"}


def test_a_traceback_on_a_console_keeps_its_lines() -> None:
    sink = Sink(format="console")
    try:
        int("\x1b[31mred")
    except ValueError:
        logs.get("x").error("unforeseen error", exc_info=True)
    assert sink.text.count("\n") > 3
    assert "\x1b" not in sink.text
