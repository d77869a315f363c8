"""The migration runner against a real PostgreSQL."""

import asyncio
import json
from collections.abc import Sequence
from typing import Any

import asyncpg
import pytest
from click.testing import CliRunner, Result

from control import graph_migrations, migrations, sql
from control.cli.migrate import migrate as command
from control.config import GraphSection, PostgresSection
from control.errors import ConfigError, StoreUnavailable
from control.migrations import Migration, MigrationError, ReleaseTooOld
from control.stores import postgres
from control.stores.postgres import Database
from tests.conftest import LiveStores

ONE = Migration(1, "one", "CREATE TABLE drawbridge.one (n integer);")
TWO = Migration(
    2, "two", "CREATE TABLE drawbridge.two (n integer); INSERT INTO drawbridge.two VALUES (2);"
)
ADDS = Migration(3, "adds", "ALTER TABLE drawbridge.two ADD COLUMN m integer;")
TAKES = Migration(4, "takes", "-- contracts: since 0003\nALTER TABLE drawbridge.two DROP COLUMN n;")
BROKEN = Migration(
    2, "broken", "CREATE TABLE drawbridge.two (n integer); SELECT no_such_function();"
)


async def apply(url: str, files: Sequence[Migration]) -> list[str]:
    async with postgres.connection(url) as connection:
        return [str(m) async for m in migrations.apply(connection, files)]


async def pending(url: str, files: Sequence[Migration]) -> list[str]:
    async with postgres.connection(url) as connection:
        return [str(m) for m in await migrations.pending(connection, files)]


async def tables(url: str) -> set[str]:
    async with postgres.connection(url) as connection:
        rows = await connection.fetch(
            "SELECT tablename FROM pg_tables WHERE schemaname = 'drawbridge'"
        )
    return {row["tablename"] for row in rows}


async def test_applies_what_is_missing_once_and_in_order(database_url: str) -> None:
    assert await pending(database_url, [ONE, TWO]) == ["0001_one", "0002_two"]
    assert await tables(database_url) == set()  # a plan changes nothing
    assert await apply(database_url, [ONE]) == ["0001_one"]
    assert await pending(database_url, [ONE, TWO]) == ["0002_two"]
    assert await apply(database_url, [ONE, TWO]) == ["0002_two"]
    assert await apply(database_url, [ONE, TWO]) == []
    assert await tables(database_url) == {"migrations", "one", "two"}


async def test_many_migrators_at_once_apply_each_file_once(database_url: str) -> None:
    applied = await asyncio.gather(*(apply(database_url, [ONE, TWO]) for _ in range(8)))
    assert sorted(name for names in applied for name in names) == ["0001_one", "0002_two"]


async def test_a_file_that_fails_leaves_nothing_of_itself(database_url: str) -> None:
    with pytest.raises(
        MigrationError, match=r"0002_broken failed and was undone: .*no_such_function"
    ):
        await apply(database_url, [ONE, BROKEN])
    assert await tables(database_url) == {"migrations", "one"}
    assert await apply(database_url, [ONE, TWO]) == ["0002_two"]


async def test_a_changed_file_is_refused(database_url: str) -> None:
    await apply(database_url, [ONE])
    changed = Migration(1, "one", ONE.statements + " ")
    for look in (pending, apply):
        with pytest.raises(MigrationError, match="0001_one was changed after it had been applied"):
            await look(database_url, [changed, TWO])
    assert await tables(database_url) == {"migrations", "one"}


async def test_a_file_slipped_in_behind_is_refused(database_url: str) -> None:
    await apply(database_url, [TWO])
    with pytest.raises(MigrationError, match="0001_one comes before 0002"):
        await apply(database_url, [ONE, TWO])


async def test_a_release_lives_with_what_newer_ones_add_and_not_with_what_they_take_away(
    database_url: str,
) -> None:
    await apply(database_url, [ONE, TWO, ADDS])
    for older in ([ONE], [ONE, TWO]):
        assert await apply(database_url, older) == []
    await apply(database_url, [ONE, TWO, ADDS, TAKES])
    assert await pending(database_url, [ONE, TWO, ADDS]) == []
    with pytest.raises(ReleaseTooOld, match="0004_takes needs a release that ships 0003 or newer"):
        await pending(database_url, [ONE, TWO])


async def test_what_an_unknown_release_left_without_a_word_is_not_lived_with(
    database_url: str,
) -> None:
    await apply(database_url, [ONE, TWO])
    async with postgres.connection(database_url) as connection:
        await connection.execute("ALTER TABLE drawbridge.migrations DROP COLUMN since")
    assert await pending(database_url, [ONE, TWO]) == []  # as it was before there was a word
    with pytest.raises(ReleaseTooOld, match="0002_two needs a newer release"):
        await pending(database_url, [ONE])
    assert await apply(database_url, [ONE, TWO, ADDS]) == ["0003_adds"]


async def test_what_running_instances_cannot_live_with_is_only_done_when_told_to(
    database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DATABASE_URL", database_url)
    files = [ONE, TWO]
    monkeypatch.setattr(migrations, "shipped", lambda: tuple(files))

    async def run(*arguments: str) -> Result:
        given = ("--postgres-only", *arguments)
        return await asyncio.to_thread(CliRunner().invoke, command, given)

    assert (await run()).exit_code == 0
    files.extend((ADDS, TAKES))
    shown = await run("--plan")
    assert shown.stdout.splitlines() == [
        "pending  0003_adds  expands",
        "pending  0004_takes  contracts, since 0003",
        "What runs now cannot live with 0004_takes: end all instances, then run "
        "`drawbridge migrate --contract`.",
    ]
    refused = (await run()).exception
    assert isinstance(refused, MigrationError)
    assert "0004_takes takes away what running instances need" in str(refused)
    assert await pending(database_url, files) == ["0003_adds", "0004_takes"]
    assert (await run("--contract")).stdout == "applied  0003_adds\napplied  0004_takes\n"


async def test_waiting_for_another_migrator_has_an_end(
    database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(migrations, "LOCK_WAIT_S", 0.2)
    async with postgres.connection(database_url) as holder, holder.transaction():
        await holder.execute(sql.queries("migrations")["lock"], migrations.LOCK)
        with pytest.raises(MigrationError, match="another migration has held the lock"):
            await apply(database_url, [ONE])


async def test_what_this_release_ships_applies_from_scratch(database_url: str) -> None:
    applied = await migrations.migrate(database_url)
    assert [m.version for m in applied] == list(range(1, len(applied) + 1))
    assert await migrations.migrate(database_url) == ()
    assert "api_keys" in await tables(database_url)


def test_file_names_are_checked(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sql, "migration_files", lambda: [("0001_a.sql", ""), ("1_b.sql", "")])
    with pytest.raises(MigrationError, match=r"1_b\.sql is not named NNNN_name\.sql"):
        migrations.shipped()
    monkeypatch.setattr(sql, "migration_files", lambda: [("0001_a.sql", ""), ("0001_b.sql", "")])
    with pytest.raises(MigrationError, match="0001_a and 0001_b have one number"):
        migrations.shipped()


async def test_the_command(
    database_url: str, stores: LiveStores, graph: GraphSection, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DATABASE_URL", database_url)

    def run(*arguments: str) -> str:
        result = CliRunner().invoke(command, arguments, catch_exceptions=False)
        assert result.exit_code == 0
        return result.stdout

    names = [str(m) for m in migrations.shipped()]
    version = migrations.shipped()[-1].version
    for variable in ("NEO4J_URI", "NEO4J_USER", "NEO4J_PASSWORD"):
        monkeypatch.setenv(variable, stores.environment[variable])
    of_graph = [str(m) for m in graph_migrations.shipped()]
    told = [*names, *(f"{name} (graph)" for name in of_graph)]

    def report(done: str, due: str) -> dict[str, Any]:
        graph = {done: of_graph, due: [], "error": None}
        return {"version": version, "breaking": [], done: names, due: [], "graph": graph}

    shown = await asyncio.to_thread(run, "--plan", "--json")
    assert json.loads(shown) == report("pending", "applied")
    *lines, advice = (await asyncio.to_thread(run, "--plan")).splitlines()
    assert [line.split("  ")[1] for line in lines] == told
    assert "run `drawbridge migrate`, then roll" in advice
    shown = await asyncio.to_thread(run, "--json")
    assert json.loads(shown) == report("applied", "pending")
    assert await asyncio.to_thread(run, "--quiet") == ""
    assert await asyncio.to_thread(run) == "the schema is up to date\n"
    monkeypatch.setenv("NEO4J_PASSWORD", "wrong")
    shown = await asyncio.to_thread(run, "--json")
    assert json.loads(shown)["graph"]["error"].startswith("neo4j is unavailable")


async def test_a_database_that_cannot_be_used_is_named_in_one_line(stores: LiveStores) -> None:
    url = stores.addresses.database_url
    for wrong, reason in (
        ("postgresql://127.0.0.1:1/x", "connection failed"),
        (url.replace("@/drawbridge", "@/nowhere"), "the database does not exist"),
        (url.replace("drawbridge:", "drawbridge:x", 1), "authentication failed"),
    ):
        with pytest.raises(StoreUnavailable) as caught:
            await migrations.migrate(wrong)
        assert (caught.value.dependency, caught.value.reason) == ("database", reason)


async def test_an_address_that_cannot_be_read_is_a_bad_setting() -> None:
    secret = "s3cret-s3cret"
    with pytest.raises(ConfigError) as caught:
        await migrations.migrate(f"postgresql://user:{secret}@host:port/x")
    assert secret not in str(caught.value)


async def test_the_pool_lives_through_frozen_killed_and_restarted(stores: LiveStores) -> None:
    async with Database(stores.config.postgres, connect_s=2.0, query_s=0.5) as database:
        assert (await database.fetch("SELECT 1"))[0][0] == 1
        stores.freeze("postgres")
        try:
            for limit_s in (0.5, 2.0):  # a connection that is open, then a new one
                async with asyncio.timeout(limit_s + 1.0):
                    with pytest.raises(StoreUnavailable, match="timeout"):
                        await database.fetch("SELECT 1")
        finally:
            stores.thaw("postgres")
        assert (await database.fetch("SELECT 2"))[0][0] == 2
        await stores.kill("postgres")
        try:
            with pytest.raises(StoreUnavailable, match="connection failed"):
                await database.fetch("SELECT 1")
        finally:
            await stores.restart("postgres")
        assert (await database.fetch("SELECT 3"))[0][0] == 3
        assert database.occupancy == (0, 1, stores.config.postgres.pool_size)


async def test_the_pool_opens_without_a_server_and_tells_when_it_is_full(
    stores: LiveStores,
) -> None:
    async with Database(PostgresSection(url="postgresql://127.0.0.1:1/x")) as away:
        with pytest.raises(StoreUnavailable, match="connection failed"):
            await away.execute("SELECT 1")
    small = PostgresSection(url=stores.config.postgres.url, pool_size=1)
    async with Database(small, connect_s=0.3) as database, database.acquire():
        assert database.occupancy == (1, 1, 1)
        with pytest.raises(StoreUnavailable, match="timeout"):
            await database.execute("SELECT 1")


async def test_closing_a_pool_of_a_frozen_server_has_an_end(stores: LiveStores) -> None:
    try:
        async with asyncio.timeout(30):
            async with Database(stores.config.postgres, connect_s=0.3) as database:
                await database.execute("SELECT 1")
                stores.freeze("postgres")
    finally:
        stores.thaw("postgres")


def test_a_query_on_a_connection_that_just_died_is_an_outage() -> None:
    """What asyncpg raises where a server's last word came while the connection was idle."""
    with pytest.raises(StoreUnavailable, match="connection failed"), postgres.guard():
        raise asyncpg.InternalClientError("cannot switch to state 11; another operation (2)")
