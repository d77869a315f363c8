"""How the commands that steer the fleet read times, and what they show."""

import io
import json
import re
from datetime import UTC, datetime, timedelta
from typing import Any

import msgspec
import pytest
from click.testing import CliRunner
from rich.console import Console

from control import logs
from control.cli import bridge_view as view
from control.cli import change, cli, times
from control.cli.api_client import Api, Unreachable
from control.cli.away import advised
from control.cli.control_api import ApiControl
from control.cli.events import Journal
from control.clock import seconds
from control.config import Config, PostgresSection, RedisSection
from control.errors import StoreUnavailable
from control.flags import commands, events
from control.flags.client import Acknowledged, Done
from control.flags.document import MAINTENANCE, Document, Flag, Position
from control.flags.outcome import Outcome, Verdict
from control.flags.plane import ControlEvent
from control.flags.presence import ReplicaReport

NOW = datetime(2026, 11, 21, 6, 30, tzinfo=UTC)
BEFORE, TARGET = Position(1, 4), Position(1, 5)


def report(**changes: Any) -> ReplicaReport:
    known: dict[str, Any] = {
        "id": "01M7YCARJWYRDGP5PZYV6P29D8",
        "kind": "worker",
        "host": "box",
        "pid": 7,
        "epoch": 1,
        "version": 5,
        "phase": "draining",
        "running": 2,
        "quiesced": False,
        "staleness_s": 0.25,
        "source": "redis",
        "at": NOW,
    }
    return ReplicaReport(**{**known, **changes})


@pytest.mark.parametrize(
    ("text", "expected_s"),
    [
        ("20m", 1200),
        ("1h30m", 5400),
        ("90s", 90),
        ("1.5s", 1.5),
        ("2d", 172_800),
        (" 1W ", 604_800),
    ],
)
def test_spans(text: str, expected_s: float) -> None:
    assert seconds(text) == expected_s
    assert times.span_or_seconds(text) == expected_s


@pytest.mark.parametrize(
    "text", ["", "20", "m", "20 m", "-5m", "0s", "1h x", "99999w", "٣m", "1e3s"]
)
def test_what_is_no_span(text: str) -> None:
    with pytest.raises(ValueError, match=re.escape(repr(text))):
        seconds(text)


def test_a_timeout_may_be_plain_seconds() -> None:
    assert times.span_or_seconds("10") == 10
    assert times.span_or_seconds("0.5") == 0.5
    for text in ("0", "ten", "1:30"):
        with pytest.raises(ValueError, match=re.escape(text)):
            times.span_or_seconds(text)


def test_moments_have_a_zone() -> None:
    assert times.moment("2026-11-21T07:30:00+01:00") == NOW
    assert times.moment("2026-11-21T06:30:00Z") == NOW
    for text in ("2026-11-21T06:30:00", "2026-11-21", "soon", "20261121"):
        with pytest.raises(ValueError, match="zone"):
            times.moment(text)


@pytest.mark.parametrize(
    ("away", "told"),
    [
        (timedelta(minutes=20), "(in 20 min)"),
        (timedelta(hours=2, minutes=5, seconds=9), "(in 2 h 5 min)"),
        (-timedelta(seconds=3), "(3 s ago)"),
        (timedelta(), "(0 s ago)"),
    ],
)
def test_moments_are_told_with_their_distance(away: timedelta, told: str) -> None:
    assert times.when(NOW + away, NOW).endswith(told)


@pytest.mark.parametrize(
    ("changes", "want", "told"),
    [
        ({"version": 4}, "applied", "has not applied it"),
        ({}, "applied", "applied"),
        ({}, "quiesced", "draining, 2 jobs"),
        ({"running": 1, "kind": "service", "phase": "raised"}, "quiesced", "raised, 1 request"),
        ({"running": 0, "quiesced": True}, "quiesced", "at rest"),
        ({"version": 4, "quiesced": True}, "quiesced", "has not applied it"),
    ],
)
def test_how_far_an_instance_is(changes: dict[str, Any], want: Any, told: str) -> None:
    assert view.state(report(**changes), TARGET, want) == told


def plain(stream: io.StringIO) -> Console:
    return Console(file=stream, width=200, markup=False, highlight=False)


def test_without_a_terminal_each_step_is_a_line() -> None:
    stream = io.StringIO()
    with view.Waiting(plain(stream), "quiesced") as waiting:
        waiting.tell([report(version=4)])  # before the change: nothing to tell of
        waiting.committed(TARGET)
        for step in ({"version": 4}, {"version": 4}, {}, {"running": 0, "quiesced": True}):
            waiting.tell([report(**step)])
    told = [line.rpartition(": ")[2] for line in stream.getvalue().splitlines()]
    assert told == ["has not applied it", "draining, 2 jobs", "at rest"]


@pytest.mark.parametrize(("want", "quiet"), [("applied", True), (None, False)])
def test_who_does_not_wait_or_wants_json_sees_no_steps(want: Any, quiet: bool) -> None:
    stream = io.StringIO()
    with view.Waiting(plain(stream), want, quiet=quiet) as waiting:
        waiting.committed(TARGET)
        waiting.tell([report()])
    assert stream.getvalue() == ""


def test_the_live_view_counts_who_is_there() -> None:
    stream = io.StringIO()
    waiting = view.Waiting(plain(stream), "quiesced")
    plain(stream).print(waiting.picture())
    assert "waiting for an instance to take the command" in stream.getvalue()
    waiting.committed(TARGET)
    rest = report(id="A", host="[bold]", running=0, quiesced=True)
    waiting.tell([report(version=4, id="B"), report(id="C"), rest])
    stream.truncate(0)
    plain(stream).print(waiting.picture())
    said = stream.getvalue()
    assert "1 of 3 instances are at rest" in said
    assert re.search(r"✓ +worker +A +\[bold\]", said)
    assert re.search(r"… +worker +B +box +has not applied it", said)
    assert re.search(r"… +worker +C +box +draining +2 jobs", said)


def test_the_bridge_in_words() -> None:
    flag = Flag(
        is_active=True,
        changed_at=NOW - timedelta(minutes=2),
        changed_by="alice@box",
        reason="db upgrade",
        until=NOW + timedelta(minutes=18),
        mode="read_only",
    )
    told = view.bridge(flag, NOW)
    for part in ("is up", "2 min ago", "alice@box", "db upgrade", "in 18 min", "read-only"):
        assert part in told
    assert view.bridge(Flag(), NOW) == "The bridge is down."


def told_of(journal_json: bool, *happened: ControlEvent, capsys: Any) -> list[str]:
    journal = Journal(as_json=journal_json)
    for event in happened:
        journal.tell(event)
    return str(capsys.readouterr().out).splitlines()


def flags_event(version: int, outcome: Outcome | None = None) -> ControlEvent:
    document = Document(1, version, {MAINTENANCE: Flag(is_active=True)})
    if outcome is not None:
        return ControlEvent("flags", events.of_outcome(outcome, NOW))
    return ControlEvent("flags", events.of_document(document, NOW))


def test_a_journal_tells_each_thing_once(capsys: pytest.CaptureFixture[str]) -> None:
    here = ControlEvent("replica", msgspec.json.encode(report()))
    renewed = ControlEvent("replica", msgspec.json.encode(report(staleness_s=0.7)))
    left = ControlEvent("left", b'{"id":"01M7YCARJWYRDGP5PZYV6P29D8","left":true}')
    too_soon = Outcome(
        command_id="x",
        verdict=Verdict.DEBOUNCED,
        document=Document(1, 5, {}),
        detail="try again",
    )
    happened = (
        flags_event(5), here, flags_event(5), renewed, flags_event(4),
        flags_event(5, too_soon), left, here,
    )  # fmt: skip
    lines = told_of(True, *happened, capsys=capsys)
    assert [json.loads(line)["type"] for line in lines] == [
        "flags", "replica", "flags", "left", "replica",
    ]  # fmt: skip
    lines = told_of(False, *happened, capsys=capsys)
    assert "1.5: app_maintenance on" in lines[0]
    assert "draining, 2 jobs, version 1.5" in lines[1]
    assert "debounced: try again" in lines[2]


def done(**changes: Any) -> Done:
    document = Document(1, 5, {MAINTENANCE: Flag(is_active=True)})
    known = {"command_id": "x", "verdict": Verdict.APPLIED, "document": document}
    return Done(outcome=Outcome(**{**known, **changes}))


def test_refusals_say_what_to_do() -> None:
    debounced = done(verdict=Verdict.DEBOUNCED, retry_after_s=1.26, detail="app has just changed")
    assert "try again in 1.3 s" in change.refusal(debounced)
    assert "at 1.5 now" in change.refusal(done(verdict=Verdict.CONFLICT, detail="not there"))
    assert change.refusal(done(verdict=Verdict.KEY_REUSED)) == "key reused"


def test_a_timeout_says_that_the_change_stands() -> None:
    late = Acknowledged(complete=False, replicas=3, stragglers=[report()])
    assert "the change stands, but 1 of 3" in change.late(late, 10)
    unknown = Acknowledged(complete=False, replicas=1, stragglers=[])
    assert "forgotten who is live" in change.late(unknown, 10)


def test_a_summary_says_what_is_so_now() -> None:
    command = commands.new("set", MAINTENANCE, value=True, actor="a")
    assert change.summary(command, done(), None) == "The bridge is up (version 1.5)."
    again = change.summary(command, done(verdict=Verdict.UNCHANGED), None)
    assert again == "The bridge was already up (version 1.5)."


@pytest.mark.parametrize(
    ("line", "word"),
    [
        ("maintenance on --for 20x", "span"),
        ("maintenance on --for 20m --until 2999-01-01T00:00:00Z", "not both"),
        ("maintenance on --until 2001-01-01T00:00:00Z", "past"),
        ("maintenance on --until tomorrow", "zone"),
        ("maintenance on --wait finished", "--wait"),
        ("maintenance on --timeout never", "span"),
        ("maintenance on --if-version 7", "position"),
        ("maintenance on --mode half", "--mode"),
        ("maintenance on --api http://x --actor me", "--actor"),
        ("maintenance off --for 20m", "--for"),
        ("maintenance raise", "raise"),
        ("flag set Bad-Name on", "name of a flag"),
        ("flag set app_maintenance maybe", "maybe"),
        ("audit list --outcome good", "--outcome"),
        ("audit list --since yesterday", "zone"),
    ],
)
def test_a_usage_error_is_status_2(line: str, word: str) -> None:
    found = CliRunner().invoke(cli, line.split())
    assert found.exit_code == 2
    assert word in found.output


@pytest.mark.parametrize(
    "url",
    ["", "notaurl", "ftp://x/", "http://", "http://[::1", "http://127.0.0.1:99999", "http://a b/",
     "http://user:hunter2@:80"],
)  # fmt: skip
@pytest.mark.parametrize(
    "line", ["jobs list", "networks list", "components", "flag list", "optimize ."]
)
def test_what_is_no_url_of_a_service_is_a_usage_error(line: str, url: str) -> None:
    found = CliRunner().invoke(cli, [*line.split(), "--api", url])
    assert found.exit_code == 2
    assert "must be an http(s) URL" in found.output
    assert "hunter2" not in found.output


@pytest.mark.parametrize(
    "line",
    ["flag list", "maintenance status", "maintenance on", "replicas", "events", "audit list",
     "audit verify", "keys list", "migrate"],
)  # fmt: skip
def test_without_a_stack_a_command_says_what_to_do(
    line: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    nowhere = Config(
        redis=RedisSection("redis://127.0.0.1:1"),
        postgres=PostgresSection("postgresql://127.0.0.1:1/x"),
    )
    monkeypatch.setattr(logs, "configure", lambda *_args, **_options: None)  # of this process
    for module in ("steering", "audit", "api_keys", "migrate"):
        monkeypatch.setattr(f"control.cli.{module}.load_config", lambda _environ: nowhere)
    error = CliRunner().invoke(cli, line.split()).exception
    assert isinstance(error, StoreUnavailable)
    assert "`drawbridge up` starts everything; " in str(error)
    assert f"{'REDIS' if error.dependency == 'redis' else 'DATABASE'}_URL names one" in str(error)
    by_store_alone = line in ("audit verify", "keys list", "migrate")
    assert ("--api URL" in str(error)) is not by_store_alone


def test_where_the_store_is_known_no_other_is_advised() -> None:
    known = Config(sources={"DATABASE_URL": "environment"})
    for config, reason in ((known, "connection failed"), (Config(), "its schema is not migrated")):
        with pytest.raises(StoreUnavailable, match=f"{reason}$"), advised(config, api=True):
            raise StoreUnavailable("database", reason)


async def test_the_password_of_an_address_is_not_shown() -> None:
    async with Api("http://user:hunter2@127.0.0.1:1", "token") as api:
        with pytest.raises(Unreachable, match="cannot be asked") as found:
            await api.jobs({})
    assert "hunter2" not in str(found.value)


def test_a_reason_that_is_too_long_or_obeyed_by_terminals_is_refused() -> None:
    for reason in ("x" * 501, "\x1b[2J"):
        found = CliRunner().invoke(cli, ["maintenance", "on", "--reason", reason])
        assert (found.exit_code, "reason" in found.output) == (2, True)


def test_both_ways_to_the_control_plane_have_the_same_methods() -> None:
    from control.flags.client import ControlClient

    public = [name for name in vars(ApiControl) if not name.startswith("_")]
    assert public
    assert set(public) <= set(dir(ControlClient))
