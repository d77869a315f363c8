"""The pure rules of the status page: how a component was, what a row of looks means, uptime."""

import itertools
from datetime import UTC, date, datetime, timedelta
from fractions import Fraction
from typing import Any

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from control.errors import ConfigError, InvalidInput
from control.flags.document import Flag
from control.status import composing, incidents, recurrence, timeline, uptime, windows
from control.status.components import (
    SERVICE,
    CheckRef,
    Found,
    Observation,
    configured,
    observed,
    require_known,
)
from control.status.errors import Illegal
from control.status.incidents import NewIncident, Said
from control.status.judging import GAP_S, Judged, step
from control.status.states import IncidentStatus, Severity, Source, Status, WindowStatus, worst
from control.status.timeline import Segment, Totals, effective, pieces, totals
from control.status.windows import Live, NewWindow

NOON = datetime(2026, 11, 21, 12, tzinfo=UTC)
UP, BAD, PART, OUT = (
    Status.OPERATIONAL, Status.DEGRADED, Status.PARTIAL_OUTAGE, Status.MAJOR_OUTAGE,
)  # fmt: skip
MAINTAINED, UNKNOWN = Status.UNDER_MAINTENANCE, Status.UNKNOWN
seen = st.sampled_from([UP, BAD, PART, OUT])


def after(seconds: float) -> datetime:
    return NOON + timedelta(seconds=seconds)


@st.composite
def segments(draw: st.DrawFn) -> list[Segment]:
    """Of each source some that do not overlap; whole seconds around noon."""
    found = []
    for source in Source:
        edges = sorted(draw(st.sets(st.integers(0, 60), max_size=6)))
        for start, end in zip(edges[::2], edges[1::2], strict=False):
            status = MAINTAINED if source is Source.MAINTENANCE else draw(seen)
            found.append(Segment(source, status, after(start), after(end)))
    return draw(st.permutations(found))


def at(found: list[Segment], moment: datetime) -> tuple[Status, Source | None]:
    return effective({s.source: s.status for s in found if s.start <= moment < (s.end or moment)})


@given(segments(), st.integers(0, 30), st.integers(0, 40))
def test_pieces_are_what_holds_at_each_moment_without_gap_or_overlap(
    found: list[Segment], start: int, length: int
) -> None:
    parts = list(pieces(found, after(start), after(start + length)))
    for second in range(start, start + length):
        (here,) = [p for p in parts if p.start <= after(second + 0.5) < p.end]
        assert (here.status, here.source) == at(found, after(second + 0.5))
    assert sum((p.end - p.start for p in parts), timedelta()) == timedelta(seconds=length)
    for one, two in itertools.pairwise(parts):
        assert one.start < one.end == two.start
        assert (one.status, one.source) != (two.status, two.source)


def test_what_begins_together_leaves_no_seam_where_nothing_changes() -> None:
    found = [
        Segment(Source.INCIDENT, BAD, after(0), after(32)),
        Segment(Source.CHECK, BAD, after(31), after(40)),
        Segment(Source.MAINTENANCE, MAINTAINED, after(31), after(40)),
    ]
    parts = list(pieces(found, after(0), after(32)))
    assert [(part.start, part.end) for part in parts] == [(after(0), after(32))]


said = st.dictionaries(st.sampled_from([Source.CHECK, Source.INCIDENT, Source.OVERRIDE]), seen)


@given(said, st.booleans())
def test_maintenance_outranks_checks_only_and_no_incident_is_hidden(
    says: dict[Source, Status], maintained: bool
) -> None:
    if maintained:
        says = {**says, Source.MAINTENANCE: MAINTAINED}
    status, source = effective(says)
    incident = says.get(Source.INCIDENT, UP)
    if incident is not UP:
        assert status.rank >= incident.rank
    if not says.keys() & {Source.CHECK, Source.MAINTENANCE, Source.OVERRIDE}:
        assert status in (incident, UNKNOWN)
        assert status is not UP
    if maintained and Source.OVERRIDE not in says:
        assert (status, source) == (
            (MAINTAINED, Source.MAINTENANCE) if incident is UP else (incident, Source.INCIDENT)
        )
    elif Source.OVERRIDE in says:
        assert status is worst((says[Source.OVERRIDE], incident))
    elif Source.CHECK in says:
        assert status is worst((says[Source.CHECK], incident))


@given(segments(), st.integers(0, 86_400 * 2))
def test_days_add_up_to_the_whole(found: list[Segment], shift: int) -> None:
    later = timedelta(seconds=shift * 20)
    moved = [s._replace(start=s.start + later, end=(s.end or NOON) + later) for s in found]
    start, end = NOON, NOON + timedelta(days=3, seconds=7)
    by_day = list(timeline.days(moved, start, end))
    assert sum((t for _, t in by_day), Totals()) == totals(pieces(moved, start, end))
    assert [day for day, _ in by_day] == [date(2026, 11, d) for d in (21, 22, 23, 24)]
    assert all(total.covered_ms <= 86_400_000 for _, total in by_day)


counts = st.integers(0, 86_400_000)


@given(st.builds(Totals, *[counts] * 6))
def test_uptime_is_the_formula_floored_and_never_rounded_up(found: Totals) -> None:
    percent = uptime.percentage(found)
    counted = found.covered_ms - found.maintenance_ms - found.unknown_ms
    if not counted:
        assert percent is None
        return
    assert percent is not None
    down = found.major_ms + Fraction(3, 10) * found.partial_ms
    exact = 100 * (1 - Fraction(down) / counted)
    shown = Fraction(str(percent))
    assert shown <= exact < shown + Fraction(1, 1000)
    assert (percent == 100) is (down == 0)


@given(st.lists(seen, min_size=1, max_size=40), st.data())
def test_a_row_of_looks_confirms_what_all_of_it_bears_out(
    looks: list[Status], data: st.DataObject
) -> None:
    held, moment, history = Judged(), 0.0, []
    for look in looks:
        moment += data.draw(st.sampled_from([1.0, 5.0, 10.0, 60.0]))
        before, held = held, step(held, look, after(moment))
        history.append((after(moment), look))
        assert held.checked_at == after(moment)
        if held.status is before.status:
            assert held.since == before.since
            continue
        assert held.status is not None
        assert held.since is not None
        row = [found for when, found in history if when >= held.since]
        falls = before.status is None or held.status.rank > before.status.rank
        if before.status is None and held.status is UP:
            assert row == [UP]
        elif falls:
            assert len(row) >= 3
            assert all(found.rank >= held.status.rank for found in row)
            assert (after(moment) - held.since).total_seconds() >= 19.5
        else:
            assert len(row) >= 2
            assert all(found.rank <= held.status.rank for found in row)
            assert (after(moment) - held.since).total_seconds() >= 9.5


def test_three_failures_confirm_and_date_back_and_two_successes_recover() -> None:
    held = step(Judged(), UP, NOON)
    assert (held.status, held.since, held.due_at()) == (UP, NOON, after(60))
    held = step(held, OUT, after(60))
    assert (held.status, held.due_at()) == (UP, after(70))
    held = step(held, OUT, after(70))
    assert (held.status, held.due_at()) == (UP, after(80))
    held = step(held, OUT, after(80))
    assert (held.status, held.since, held.due_at()) == (OUT, after(60), after(140))
    held = step(held, UP, after(140))
    assert (held.status, held.due_at()) == (OUT, after(150))
    held = step(held, UP, after(150))
    assert (held.status, held.since) == (UP, after(140))


def test_a_look_that_was_asked_for_is_enough_by_itself() -> None:
    held = step(step(Judged(), UP, NOON), OUT, after(30), asked=True)
    assert (held.status, held.since, held.pending) == (OUT, after(30), None)
    held = step(held, UP, after(31), asked=True)
    assert (held.status, held.since) == (UP, after(31))
    held = step(step(held, OUT, after(60)), BAD, after(64), asked=True)
    assert (held.status, held.since) == (BAD, after(60)), "it ends a row that is under way"
    assert step(Judged(), OUT, NOON, asked=True).status is OUT


def test_one_failure_among_successes_is_none_and_a_gap_is_unknown() -> None:
    held = step(step(step(Judged(), UP, NOON), OUT, after(60)), UP, after(70))
    assert (held.status, held.since, held.pending) == (UP, NOON, None)
    assert held.status_at(after(70 + GAP_S)) is UP
    assert held.status_at(after(70 + GAP_S + 1)) is None
    late = step(held, OUT, after(70 + GAP_S + 1))
    assert (late.status, late.pending) == (None, OUT)
    assert step(held, OUT, after(70)) is held, "a look that is not later"


def checks(*texts: str) -> list[CheckRef]:
    return [CheckRef.parse(text) for text in texts]


def test_what_checks_mean() -> None:
    both = checks("redis", "neo4j@partial_outage")
    well, down, unknown = Found.WELL, Found.DOWN, Found.UNKNOWN
    assert observed(both, {"redis": well, "neo4j": well}) == Observation(UP)
    assert observed(both, {"redis": well, "neo4j": down}) == Observation(PART, ("neo4j",))
    assert observed(both, {"redis": down, "neo4j": down}) == Observation(OUT, ("redis", "neo4j"))
    assert observed(both, {"redis": Found.WARNING, "neo4j": well}) == Observation(BAD, ("redis",))
    assert observed(both, {"redis": well}) is None, "not all are known: never green"
    assert observed(both, {"redis": down}) == Observation(OUT, ("redis",))
    assert observed(both, {"redis": unknown, "neo4j": unknown}) is None
    assert observed([], {}) is None


def test_components_of_the_configuration() -> None:
    names = [each.name for each in configured("", ())]
    assert names[:5] == ["API", "Database", "File Storage", "Email Service", "Authentication"]
    assert names[5:] == ["Redis", "Graph", "Workers"]
    assert all(each.checks for each in configured("", ()))
    found = {
        each.id: each
        for each in configured(
            "shop:The Shop=external:shop@degraded, redis; graph=-; redis=redis@partial_outage",
            ["s3", "clerk"],
        )
    }
    assert "graph" not in found
    assert found["shop"].name == "The Shop"
    assert found["shop"].checks == (CheckRef("external:shop", BAD), CheckRef("redis", OUT))
    assert found["redis"].name == "Redis"
    assert found["file-storage"].checks == (CheckRef("external:s3"),)
    assert CheckRef("external:clerk") in found["authentication"].checks
    assert found["api"].checks[0].name == SERVICE
    with pytest.raises(ConfigError, match="STATUS_COMPONENTS"):
        configured("shop=redis@awful", ())
    with pytest.raises(ConfigError, match="external:shop"):
        require_known(
            found.values(), ["redis", "neo4j", "database", "external:s3", "external:clerk"]
        )


@given(
    st.sampled_from(WindowStatus), st.integers(-90, 90), st.integers(1, 90), st.integers(-200, 200)
)
def test_the_edge_of_a_window(status: WindowStatus, start: int, length: int, now: int) -> None:
    edge = windows.edge(status, after(start), after(start + length), after(now))
    over = status in (WindowStatus.COMPLETED, WindowStatus.CANCELLED)
    if over or (now < start and status is WindowStatus.SCHEDULED):
        assert edge is None
    elif status is WindowStatus.IN_PROGRESS:
        assert edge == ("end" if now >= start + length else None)
    else:
        assert edge == ("miss" if now >= start + length else "start")


def raised(by: str, until: datetime | None = None) -> Flag:
    return Flag(is_active=True, changed_by=by, until=until)


def test_a_window_raises_what_is_down_and_lowers_what_a_window_raised() -> None:
    one, two = Live("A", "upgrade", after(60)), Live("B", "move", after(90))
    wish = windows.raising(Flag(), one)
    assert wish is not None
    assert (wish.active, wish.actor, wish.until) == (True, "window:A", after(60))
    assert windows.raising(raised("alice"), one) is None
    assert windows.raising(raised("window:A", after(60)), two) is not None, "it lasts longer"
    assert windows.raising(raised("window:B", after(90)), one) is None

    assert windows.tidying(Flag(changed_by="window:A"), []) is None
    assert windows.tidying(raised("alice"), []) is None, "by hand up, by hand down"
    assert windows.tidying(raised("window:A", after(60)), [one]) is None
    lower = windows.tidying(raised("window:A", after(60)), [])
    assert lower is not None
    assert lower.active is False
    longer = windows.tidying(raised("window:A", after(60)), [two])
    assert longer is not None
    assert (longer.active, longer.until, longer.actor) == (True, after(90), "window:B")


def window(**changes: Any) -> NewWindow:
    given_ = {"title": "upgrade", "description": "", "start": after(60), "end": after(120),
              "components": ()}  # fmt: skip
    return NewWindow(**{**given_, **changes})


@pytest.mark.parametrize(("changes", "where"), [
    ({"title": " "}, "title"), ({"title": "a" * 201}, "title"), ({"title": "a\nb"}, "title"),
    ({"description": "\x1b[2J"}, "description"), ({"end": after(60)}, "scheduled_end"),
    ({"start": after(-400)}, "scheduled_start"), ({"end": after(-1)}, "scheduled_end"),
    ({"end": after(32 * 86_400)}, "scheduled_end"),
])  # fmt: skip
def test_windows_that_cannot_be(changes: dict[str, Any], where: str) -> None:
    assert windows.checked_new(window(title="Arrêt\u202f: 👩\u200d🔧", description="a\n\tb"), NOON)
    with pytest.raises(InvalidInput) as error:
        windows.checked_new(window(**changes), NOON)
    assert error.value.where == where


def test_times_recur_on_the_wall_clock_also_across_the_change_of_the_hour() -> None:
    first = datetime(2026, 10, 20, 1, tzinfo=UTC)  # 3 o'clock in Berlin, a Tuesday
    found = recurrence.after("FREQ=WEEKLY;BYDAY=SU", first, "Europe/Berlin", None, 2)
    assert found == [datetime(2026, 10, 25, 2, tzinfo=UTC), datetime(2026, 11, 1, 2, tzinfo=UTC)]
    assert recurrence.after("FREQ=WEEKLY;BYDAY=SU", first, "Europe/Berlin", found[0], 1) == [
        found[1]
    ]
    ends = recurrence.after("FREQ=DAILY;UNTIL=20261021T235959Z", first, "UTC", None, 9)
    assert ends == [first, first + timedelta(days=1)]


@pytest.mark.parametrize("rule", [
    "", "weekly", "FREQ=HOURLY", "FREQ=DAILY;INTERVAL=0", "FREQ=WEEKLY;BYDAY=XX", "RRULE",
    "FREQ=YEARLY;BYMONTH=2;BYMONTHDAY=30", "FREQ=DAILY;BYMONTH=2;BYMONTHDAY=30",
    "FREQ=WEEKLY;UNTIL=yesterday", "FREQ=DAILY;COUNT=1" + "0" * 300, "FREQ=DAILY\nRDATE:1",
])  # fmt: skip
def test_rules_that_are_none(rule: str) -> None:
    with pytest.raises(InvalidInput):
        recurrence.checked(rule, NOON, "UTC")


def test_what_may_be_said_of_an_incident() -> None:
    for before in (IncidentStatus.INVESTIGATING, IncidentStatus.IDENTIFIED,
                   IncidentStatus.MONITORING):  # fmt: skip
        for status in IncidentStatus:
            said = incidents.checked_said(Said(message="word", status=status), before, NOON)
            assert said.status is status
        assert incidents.checked_said(Said(message="word"), before, NOON).status is before
    for status in (None, *IncidentStatus):
        with pytest.raises(Illegal):
            incidents.checked_said(
                Said(message="word", status=status), IncidentStatus.RESOLVED, NOON
            )
    for wrong in ({"message": ""}, {"message": "m", "next_update": NOON},
                  {"message": "m", "estimated_resolution": after(-1)}):  # fmt: skip
        with pytest.raises(InvalidInput):
            incidents.checked_said(Said(**wrong), IncidentStatus.IDENTIFIED, NOON)  # type: ignore[arg-type]
    new = NewIncident(title="t", description="", severity=Severity.MINOR, impacts={})
    assert incidents.checked_new(new, NOON) == new


@given(segments(), st.integers(0, 60))
def test_the_view_never_shows_green_for_what_is_not_known(found: list[Segment], now: int) -> None:
    assume(not any(s.source is Source.CHECK for s in found))
    status, _ = at(found, after(now))
    said_well = any(s.source is Source.OVERRIDE and s.status is UP for s in found)
    assert status is not UP or said_well


def test_components_of_which_nothing_was_read_are_unknown() -> None:
    part = composing.blank(configured("", ()), NOON)
    known = composing.Known(checks=part, told=composing.ToldPart((), ()), as_of=NOON, raised=None)
    view, _ = composing.compose(known, NOON)
    assert {each.status for each in view.components} == {UNKNOWN}
    assert view.overall is UNKNOWN
    assert {len(each.days) for each in view.components} == {90}
    assert {each.uptime_90 for each in view.components} == {None}
