"""The schema of PostgreSQL, brought forward by numbered files; there is no way back.

Each file of ``control/sql/migrations`` runs once, in a transaction of its own, and is entered in
``drawbridge.migrations`` with its checksum in the same transaction. An advisory lock lets one
migrator through at a time, so that every replica may try at its start.

The release before keeps running on the new schema. So a migration **expands**: it adds what old
code does not mind. One that takes away or narrows says from which release on nobody needs that, by
the newest migration that release ships: ``-- contracts: since 0007``. That number is entered beside
it, and a release lives with migrations it does not know while it is new enough for each of them.
"""

import hashlib
import re
from collections.abc import AsyncIterator, Iterable, Sequence
from dataclasses import dataclass

import asyncpg

from control import sql
from control.errors import DrawbridgeError
from control.stores import postgres
from control.stores.postgres import Connection

LOCK = 0x6472_6177_6272_6467
"""Key of the advisory lock: the letters "drawbrdg"."""

LOCK_WAIT_S = 60.0
_FILE_NAME = re.compile(r"(\d{4})_([a-z0-9_]+)")
_CONTRACTS = re.compile(r"^-- contracts: since (\d{4})\b", re.MULTILINE)


class MigrationError(DrawbridgeError):
    """The schema in the database and the files of this release contradict each other."""


class ReleaseTooOld(MigrationError):
    """The database was brought forward by a newer release, and past what this one can live with."""


@dataclass(frozen=True)
class Migration:
    """One file: its number, its name and what it does."""

    version: int
    name: str
    statements: str

    @property
    def checksum(self) -> str:
        """SHA-256 of the text, as hexadecimal digits."""
        return hashlib.sha256(self.statements.encode()).hexdigest()

    @property
    def since(self) -> int:
        """Releases live with it whose newest migration is this one or a later one: 0 where it
        expands, its own number where no other release does."""
        said = _CONTRACTS.search(self.statements)
        return int(said[1]) if said else 0

    def __str__(self) -> str:
        return f"{self.version:04d}_{self.name}"


def shipped() -> tuple[Migration, ...]:
    """The migrations of this release, the oldest first. Raises :class:`MigrationError`."""
    return numbered(sql.migration_files(), ".sql")


def numbered(files: Iterable[tuple[str, str]], ending: str) -> tuple[Migration, ...]:
    """The migrations that ``(file name, text)`` hold, the oldest first.

    Raises :class:`MigrationError` for a file name out of form and for a number given twice.
    """
    found: dict[int, Migration] = {}
    for file_name, statements in files:
        form = _FILE_NAME.fullmatch(file_name.removesuffix(ending))
        if form is None or not file_name.endswith(ending):
            raise MigrationError(f"migration {file_name} is not named NNNN_name{ending}")
        migration = Migration(int(form[1]), form[2], statements)
        if migration.version in found:
            raise MigrationError(f"{found[migration.version]} and {migration} have one number")
        found[migration.version] = migration
    return tuple(found[version] for version in sorted(found))


@dataclass(frozen=True)
class Plan:
    """What :func:`apply` would do. ``breaking``: those of ``pending`` that what may run now cannot
    live with, which is the release whose newest migration is the newest in the database."""

    pending: tuple[Migration, ...]
    breaking: tuple[Migration, ...]


async def plan(connection: Connection, migrations: Sequence[Migration]) -> Plan:
    """Which of ``migrations`` the database lacks; changes nothing.

    What a newer release added is left alone. Raises :class:`MigrationError` where it has taken
    away what this release needs, where a file was changed after it had been applied, and where one
    was slipped in behind an applied one.
    """
    queries = sql.queries("migrations")
    applied: list[asyncpg.Record] = []
    if await connection.fetchval(queries["exists"]):
        applied = await connection.fetch(queries["applied"])
    known = {migration.version: migration for migration in migrations}
    for row in applied:
        migration = known.get(row["version"])
        if migration is None:
            _live_with(row, max(known, default=0))
        elif migration.checksum != row["checksum"]:
            raise MigrationError(f"{migration} was changed after it had been applied")
    newest = max((row["version"] for row in applied), default=0)
    missing = tuple(m for m in migrations if m.version not in {row["version"] for row in applied})
    for migration in missing:
        if migration.version < newest:
            raise MigrationError(f"{migration} comes before {newest:04d}, which is applied already")
    # Nobody runs on an empty one.
    return Plan(missing, tuple(m for m in missing if applied and m.since > newest))


async def pending(connection: Connection, migrations: Sequence[Migration]) -> tuple[Migration, ...]:
    """Those of ``migrations`` that the database lacks. Raises as :func:`plan` does."""
    return (await plan(connection, migrations)).pending


def _live_with(stranger: asyncpg.Record, newest: int) -> None:
    """Raise unless a release whose newest migration is ``newest`` can do with this one."""
    since = stranger["since"]
    if since is not None and since <= newest:
        return
    name = f"{stranger['version']:04d}_{stranger['name']}"
    needs = f"a release that ships {since:04d} or newer" if since is not None else "a newer release"
    raise ReleaseTooOld(f"the database is newer than this release: {name} needs {needs}")


async def apply(
    connection: Connection, migrations: Sequence[Migration]
) -> AsyncIterator[Migration]:
    """Apply what the database lacks, one transaction a file; yields each once it is committed.

    Raises :class:`MigrationError` as :func:`pending` does, and for a file that PostgreSQL refuses.
    """
    while (migration := await _apply_next(connection, migrations)) is not None:
        yield migration


async def migrate(url: str) -> tuple[Migration, ...]:
    """Bring the database at ``url`` up to date; returns what was applied.

    Raises :class:`MigrationError` and :class:`control.errors.StoreUnavailable`.
    """
    async with postgres.connection(url) as connection:
        return tuple([migration async for migration in apply(connection, shipped())])


async def _apply_next(connection: Connection, migrations: Sequence[Migration]) -> Migration | None:
    if not await pending(connection, migrations):
        return None  # the common case takes no lock and needs no right to create
    queries = sql.queries("migrations")
    async with connection.transaction():
        await _lock(connection)
        await connection.execute(queries["create"])
        missing = await pending(connection, migrations)  # another migrator may have been first
        if not missing:
            return None
        migration = missing[0]
        try:
            await connection.execute(migration.statements)
        except asyncpg.PostgresError as error:
            raise MigrationError(f"{migration} failed and was undone: {error}") from error
        await connection.execute(
            queries["record"],
            migration.version,
            migration.name,
            migration.checksum,
            migration.since,
        )
    return migration


async def _lock(connection: Connection) -> None:
    """Wait for other migrators, at most :data:`LOCK_WAIT_S`; held until the transaction ends."""
    await connection.execute(f"SET LOCAL lock_timeout = '{LOCK_WAIT_S:g}s'")
    try:
        await connection.execute(sql.queries("migrations")["lock"], LOCK)
    except asyncpg.LockNotAvailableError:
        raise MigrationError(f"another migration has held the lock for {LOCK_WAIT_S:g} s") from None
