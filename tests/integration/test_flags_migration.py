"""The migration of the flags: from nothing, and from older tables with a SMALLINT is_active."""

from collections.abc import AsyncIterator

import asyncpg
import pytest

from control import migrations
from control.clock import SystemClock
from control.config import PostgresSection
from control.flags import commands
from control.flags.document import INGESTION, MAINTENANCE
from control.flags.ledger import Ledger
from control.flags.outcome import Verdict
from control.migrations import MigrationError
from control.stores.postgres import Database

TABLE = "base_pricing.bp_app_status_master"
ROWS = f"VALUES ('{MAINTENANCE}', 1), ('nightly_batch', 0), ('odd', 2), ('odder', -1)"

OLDER = {
    "the usual one": f"""
        CREATE TABLE {TABLE} (
            id serial PRIMARY KEY, name varchar(100) NOT NULL,
            is_active smallint NOT NULL DEFAULT 0,
            created_at timestamptz NOT NULL DEFAULT now(), updated_at timestamptz);
        INSERT INTO {TABLE} (name, is_active) {ROWS};""",
    "bare: no key, no default, nothing required": f"""
        CREATE TABLE {TABLE} (name varchar(64), is_active smallint);
        INSERT INTO {TABLE} (name, is_active) {ROWS};""",
    "checks and indexes that know the numbers": f"""
        CREATE TABLE {TABLE} (
            name text PRIMARY KEY, is_active smallint DEFAULT 1 CHECK (is_active > -9),
            note text, CONSTRAINT pair CHECK (is_active < 9 OR note <> ''));
        CREATE INDEX plain ON {TABLE} (is_active);
        CREATE INDEX raised ON {TABLE} (name) WHERE is_active = 1;
        CREATE INDEX sums ON {TABLE} ((is_active + 1));
        INSERT INTO {TABLE} (name, is_active) {ROWS};""",
    "status_name": f"""
        CREATE TABLE {TABLE} (id int PRIMARY KEY, status_name char(40), is_active smallint);
        INSERT INTO {TABLE} (status_name, is_active, id)
        SELECT column1, column2, row_number() OVER () FROM ({ROWS}) AS r;""",
    "app_status_name, beside other text": f"""
        CREATE TABLE {TABLE} (status text, app_status_name varchar UNIQUE, is_active smallint);
        INSERT INTO {TABLE} (app_status_name, is_active) {ROWS};""",
    "flag_name": f"""
        CREATE TABLE {TABLE} (flag_name text UNIQUE, is_active bigint);
        INSERT INTO {TABLE} {ROWS};""",
    "key": f"""
        CREATE TABLE {TABLE} ("key" text, is_active integer DEFAULT 0);
        INSERT INTO {TABLE} {ROWS};""",
    "the only text column": f"""
        CREATE TABLE {TABLE} (schalter text, is_active smallint, "reason" varchar(20));
        INSERT INTO {TABLE} (schalter, is_active) {ROWS};""",
    "columns that must be given": f"""
        CREATE TABLE {TABLE} (
            id integer PRIMARY KEY, name text NOT NULL, is_active smallint,
            owner text NOT NULL, made_at timestamp NOT NULL, since date NOT NULL);
        INSERT INTO {TABLE} (name, is_active, id, owner, made_at, since)
        SELECT column1, column2, row_number() OVER (), 'me', now(), now() FROM ({ROWS}) AS r;""",
    "columns of our names and other types": f"""
        CREATE TABLE {TABLE} (
            name text, is_active smallint, changed_at timestamp DEFAULT now(),
            changed_by varchar(3) DEFAULT 'abc', until date, mode varchar(9));
        INSERT INTO {TABLE} (name, is_active) {ROWS};""",
    "other letters, other spaces, twice": f"""
        CREATE TABLE {TABLE} (name text, is_active smallint);
        INSERT INTO {TABLE} {ROWS};
        UPDATE {TABLE} SET name = ' App_Maintenance' WHERE name = '{MAINTENANCE}';
        INSERT INTO {TABLE} VALUES ('{MAINTENANCE}', 0), ('odd', 0), ('nightly_batch', NULL);""",
    "BOOLEAN already": f"""
        CREATE TABLE {TABLE} (name text PRIMARY KEY, is_active boolean NOT NULL DEFAULT FALSE);
        INSERT INTO {TABLE} SELECT column1, column2 <> 0 FROM ({ROWS}) AS r;""",
    "BOOLEAN, carelessly": f"""
        CREATE TABLE {TABLE} (id serial, name varchar, is_active boolean DEFAULT TRUE);
        INSERT INTO {TABLE} (name, is_active) SELECT column1, column2 <> 0 FROM ({ROWS}) AS r;
        INSERT INTO {TABLE} (name, is_active) VALUES ('odd', FALSE), ('nightly_batch', NULL);""",
}

STRANGE = {
    "no text column": (f"CREATE TABLE {TABLE} (id int, is_active smallint)", "no text column"),
    "two text columns, neither known": (
        f"CREATE TABLE {TABLE} (this text, that text, is_active smallint)",
        "no text column",
    ),
    "no is_active": (f"CREATE TABLE {TABLE} (name text)", "is_active is missing"),
    "is_active in words": (
        f"CREATE TABLE {TABLE} (name text, is_active text)",
        "is_active is text",
    ),
    "rows without a name": (
        f"CREATE TABLE {TABLE} (name text, is_active smallint);"
        f"INSERT INTO {TABLE} VALUES (NULL, 1)",
        "rows without a name",
    ),
    "a view": (
        f"CREATE VIEW {TABLE} AS SELECT 'x'::text AS name, 1::smallint AS is_active",
        "no ordinary table",
    ),
}


@pytest.fixture
async def before(database_url: str) -> AsyncIterator[asyncpg.Connection]:
    """A database with the schema of the older table, and nothing of ours."""
    connection = await asyncpg.connect(database_url)
    await connection.execute("CREATE SCHEMA base_pricing")
    yield connection
    await connection.close()


async def shape(connection: asyncpg.Connection) -> dict[str, tuple[str, str, str | None]]:
    """``column: (type, whether it may be NULL, default)``."""
    rows = await connection.fetch(
        "SELECT column_name, data_type, is_nullable, column_default FROM information_schema.columns"
        " WHERE table_schema = 'base_pricing' AND table_name = 'bp_app_status_master'"
    )
    return {name: (kind, nullable, default) for name, kind, nullable, default in rows}


async def active(connection: asyncpg.Connection) -> set[str]:
    rows = await connection.fetch(f"SELECT name FROM {TABLE} WHERE is_active = TRUE")
    return {row["name"] for row in rows}


async def check_shape(connection: asyncpg.Connection) -> None:
    """What every table must look like afterwards, wherever it came from."""
    found = await shape(connection)
    assert found["name"][:2] == ("text", "NO")
    assert found["is_active"] == ("boolean", "NO", "false")
    assert found["mode"] == ("text", "NO", "'full'::text")
    for column in ("changed_by", "reason"):
        assert found[column][0] == "text"
    for column in ("changed_at", "until"):
        assert found[column][0] == "timestamp with time zone"
    for statement, error in (
        (f"INSERT INTO {TABLE} (name) VALUES ('{MAINTENANCE}')", asyncpg.UniqueViolationError),
        (f"UPDATE {TABLE} SET mode = 'half'", asyncpg.CheckViolationError),
        (f"UPDATE {TABLE} SET is_active = 1", asyncpg.DatatypeMismatchError),
    ):
        with pytest.raises(error):
            await connection.execute(statement)


async def check_use(url: str) -> None:
    """Flags with and without a row can be changed, and a change is all that changes."""
    async with Database(PostgresSection(url=url)) as database:
        ledger = Ledger(database, ("quite_new",), SystemClock())
        document = await ledger.read()
        assert (document.version, document.epoch > 1_700_000_000_000) == (0, True)
        for name in (MAINTENANCE, INGESTION, "quite_new"):
            was = document.is_active(name)
            command = commands.new("toggle", name, actor="a longer name than three letters")
            outcome = await ledger.commit(command, source="test")
            assert outcome.verdict is Verdict.APPLIED
            assert outcome.document.is_active(name) is not was
        assert await ledger.read() == outcome.document


async def test_from_nothing(before: asyncpg.Connection, database_url: str) -> None:
    await before.execute("DROP SCHEMA base_pricing")
    await migrations.migrate(database_url)
    await check_shape(before)
    names = await before.fetch(f"SELECT name FROM {TABLE} ORDER BY name")
    assert [row["name"] for row in names] == [INGESTION, MAINTENANCE]
    assert await active(before) == set()
    await check_use(database_url)


@pytest.mark.parametrize("table", OLDER.values(), ids=OLDER)
async def test_an_older_table_keeps_its_data(
    table: str, before: asyncpg.Connection, database_url: str
) -> None:
    await before.execute(table)
    await migrations.migrate(database_url)
    await check_shape(before)
    assert await active(before) == {MAINTENANCE, "odd", "odder"}
    names = await before.fetch(f"SELECT name FROM {TABLE} ORDER BY name")
    expected = [INGESTION, MAINTENANCE, "nightly_batch", "odd", "odder"]
    assert [row["name"] for row in names] == expected
    async with Database(PostgresSection(url=database_url)) as database:
        document = await Ledger(database, (), SystemClock()).read()
    assert {name: flag.is_active for name, flag in document.flags.items()} == {
        MAINTENANCE: True,
        INGESTION: False,
    }  # the other rows are not ours to show
    await check_use(database_url)


async def test_what_else_the_older_table_has_is_kept(
    before: asyncpg.Connection, database_url: str
) -> None:
    await before.execute(OLDER["columns that must be given"])
    await before.execute(f"CREATE INDEX mine ON {TABLE} (is_active, owner)")
    await migrations.migrate(database_url)
    rows = await before.fetch(f"SELECT id, name, owner FROM {TABLE} ORDER BY id")
    assert [row["name"] for row in rows][:4] == [MAINTENANCE, "nightly_batch", "odd", "odder"]
    assert [row["id"] for row in rows][:4] == [1, 2, 3, 4]
    assert [row["owner"] for row in rows] == ["me"] * 4 + [None]
    assert await before.fetchval("SELECT to_regclass('base_pricing.mine') IS NOT NULL")


async def test_again_over_what_it_made_itself(
    before: asyncpg.Connection, database_url: str
) -> None:
    await before.execute(OLDER["the usual one"])
    await migrations.migrate(database_url)
    first = await before.fetch(f"SELECT * FROM {TABLE} ORDER BY name")
    await before.execute("DROP SCHEMA drawbridge CASCADE")
    await migrations.migrate(database_url)
    assert await before.fetch(f"SELECT * FROM {TABLE} ORDER BY name") == first
    await check_shape(before)


@pytest.mark.parametrize(("table", "why"), STRANGE.values(), ids=STRANGE)
async def test_a_shape_that_cannot_be_understood_is_refused_and_left_alone(
    table: str, why: str, before: asyncpg.Connection, database_url: str
) -> None:
    await before.execute(table)
    was = await shape(before)
    with pytest.raises(MigrationError, match=f"0002_flags failed and was undone: .*{why}"):
        await migrations.migrate(database_url)
    assert await shape(before) == was


async def test_the_state_is_one_row(before: asyncpg.Connection, database_url: str) -> None:
    await migrations.migrate(database_url)
    for single in (True, False):
        with pytest.raises(asyncpg.IntegrityConstraintViolationError):
            await before.execute(
                "INSERT INTO drawbridge.flags_state (single, epoch) VALUES ($1, 1)", single
            )
