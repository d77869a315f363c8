"""The ledger of flags against a real PostgreSQL: one order, nothing lost, nothing half done."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from datetime import UTC, datetime, timedelta
from typing import Any

import asyncpg
import pytest
from structlog.testing import capture_logs

from control import ids
from control.clock import SystemClock
from control.config import PostgresSection
from control.flags import commands
from control.flags.audit import Audit, AuditRow
from control.flags.commands import Command
from control.flags.document import INGESTION, MAINTENANCE, Flag, Position
from control.flags.ledger import Ledger
from control.flags.outcome import Verdict
from control.stores.postgres import Database

BOUND_S = 12.0
"""Far above what the ledger may take for any answer: a fault must not become a hang."""

NOW = datetime(2026, 11, 21, 12, 0, 0, 123456, tzinfo=UTC)


class ManualClock:
    """Time that stands still until a test moves it."""

    def __init__(self) -> None:
        self.time = NOW

    def now(self) -> datetime:
        return self.time

    def monotonic(self) -> float:
        return 0.0


@pytest.fixture
def clock() -> ManualClock:
    return ManualClock()


@pytest.fixture
def ledger(database: Database, clock: ManualClock) -> Ledger:
    return Ledger(database, ("extra",), clock)


@pytest.fixture
async def other(database_url: str, database: Database) -> AsyncIterator[asyncpg.Connection]:
    """A client of its own, beside the ledger's pool."""
    connection = await asyncpg.connect(database_url)
    yield connection
    if not connection.is_closed():
        await connection.close()


def toggle(flag: str = MAINTENANCE, **fields: Any) -> Command:
    return commands.new("toggle", flag, actor="ann", **fields)


async def rows(database: Database) -> list[AuditRow]:
    """Every audit row, the oldest first; the chain must hold."""
    verified = await Audit(database).verify()
    assert verified.intact, verified
    found = (await Audit(database).page(limit=500)).rows[::-1]
    assert verified.rows == len(found)
    return found


async def test_a_change_its_position_and_its_row(
    ledger: Ledger, database: Database, clock: ManualClock
) -> None:
    before = await ledger.read()
    until = NOW + timedelta(minutes=20)
    command = commands.new(
        "set",
        MAINTENANCE,
        actor="ann",
        value=True,
        reason="Datenbank-Umzug, größer",
        until=until,
        mode="read_only",
        request_id="req-1",
    )
    outcome = await ledger.commit(command, source="channel")
    raised = Flag(
        is_active=True,
        changed_at=NOW,
        changed_by="ann",
        reason="Datenbank-Umzug, größer",
        until=until,
        mode="read_only",
    )
    assert (outcome.verdict, outcome.command_id, outcome.done) == (
        Verdict.APPLIED,
        command.id,
        True,
    )
    assert outcome.document.position == (before.epoch, before.version + 1)
    assert outcome.document.flags == {MAINTENANCE: raised, INGESTION: Flag(), "extra": Flag()}
    assert await ledger.read() == outcome.document
    [row] = await rows(database)
    assert row == AuditRow(
        seq=1,
        at=NOW,
        actor="ann",
        action="set to ON",
        flag=MAINTENANCE,
        before=Flag(),
        after=raised,
        reason="Datenbank-Umzug, größer",
        command_id=command.id,
        request_id="req-1",
        source="channel",
        outcome="applied",
        epoch=before.epoch,
        version=1,
        hash=row.hash,
    )
    clock.time += timedelta(seconds=5)
    lowered = await ledger.commit(toggle(), source="channel")
    assert lowered.document.flag(MAINTENANCE) == Flag(changed_at=clock.time, changed_by="ann")
    assert [row.action for row in await rows(database)] == ["set to ON", "toggle to OFF"]


async def test_a_flag_without_a_row_is_off_and_gets_one_with_its_change(
    ledger: Ledger, database: Database
) -> None:
    count = "SELECT count(*) FROM base_pricing.bp_app_status_master WHERE name = 'extra'"
    assert (await ledger.read()).flags["extra"] == Flag()
    assert (await database.fetch(count))[0][0] == 0
    outcome = await ledger.commit(toggle("extra"), source="local")
    assert outcome.document.is_active("extra")
    assert (await database.fetch(count))[0][0] == 1
    assert await ledger.read() == outcome.document


async def test_what_changes_nothing_is_recorded_and_keeps_the_position(
    ledger: Ledger, database: Database
) -> None:
    up = await ledger.commit(
        commands.new("set", MAINTENANCE, value=True, actor="ann"), source="local"
    )
    at = up.document.position

    async def verdict(command: Command) -> Verdict:
        outcome = await ledger.commit(command, source="local")
        assert outcome.document == up.document
        return outcome.verdict

    same = commands.new("set", MAINTENANCE, value=True, actor="bob")
    assert await verdict(same) is Verdict.UNCHANGED
    assert await verdict(commands.new("reset", INGESTION, actor="bob")) is Verdict.UNCHANGED
    assert await verdict(toggle("nonsense")) is Verdict.REFUSED
    assert await verdict(toggle(INGESTION, until=NOW)) is Verdict.REFUSED
    older = Position(at.epoch, at.version - 1)
    assert await verdict(toggle(expected=older)) is Verdict.CONFLICT
    assert await verdict(toggle(expected=Position(at.epoch - 1, at.version))) is Verdict.CONFLICT
    late = await ledger.record(toggle(), Verdict.DEBOUNCED, source="channel", detail="too soon")
    assert (late.verdict, late.detail, late.document) == (
        Verdict.DEBOUNCED,
        "too soon",
        up.document,
    )
    assert [(row.action, row.outcome) for row in await rows(database)] == [
        ("set to ON", "applied"),
        ("set to ON", "unchanged"),
        ("reset to OFF", "unchanged"),
        ("toggle", "refused"),
        ("toggle to ON", "refused"),
        ("toggle to OFF", "conflict"),
        ("toggle to OFF", "conflict"),
        ("toggle to OFF", "debounced"),
    ]
    assert {row.version for row in await rows(database)} == {1}
    fitting = await ledger.commit(toggle(expected=at), source="local")
    assert (fitting.verdict, fitting.document.version) == (Verdict.APPLIED, 2)
    with pytest.raises(ValueError, match="only commit"):
        await ledger.record(toggle(), Verdict.APPLIED, source="local")


async def test_a_version_alone_may_be_expected(ledger: Ledger) -> None:
    """As a script sends it, which knows nothing of epochs."""
    form = '{"v":1,"id":"%s","command":"toggle","flag":"%s","expected_version":%d}'
    for version, verdict in ((0, Verdict.APPLIED), (0, Verdict.CONFLICT), (1, Verdict.APPLIED)):
        command = commands.parse((form % (ids.new_id(), MAINTENANCE, version)).encode())
        assert (await ledger.commit(command, source="channel")).verdict is verdict


async def test_an_id_counts_once(ledger: Ledger, database: Database) -> None:
    first = toggle()
    applied = await ledger.commit(first, source="channel")
    later = await ledger.commit(toggle(), source="channel")
    again = await ledger.commit(first, source="local")
    assert (again.verdict, again.document) == (applied.verdict, later.document)
    assert (await ledger.record(first, Verdict.DEBOUNCED, source="local")) == again
    another = toggle(reason="another", id=first.id)
    with capture_logs() as lines:
        reused = await ledger.commit(another, source="local")
    assert (reused.verdict, reused.document) == (Verdict.KEY_REUSED, later.document)
    assert [(line["event"], line["outcome"]) for line in lines] == [
        ("[AUDIT] toggle", "key_reused")
    ]
    assert len(await rows(database)) == 2
    assert await ledger.read() == later.document


async def test_who_came_too_soon_has_not_used_the_id_up(ledger: Ledger, database: Database) -> None:
    command = toggle()
    for _ in range(2):
        soon = await ledger.record(command, Verdict.DEBOUNCED, source="channel", detail="too soon")
        assert (soon.verdict, soon.detail) == (Verdict.DEBOUNCED, "too soon")
    assert (await ledger.commit(command, source="channel")).verdict is Verdict.APPLIED
    late = await ledger.record(command, Verdict.DEBOUNCED, source="channel")
    assert late.verdict is Verdict.APPLIED
    assert len(await rows(database)) == 3


async def test_the_same_id_at_once_is_one_change(ledger: Ledger, database: Database) -> None:
    command = toggle()
    outcomes = await asyncio.gather(*(ledger.commit(command, source=str(n)) for n in range(8)))
    assert {(o.verdict, o.document.version) for o in outcomes} == {(Verdict.APPLIED, 1)}
    assert len(await rows(database)) == 1


async def test_a_new_position_is_notified_and_nothing_else(
    ledger: Ledger, other: asyncpg.Connection
) -> None:
    heard: asyncio.Queue[Any] = asyncio.Queue()
    await other.add_listener("drawbridge_flags", lambda *said: heard.put_nowait(said[-1]))
    expected = []
    for act in (
        lambda: ledger.commit(toggle(), source="local"),
        lambda: ledger.commit(toggle("nonsense"), source="local"),
        lambda: ledger.record(toggle(), Verdict.DEBOUNCED, source="local"),
        lambda: ledger.note("look", actor="ann", reason=None, request_id=None, subject="x"),
        lambda: ledger.commit(toggle(), source="local"),
        ledger.renew_epoch,
    ):
        before = await ledger.read()
        await act()
        after = await ledger.read()
        if after.position != before.position:
            expected.append(str(after.position))
    async with asyncio.timeout(BOUND_S):
        assert [await heard.get() for _ in range(3)] == expected
    assert heard.empty()


async def test_other_things_that_people_account_for(ledger: Ledger, database: Database) -> None:
    await ledger.note(
        "bypass issued", actor="ann", reason="look", request_id="r", subject="for 10 minutes"
    )
    [row] = await rows(database)
    assert (row.action, row.actor, row.reason, row.request_id) == (
        "bypass issued",
        "ann",
        "look",
        "r",
    )
    assert (row.outcome, row.detail, row.flag, row.command_id) == (
        "noted",
        "for 10 minutes",
        None,
        None,
    )


async def test_a_truth_that_went_back_begins_a_later_order(
    ledger: Ledger, database: Database, clock: ManualClock
) -> None:
    before = (await ledger.commit(toggle(), source="local")).document
    clock.time = datetime(2020, 1, 1, tzinfo=UTC)  # a wrong clock must not matter
    renewed = await ledger.renew_epoch()
    assert renewed.position == (before.epoch + 1, before.version)
    assert renewed.flags == before.flags
    far = before.epoch + 10_000_000
    assert (await ledger.renew_epoch(above=far)).epoch == far + 1
    assert (await ledger.renew_epoch(above=far)).epoch == far + 1  # another instance did it
    clock.time = datetime(2040, 1, 1, tzinfo=UTC)
    assert (await ledger.renew_epoch()).epoch == int(clock.time.timestamp() * 1000)
    found = await rows(database)
    assert [row.action for row in found[1:]] == ["renew epoch"] * 3
    assert sum(row.outcome == "applied" for row in found) == before.version


async def test_fifty_toggles_on_several_pools_lose_and_double_nothing(
    database: Database, database_url: str
) -> None:
    async with AsyncExitStack() as stack:
        section = PostgresSection(url=database_url, pool_size=4)
        pools = [await stack.enter_async_context(Database(section)) for _ in range(5)]
        ledgers = [Ledger(pool, (), SystemClock()) for pool in pools]
        outcomes = await asyncio.gather(
            *(ledgers[n % 5].commit(toggle(), source=str(n)) for n in range(50))
        )
        document = await ledgers[0].read()
    assert sorted(o.document.version for o in outcomes) == list(range(1, 51))
    assert (document.version, document.is_active(MAINTENANCE)) == (50, False)
    found = await rows(database)
    assert [row.version for row in found if row.outcome == "applied"] == list(range(1, 51))
    assert [row.after for row in found[:-1]] == [row.before for row in found[1:]]
