"""Maintenance windows move the bridge, exactly once, whoever lives; on a fleet of real planes."""

import asyncio
from collections.abc import AsyncIterator
from datetime import datetime, timedelta
from typing import Any

import pytest

from control.clock import SystemClock
from control.errors import StoreUnavailable
from control.flags import commands
from control.flags.document import MAINTENANCE, Flag
from control.flags.outcome import Outcome
from control.status import window_store
from control.status.errors import Illegal
from control.status.states import WindowStatus
from control.status.view import WindowView
from control.status.windows import NewWindow, WindowChange
from control.stores import postgres
from control.stores.postgres import Connection, Database
from tests.clocks import ManualClock
from tests.planes import Planes
from tests.stack import wait_until
from tests.statuspages import Page


class Today(ManualClock):
    """The machine's day, held still: what the control plane knows of time is the machine's own."""

    def __init__(self) -> None:
        super().__init__()
        self.began = SystemClock().now()

    def now(self) -> datetime:
        return self.began + timedelta(seconds=self.passed_s)


@pytest.fixture
async def clock() -> Today:
    return Today()


@pytest.fixture
async def page(fleet: Planes, database: Database, database_url: str, clock: Today) -> Page:
    return Page(await fleet.open(), database, database_url, clock)


@pytest.fixture
async def line(database_url: str, page: Page) -> AsyncIterator[Connection]:
    async with postgres.connection(database_url) as connection:
        await page.office(connection)
        yield connection


pytestmark = pytest.mark.usefixtures("line")


async def window(page: Page, start: float, end: float, **changes: Any) -> WindowView:
    """A window that raises the bridge, so many seconds after the test's beginning."""
    zero = page.clock.now() - timedelta(seconds=page.clock.passed_s)
    given = {
        "title": "upgrade", "description": "", "components": ["store"], "raise_bridge": True,
        "start": zero + timedelta(seconds=start), "end": zero + timedelta(seconds=end),
    }  # fmt: skip
    return await page.windows.create(NewWindow(**{**given, **changes}), "olga")


async def at(page: Page, seconds: float) -> Flag:
    """Let it be so late, and what is due be done; how maintenance mode stands in PostgreSQL."""
    page.clock.passed_s = seconds
    await page.edges.settle()
    return await bridge(page)


async def bridge(page: Page) -> Flag:
    return (await page.plane.ledger.read()).flag(MAINTENANCE)


async def by_hand(page: Page, value: bool, reason: str = "by hand") -> None:
    command = commands.new("set", MAINTENANCE, value=value, actor="alice", reason=reason)
    assert (await page.plane.change(command, internal=True)).done


async def status(page: Page, id_: str) -> WindowView:
    found = await page.reader.window(id_)
    assert found is not None
    return found


async def audited(page: Page) -> list[tuple[str, str]]:
    """Actor and outcome of every attempt on the flag, oldest first."""
    rows = (await page.plane.audit.page(limit=100)).rows
    return [(row.actor.partition(":")[0], row.outcome) for row in reversed(rows)]


async def test_a_window_raises_the_bridge_of_the_fleet_and_lowers_it(
    page: Page, fleet: Planes
) -> None:
    worker = await fleet.open("worker")
    made = await window(page, 60, 120, title="database upgrade")
    assert not (await at(page, 59)).is_active
    flag = await at(page, 60)
    assert (flag.is_active, flag.reason, flag.until) == (
        True, "database upgrade", made.scheduled_end,
    )  # fmt: skip
    assert flag.changed_by == f"window:{made.id}"
    await wait_until(lambda: worker.replica.raised)
    assert (await page.statuses())["store"] == "under_maintenance"
    assert (await page.statuses())["api"] == "under_maintenance", "it follows the flag"
    assert (await status(page, made.id)).status is WindowStatus.IN_PROGRESS
    await at(page, 90)
    assert not (await at(page, 120)).is_active
    await wait_until(lambda: worker.replica.raised is None)
    over = await status(page, made.id)
    assert (over.status, over.missed) == (WindowStatus.COMPLETED, False)
    assert (over.started_at, over.ended_at) == (made.scheduled_start, made.scheduled_end)
    assert await audited(page) == [("window", "applied")] * 2
    assert [event.kind for event in page.events] == [
        "maintenance.scheduled", "maintenance.started", "maintenance.completed",
    ]  # fmt: skip


async def test_many_at_the_edge_move_the_bridge_once(page: Page, fleet: Planes) -> None:
    pages = [page] + [
        Page(await fleet.open(), page.database, "", page.clock)  # type: ignore[arg-type]
        for _ in range(2)
    ]
    await window(page, 60, 120)
    for seconds in (60, 120):
        page.clock.passed_s = seconds
        await asyncio.gather(*(each.edges.settle() for each in pages for _ in range(3)))
    assert not (await bridge(page)).is_active
    assert (await audited(page)).count(("window", "applied")) == 2
    kinds = [event.kind for each in pages for event in each.events]
    assert sorted(kinds) == [
        "maintenance.completed", "maintenance.scheduled", "maintenance.started",
    ]  # fmt: skip


async def test_a_window_that_passed_while_nobody_lived_raises_nothing(page: Page) -> None:
    made = await window(page, 60, 120)
    assert not (await at(page, 200)).is_active
    over = await status(page, made.id)
    assert (over.status, over.missed, over.started_at) == (WindowStatus.COMPLETED, True, None)
    assert await audited(page) == []
    assert [event.kind for event in page.events] == ["maintenance.scheduled"]


async def test_the_first_that_lives_catches_up(page: Page) -> None:
    made = await window(page, 60, 120)
    assert (await at(page, 100)).is_active, "late, but it is still its time"
    assert (await status(page, made.id)).started_at == page.clock.now()
    assert not (await at(page, 500)).is_active, "all were dead at its end"
    assert (await status(page, made.id)).missed is False


@pytest.mark.parametrize("after_commit", [False, True])
async def test_who_dies_while_raising_leaves_it_to_the_next_and_it_happens_once(
    page: Page, monkeypatch: Any, after_commit: bool
) -> None:
    change = type(page.plane).change

    async def dies(self: Any, command: Any, **terms: Any) -> Outcome:
        if after_commit:
            await change(self, command, **terms)
        raise StoreUnavailable("database", "killed")

    await window(page, 60, 120)
    with monkeypatch.context() as patch:
        patch.setattr(type(page.plane), "change", dies)
        with pytest.raises(StoreUnavailable):
            await at(page, 60)
    if after_commit:
        await by_hand(page, False)  # by an operator, before anybody comes back
    flag = await at(page, 61)
    assert flag.is_active is not after_commit, "once raised it is not raised again"
    assert not (await at(page, 120)).is_active
    assert (await audited(page)).count(("window", "applied")) == (1 if after_commit else 2)


async def test_who_wakes_up_too_late_cannot_raise_it_any_more(page: Page, monkeypatch: Any) -> None:
    sent: list[Any] = []

    async def held(_self: Any, command: Any, **_: Any) -> Outcome:
        sent.append(command)
        raise StoreUnavailable("database", "held")

    made = await window(page, 60, 120)
    with monkeypatch.context() as patch:
        patch.setattr(type(page.plane), "change", held)
        with pytest.raises(StoreUnavailable):
            await at(page, 60)
    await page.windows.finish(made.id)
    assert not (await at(page, 70)).is_active
    await page.plane.change(sent[0], internal=True)  # it goes on now
    assert not (await bridge(page)).is_active
    assert ("window", "applied") not in await audited(page)


async def test_what_was_done_by_hand_is_not_undone(page: Page) -> None:
    await by_hand(page, True, "incident")
    await window(page, 60, 120)
    assert (await at(page, 60)).reason == "incident", "raised before: it stays theirs"
    assert (await at(page, 120)).is_active
    await by_hand(page, False)

    await window(page, 160, 220)
    await at(page, 160)
    await by_hand(page, False)
    assert not (await at(page, 170)).is_active, "lowered within: it stays down"
    await by_hand(page, True, "again")
    assert (await at(page, 220)).reason == "again", "raised within: it stays up"
    await by_hand(page, False)

    await window(page, 260, 320)
    await at(page, 260)
    await by_hand(page, True, "taken over")
    assert (await at(page, 320)).reason == "taken over"


async def test_windows_that_overlap_hold_it_until_the_last_ends(page: Page) -> None:
    first = await window(page, 60, 120)
    second = await window(page, 90, 180, title="second", components=["graph"])
    third = await window(page, 100, 110, title="third", components=[])
    await at(page, 60)
    flag = await at(page, 90)
    assert flag.until == second.scheduled_end
    assert (await at(page, 105)).until == second.scheduled_end
    assert (await at(page, 110)).is_active
    assert (await at(page, 120)).is_active
    assert await page.statuses() == {
        "api": "under_maintenance", "store": "unknown", "graph": "under_maintenance",
    }  # fmt: skip
    assert not (await at(page, 180)).is_active
    for each in (first, second, third):
        assert (await status(page, each.id)).status is WindowStatus.COMPLETED


async def test_extended_shortened_finished_and_called_off(page: Page) -> None:
    made = await window(page, 60, 120)
    await at(page, 60)
    await page.windows.extend(made.id, timedelta(seconds=60))
    flag = await at(page, 125)
    assert flag.is_active
    assert flag.until == made.scheduled_end + timedelta(seconds=60), "callers are told the new end"
    await page.windows.finish(made.id)
    assert not (await at(page, 126)).is_active
    assert (await status(page, made.id)).status is WindowStatus.COMPLETED
    for illegal in (page.windows.finish(made.id), page.windows.cancel(made.id),
                    page.windows.extend(made.id, timedelta(seconds=1)),
                    page.windows.change(made.id, WindowChange(title="x"), "olga")):  # fmt: skip
        with pytest.raises(Illegal):
            await illegal
    other = await window(page, 200, 300)
    with pytest.raises(Illegal):
        await page.windows.finish(other.id)
    moved = await page.windows.change(
        other.id, WindowChange(start=other.scheduled_start + timedelta(seconds=50)), "olga"
    )
    assert moved.sequence == 1
    assert not (await at(page, 210)).is_active
    await page.windows.cancel(other.id)
    assert not (await at(page, 260)).is_active
    assert (await status(page, other.id)).status is WindowStatus.CANCELLED


async def test_a_recurring_window_is_made_ahead_and_what_was_missed_is_entered(
    page: Page,
) -> None:
    day = 86_400
    first = await window(page, 60, 120, recurrence="FREQ=DAILY", timezone="Europe/Berlin")
    assert first.rrule == "FREQ=DAILY"
    view = await page.board.refresh()
    assert len(view.windows) == window_store.AHEAD
    assert (await at(page, 60)).is_active
    assert not (await at(page, 120)).is_active
    assert not (await at(page, 5.5 * day)).is_active, "nobody lived for five days"
    windows = (await page.board.refresh()).windows
    assert [each.missed for each in windows[:7]] == [False, True, True, True, True, True, False]
    ahead = [each for each in windows if each.status is WindowStatus.SCHEDULED]
    assert len(ahead) == window_store.AHEAD
    assert first.series is not None
    await page.windows.cancel_series(first.series)
    await at(page, 20 * day)
    assert len((await page.board.refresh()).windows) == len(windows), "no more are made"
