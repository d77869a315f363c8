"""What whoever keeps the status page writes: looks, segments, days, incidents; on PostgreSQL."""

import asyncio
import time
from collections.abc import AsyncIterator
from datetime import timedelta
from typing import Any

import asyncpg
import pytest

from control import sql
from control.flags import commands
from control.flags.document import MAINTENANCE
from control.status.keeper import Office
from control.status.reader import Revision
from control.status.states import IncidentStatus, Status
from control.stores import postgres
from control.stores.postgres import Connection, Database
from tests.clocks import ManualClock
from tests.planes import Planes
from tests.stack import wait_until
from tests.statuspages import Page

WELL, OUT, UNKNOWN = "operational", "major_outage", "unknown"


@pytest.fixture
async def clock() -> ManualClock:
    return ManualClock()


@pytest.fixture
async def page(fleet: Planes, database: Database, database_url: str, clock: ManualClock) -> Page:
    return Page(await fleet.open(), database, database_url, clock)


@pytest.fixture
async def line(database_url: str, page: Page) -> AsyncIterator[Connection]:
    async with postgres.connection(database_url) as connection:
        yield connection


async def after(page: Page, office: Office, seconds: float) -> None:
    """Let time pass, and the office do what there is to do then."""
    page.clock.passed_s += seconds
    await office.tick()


async def segments(database: Database, component: str, source: str = "check") -> list[Any]:
    """``(status, from, to)`` in seconds since the test's beginning."""
    rows = await database.fetch(
        """SELECT segment.status, lower(during) AS a, upper(during) AS b
           FROM drawbridge.status_segments AS segment
           JOIN drawbridge.status_components AS c ON c.number = segment.component
           WHERE c.id = $1 AND source = $2 ORDER BY lower(during)""",
        component, source,
    )  # fmt: skip
    zero = ManualClock().now()

    def since(at: Any) -> float | None:
        return None if at is None else round((at - zero).total_seconds(), 3)

    return [(row["status"], since(row["a"]), since(row["b"])) for row in rows]


async def test_three_failures_confirm_dated_back_and_two_successes_recover(
    page: Page, line: Connection, database: Database
) -> None:
    office = await page.office(line)
    assert set((await page.statuses()).values()) == {UNKNOWN}, "nobody has looked"
    await office.tick()
    assert set((await page.statuses()).values()) == {WELL}
    for _ in range(60):
        await after(page, office, 1)
    assert page.seen.looks == 2, "every 60 s"

    page.seen.down("redis")
    await after(page, office, 1)  # 61: the first failure, before its minute is over
    assert (await page.statuses())["store"] == WELL, "one failure is none"
    for _ in range(9):
        await after(page, office, 1)
    assert page.seen.looks == 3
    await after(page, office, 1)  # 71: the second
    await after(page, office, 9)
    assert (await page.statuses())["store"] == WELL
    await after(page, office, 1)  # 81: the third
    assert await page.statuses() == {"api": OUT, "store": OUT, "graph": WELL}
    view = await page.board.refresh()
    store = view.component("store")
    assert store is not None
    assert store.status_since == page.clock.now() - timedelta(seconds=20)
    assert view.overall is Status.MAJOR_OUTAGE

    page.seen.all_well()
    await after(page, office, 39)  # 120
    assert (await page.statuses())["store"] == OUT, "one success is none"
    await after(page, office, 10)
    assert (await page.statuses())["store"] == WELL
    await after(page, office, 60)
    expected = [(WELL, 0, 61), (OUT, 61, 120), (WELL, 120, 190)]
    assert await segments(database, "store") == expected
    assert await segments(database, "graph") == [(WELL, 0, 190)]
    day = (await page.board.refresh()).component("store")
    assert day is not None
    assert (day.days[-1].major_s, day.days[-1].covered_s) == (59.0, 190.0)
    assert day.uptime_30 == 68.947, "1 - 59 / 190, floored"


async def test_a_look_that_was_asked_for_is_made_though_another_was_under_way(
    page: Page, line: Connection, database: Database
) -> None:
    office = await page.office(line)
    await office.tick()
    page.seen.down("redis")
    await database.execute(sql.queries("status_checks")["request"], page.clock.now())
    page.clock.passed_s += 1
    await office._write(page.seen.found, page.clock.now())
    assert (await page.statuses())["store"] == WELL, "nobody had asked for that one"
    await after(page, office, 1)
    assert (await page.statuses())["store"] == OUT


async def test_a_gap_is_unknown_and_counts_nowhere(
    page: Page, line: Connection, database: Database
) -> None:
    office = await page.office(line)
    await office.tick()
    page.clock.passed_s = 150
    assert set((await page.statuses()).values()) == {WELL}
    page.clock.passed_s = 151
    assert set((await page.statuses()).values()) == {UNKNOWN}, "2.5 intervals without a look"
    page.clock.passed_s = 400
    page.seen.down("neo4j", Status.PARTIAL_OUTAGE)
    for seconds in (0, 10, 10):
        await after(page, office, seconds)
    assert await page.statuses() == {"api": WELL, "store": WELL, "graph": "partial_outage"}
    assert await segments(database, "store") == [(WELL, 0, 0.001), (WELL, 400, 420)]
    graph = (await page.board.refresh()).component("graph")
    assert graph is not None
    assert (graph.days[-1].unknown_s, graph.days[-1].partial_s) == (399.999, 20.0)


async def test_who_takes_over_goes_on_where_the_other_stopped(
    fleet: Planes, database: Database, database_url: str, page: Page, line: Connection
) -> None:
    office = await page.office(line)
    await office.tick()
    page.seen.down("redis")
    await after(page, office, 5)
    await after(page, office, 10)
    other = Page(page.plane, database, database_url, page.clock)
    other.seen.down("redis")
    async with postgres.connection(database_url) as connection:
        taken = await other.office(connection)
        await after(other, taken, 10)
        assert (await other.statuses())["store"] == OUT, "two of the three were the other's"
        assert await segments(database, "store") == [(WELL, 0, 5), (OUT, 5, 25)]


async def test_one_of_two_is_in_office_and_the_other_follows(
    fleet: Planes, database: Database, database_url: str, page: Page, monkeypatch: Any
) -> None:
    monkeypatch.setattr("control.status.keeper.CANDIDATE_S", (0.1, 0.2))
    other = Page(page.plane, database, database_url, page.clock)
    first, second = (asyncio.create_task(each.keeper.run()) for each in (page, other))
    try:
        await wait_until(lambda: page.keeper.in_office or other.keeper.in_office)
        await wait_until(lambda: page.seen.looks + other.seen.looks)
        assert not (page.keeper.in_office and other.keeper.in_office)
        holder, heir = (page, other) if page.keeper.in_office else (other, page)
        assert heir.seen.looks == 0
        (first if holder is page else second).cancel()
        await wait_until(lambda: heir.keeper.in_office)
        page.clock.passed_s += 61
        await wait_until(lambda: heir.seen.looks)
    finally:
        first.cancel()
        second.cancel()
        await asyncio.gather(first, second, return_exceptions=True)


async def test_what_was_seen_while_postgresql_was_away_is_entered_afterwards(
    page: Page, line: Connection, database: Database
) -> None:
    office = await page.office(line)
    await office.tick()
    page.keeper._local = dict(page.keeper._held)  # as when a connection fails
    page.seen.down("redis")
    for seconds in (30, 10, 10, 60):
        page.clock.passed_s += seconds
        await page.keeper._look_alone()
    view = page.board.view
    assert view.local
    assert {each.id: each.status.value for each in view.components} == {
        "api": OUT, "store": OUT, "graph": WELL,
    }  # fmt: skip
    page.keeper._local = None
    await page.office(line)
    assert await segments(database, "store") == [(WELL, 0, 30), (OUT, 30, 110)]
    assert (await page.statuses())["store"] == OUT
    assert [each.title for each in await page.reader.drafts()] == ["Api, Store: major outage"]


async def test_maintenance_mode_shows_at_once_and_leaves_its_segment(
    page: Page, line: Connection, database: Database
) -> None:
    office = await page.office(line)
    await office.tick()
    await page.board.refresh()
    command = commands.new("set", MAINTENANCE, value=True, actor="alice", reason="upgrade")
    assert (await page.plane.change(command, internal=True)).done
    view = page.board.view  # nothing was read meanwhile
    assert {each.id: each.status.value for each in view.components} == {
        "api": "under_maintenance", "store": WELL, "graph": WELL,
    }  # fmt: skip
    assert view.overall is Status.UNDER_MAINTENANCE
    assert view.bridge is not None
    assert view.bridge.reason == "upgrade"
    page.seen.down("redis")
    for seconds in (1, 10, 10):
        await after(page, office, seconds)
    assert (await page.statuses())["api"] == "under_maintenance", "it outranks checks"
    assert [len(each.components) for each in await page.reader.drafts()] == [1], "store alone"
    (kept,) = await segments(database, "api", "maintenance")
    assert (kept[0], kept[2]) == ("under_maintenance", None)
    off = commands.new("set", MAINTENANCE, value=False, actor="alice")
    assert (await page.plane.change(off, internal=True)).done
    await after(page, office, 1)
    (kept,) = await segments(database, "api", "maintenance")
    assert kept[2] is not None
    assert (await page.statuses())["api"] == OUT


async def test_confirmed_failures_open_one_draft_for_a_cause_and_close_it(
    page: Page, line: Connection
) -> None:
    office = await page.office(line)
    await office.tick()
    page.seen.down("redis", Status.DEGRADED)
    for seconds in (1, 10, 10):
        await after(page, office, seconds)
    (draft,) = await page.reader.drafts()
    assert draft.automatic
    assert draft.started_at == page.clock.now() - timedelta(seconds=20)
    assert [(each.id, each.impact) for each in draft.components] == [
        ("api", Status.DEGRADED), ("store", Status.DEGRADED),
    ]  # fmt: skip
    assert (await page.board.refresh()).incidents == (), "nobody has published it"
    page.seen.down("redis")
    for seconds in (1, 10, 10, 60):
        await after(page, office, seconds)
    (draft,) = await page.reader.drafts()
    assert [each.impact for each in draft.components] == [Status.MAJOR_OUTAGE] * 2
    assert draft.severity == "critical"
    page.seen.all_well()
    for seconds in (1, 10):
        await after(page, office, seconds)
    (draft,) = await page.reader.drafts()
    assert draft.status is IncidentStatus.RESOLVED
    assert page.events == [], "nobody was told"


async def test_published_ones_are_theirs_who_write_on_them(
    page: Page, line: Connection, database: Database, database_url: str
) -> None:
    page = Page(page.plane, database, database_url, page.clock, mode="published")
    office = await page.office(line)
    await office.tick()
    page.seen.down("redis")
    page.seen.down("neo4j")
    for seconds in (1, 10, 10):
        await after(page, office, seconds)
    incidents = (await page.board.refresh()).incidents
    assert {each.title for each in incidents} == {"Api, Store: major outage", "Graph: major outage"}
    mine = next(each for each in incidents if each.components[0].id == "graph")
    await page.incidents.resolve(mine.id, "a cable", "replaced", "alice")
    for _ in range(3):
        await after(page, office, 60)
    assert len((await page.board.refresh()).open_incidents) == 1, "not opened again: one cause, one"
    page.seen.all_well()
    for seconds in (1, 10):
        await after(page, office, seconds)
    view = await page.board.refresh()
    assert view.open_incidents == ()
    other = next(each for each in view.incidents if each.id != mine.id)
    assert other.resolution == "It recovered by itself."
    assert [event.kind for event in page.events] == [
        "incident.created", "incident.created", "incident.resolved", "incident.resolved",
    ]  # fmt: skip
    told = await page.incidents.resolve(other.id, "a full disk", None, "alice")
    assert (told.root_cause, told.resolution) == ("a full disk", "It recovered by itself.")
    assert len(page.events) == 4, "why it was is no news"


async def test_segments_of_one_source_never_overlap_and_what_was_said_stays(
    page: Page, line: Connection, database: Database
) -> None:
    await (await page.office(line)).tick()
    insert = """INSERT INTO drawbridge.status_segments (component, source, status, during)
                SELECT number, $1, $2, tstzrange($3, NULL)
                FROM drawbridge.status_components WHERE id = 'api'"""
    early = page.clock.now() - timedelta(days=1)
    with pytest.raises(asyncpg.ExclusionViolationError):
        await database.execute(insert, "check", "degraded", early)
    await database.execute(insert, "incident", "degraded", early)
    for statement in (
        "UPDATE drawbridge.status_events SET kind = 'x'",
        "DELETE FROM drawbridge.status_incident_updates",
    ):
        with pytest.raises(asyncpg.InsufficientPrivilegeError):
            await database.execute(statement)


async def test_ninety_days_are_read_in_milliseconds(
    page: Page, line: Connection, database: Database
) -> None:
    await (await page.office(line)).tick()
    await database.execute(
        """INSERT INTO drawbridge.status_days
           SELECT number, $1::date - ago, 80000000, 100000, 200000, 300000, 400000, 500000
           FROM drawbridge.status_components, generate_series(1, 89) AS ago""",
        page.clock.now().date(),
    )

    took_s = []
    for _ in range(5):
        page.board._revision = Revision(-1, -1, None)
        began = time.perf_counter()
        view = await page.board.refresh()
        took_s.append(time.perf_counter() - began)
        assert view.components[0].uptime_90 == 99.553
    assert min(took_s) < 0.1, "read and composed; about 6 ms on an idle machine"


async def test_a_clock_that_went_back_does_no_harm(
    page: Page, line: Connection, database: Database
) -> None:
    office = await page.office(line)
    await office.tick()
    await after(page, office, 60)
    page.clock.passed_s = 30
    page.seen.down("redis")
    await office.tick()
    assert await segments(database, "store") == [(WELL, 0, 60)]
