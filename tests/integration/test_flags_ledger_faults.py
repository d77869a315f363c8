"""The ledger of flags when its connections, its server or its callers fail."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

import asyncpg
import pytest
from structlog.testing import capture_logs

from control import migrations, sql
from control.clock import SystemClock
from control.config import PostgresSection
from control.errors import StoreUnavailable
from control.flags import commands
from control.flags.audit import Audit
from control.flags.commands import Command
from control.flags.document import MAINTENANCE
from control.flags.ledger import Ledger
from control.flags.outcome import Verdict
from control.stores.postgres import Database
from tests.conftest import LiveStores
from tests.stack import wait_until

BOUND_S = 12.0
"""Far above what the ledger may take for any answer: a fault must not become a hang."""


@pytest.fixture
async def database(database_url: str) -> AsyncIterator[Database]:
    await migrations.migrate(database_url)
    async with Database(PostgresSection(url=database_url), connect_s=1.0) as opened:
        yield opened


@pytest.fixture
def ledger(database: Database) -> Ledger:
    return Ledger(database, (), SystemClock())


@pytest.fixture
async def in_turn(database_url: str, database: Database) -> AsyncIterator[Ledger]:
    """One that always writes under the lock, as behind a pooler."""
    pooled = PostgresSection(url=database_url, direct_url=database_url)
    async with Database(pooled, connect_s=1.0) as opened:
        yield Ledger(opened, (), SystemClock())


@pytest.fixture
async def other(database_url: str, database: Database) -> AsyncIterator[asyncpg.Connection]:
    """A client of its own, beside the ledger's pool."""
    connection = await asyncpg.connect(database_url)
    yield connection
    if not connection.is_closed():
        await connection.close()


def toggle() -> Command:
    return commands.new("toggle", MAINTENANCE, actor="ann")


async def rows(database: Database) -> int:
    """How many audit rows there are; the chain must hold."""
    verified = await Audit(database).verify()
    assert verified.intact, verified
    return verified.rows


async def test_a_holder_that_was_stopped_loses_the_flags_after_a_second(
    ledger: Ledger, other: asyncpg.Connection
) -> None:
    """As an instance does that gets SIGSTOP inside of its transaction."""
    await other.execute(sql.queries("flags")["lock"])
    async with asyncio.timeout(BOUND_S):
        outcome = await ledger.commit(toggle(), source="local")
    assert outcome.verdict is Verdict.APPLIED
    await wait_until(other.is_closed)


async def test_a_holder_that_does_not_let_go_is_not_waited_for(
    ledger: Ledger, other: asyncpg.Connection, database: Database, caplog: Any
) -> None:
    async with other.transaction():
        await other.execute("SELECT FROM drawbridge.flags_state FOR UPDATE")
        async with asyncio.timeout(BOUND_S):
            with pytest.raises(StoreUnavailable, match="the flags are locked"):
                await ledger.commit(toggle(), source="local")
    async with other.transaction():  # whoever edits a flag by hand and goes for lunch
        await other.execute("UPDATE base_pricing.bp_app_status_master SET is_active = FALSE")
        async with asyncio.timeout(BOUND_S):
            with pytest.raises(StoreUnavailable, match="the flags are locked"):
                await ledger.commit(toggle(), source="local")
    assert caplog.messages == []  # no connection came back in the middle of a transaction
    assert await rows(database) == 0
    assert (await ledger.commit(toggle(), source="local")).document.version == 1


async def test_a_caller_that_goes_away_leaves_nothing_behind(
    ledger: Ledger, other: asyncpg.Connection, database: Database
) -> None:
    waiting = "SELECT count(*) FROM pg_stat_activity WHERE wait_event_type = 'Lock'"
    async with other.transaction():
        await other.execute("SELECT FROM drawbridge.flags_state FOR UPDATE")
        call = asyncio.create_task(ledger.commit(toggle(), source="local"))
        await wait_until(lambda: database.occupancy[0] == 1)
        await wait_until(lambda: other.fetchval(waiting))
        call.cancel()
        with pytest.raises(asyncio.CancelledError):
            await call
    assert await rows(database) == 0
    assert (await ledger.commit(toggle(), source="local")).document.version == 1


class Once(dict[str, str]):
    """The ledger's queries, but the first COMMIT is another text."""

    def __init__(self, first: str) -> None:
        super().__init__(sql.queries("flags"))
        self._first: str | None = first

    def __getitem__(self, name: str) -> str:
        if name == "commit" and self._first is not None:
            text, self._first = self._first, None
            return text
        return super().__getitem__(name)


DIE = "SELECT pg_terminate_backend(pg_backend_pid());"


async def each_enters_one_row(
    ledger: Ledger, database: Database, spoil: Callable[[], None]
) -> None:
    """Every kind of entry, its answer spoilt."""
    acts: list[Callable[[], Awaitable[Any]]] = [
        lambda: ledger.commit(toggle(), source="local"),
        lambda: ledger.note("look", actor="ann", reason=None, request_id=None, subject="x"),
        ledger.renew_epoch,
    ]
    for number, act in enumerate(acts, 1):
        spoil()
        with capture_logs() as lines:
            outcome = await act()
        assert [line["seq"] for line in lines] == [number]
        assert await rows(database) == number
        if number == 1:
            assert (outcome.verdict, outcome.document.version) == (Verdict.APPLIED, 1)


async def test_a_lost_answer_to_commit_is_looked_up(in_turn: Ledger, database: Database) -> None:
    def spoil() -> None:
        in_turn._queries = Once(f"COMMIT; {DIE}")

    await each_enters_one_row(in_turn, database, spoil)


async def test_a_lost_answer_to_the_one_statement_is_looked_up(
    ledger: Ledger, other: asyncpg.Connection, database: Database, monkeypatch: Any
) -> None:
    genuine = ledger._append

    async def then_die(connection: Any, *arguments: Any) -> bool:
        monkeypatch.undo()
        assert await genuine(connection, *arguments)
        await other.execute("SELECT pg_terminate_backend($1)", connection.get_server_pid())
        await wait_until(connection.is_closed)
        return await genuine(connection, *arguments)  # raises as the first would have

    await each_enters_one_row(
        ledger, database, lambda: monkeypatch.setattr(ledger, "_append", then_die)
    )


async def test_who_is_outrun_between_look_and_statement_writes_after_the_other(
    ledger: Ledger, in_turn: Ledger, database: Database, monkeypatch: Any
) -> None:
    """The same command twice is one, and another is judged anew."""
    command = toggle()
    for theirs, ours in ((command, command), (toggle(), toggle())):
        genuine = ledger._append

        async def outrun(*arguments: Any, theirs: Command = theirs, genuine: Any = genuine) -> bool:
            monkeypatch.undo()
            await in_turn.commit(theirs, source="local")
            done: bool = await genuine(*arguments)
            assert not done
            return done

        before = (await ledger.read()).version
        monkeypatch.setattr(ledger, "_append", outrun)
        outcome = await ledger.commit(ours, source="local")
        changes = 1 if ours is theirs else 2
        assert (outcome.verdict, outcome.document.version) == (Verdict.APPLIED, before + changes)
        assert await rows(database) == before + changes


async def test_a_connection_that_dies_before_commit_has_changed_nothing(
    in_turn: Ledger, database: Database
) -> None:
    before = await in_turn.read()
    in_turn._queries = Once(f"{DIE} COMMIT")
    command = toggle()
    with pytest.raises(StoreUnavailable, match="connection failed"):
        await in_turn.commit(command, source="local")
    assert await in_turn.read() == before
    assert await rows(database) == 0
    assert (await in_turn.commit(command, source="local")).document.version == 1


@pytest.mark.parametrize("step", ["_locked", "_truth", "_append", "_truth at once"])
async def test_a_frozen_server_is_an_error_in_time_and_nothing_is_half_done(
    step: str,
    ledger: Ledger,
    in_turn: Ledger,
    database: Database,
    stores: LiveStores,
    monkeypatch: Any,
) -> None:
    """Frozen before the transaction, after its reads, and with everything sent but the COMMIT; and
    before the one statement, which it has from a client that is gone when it thaws."""
    step, _, at_once = step.partition(" ")
    ledger = ledger if at_once else in_turn
    await ledger.commit(toggle(), source="local")  # what is known to the server is sent at once
    before = await ledger.read()
    genuine = getattr(ledger, step)

    def then_freeze(*arguments: Any) -> Any:
        if step == "_locked":
            stores.freeze("postgres")
            return genuine(*arguments)

        async def run() -> Any:
            result = await genuine(*arguments)
            stores.freeze("postgres")
            return result

        return run()

    monkeypatch.setattr(ledger, step, then_freeze)
    command = toggle()
    try:
        async with asyncio.timeout(BOUND_S):
            with pytest.raises(StoreUnavailable, match="timeout"):
                await ledger.commit(command, source="local")
            with pytest.raises(StoreUnavailable, match="timeout"):
                await ledger.read()
    finally:
        stores.thaw("postgres")
    monkeypatch.undo()
    assert await ledger.read() == before
    assert await rows(database) == 1
    assert (await ledger.commit(command, source="local")).document.version == 2
    assert await rows(database) == 2


async def test_no_server_is_an_error_at_once(stores: LiveStores, ledger: Ledger) -> None:
    await ledger.read()
    await stores.kill("postgres")
    try:
        async with asyncio.timeout(BOUND_S):
            for act in (ledger.read, lambda: ledger.commit(toggle(), source="local")):
                with pytest.raises(StoreUnavailable, match="connection failed"):
                    await act()
    finally:
        await stores.restart("postgres")
    assert (await ledger.commit(toggle(), source="local")).document.version == 1


async def test_flags_that_lost_their_state_are_an_outage(
    ledger: Ledger, database: Database
) -> None:
    await database.execute("DELETE FROM drawbridge.flags_state")
    with pytest.raises(StoreUnavailable, match="flags_state"):
        await ledger.read()
    with pytest.raises(StoreUnavailable, match="flags_state"):
        await ledger.commit(toggle(), source="local")
