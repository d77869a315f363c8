"""The schema of PostgreSQL, brought forward by numbered files; there is no way back.

Each file of ``control/sql/migrations`` runs once, in a transaction of its own, and is entered in
``drawbridge.migrations`` with its checksum in the same transaction. An advisory lock lets one
migrator through at a time, so that every replica may try at its start.
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


class MigrationError(DrawbridgeError):
    """The schema in the database and the files of this release contradict each other."""


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


async def pending(connection: Connection, migrations: Sequence[Migration]) -> tuple[Migration, ...]:
    """Those of ``migrations`` that the database lacks; changes nothing.

    Raises :class:`MigrationError` where a file was changed after it had been applied, where the
    database is newer than ``migrations``, and where a file was slipped in behind an applied one.
    """
    queries = sql.queries("migrations")
    applied: list[asyncpg.Record] = []
    if await connection.fetchval(queries["exists"]):
        applied = await connection.fetch(queries["applied"])
    known = {migration.version: migration for migration in migrations}
    for row in applied:
        migration = known.get(row["version"])
        if migration is None:
            stranger = f"{row['version']:04d}_{row['name']}"
            raise MigrationError(f"the database is newer than this release: it has {stranger}")
        if migration.checksum != row["checksum"]:
            raise MigrationError(f"{migration} was changed after it had been applied")
    newest = max((row["version"] for row in applied), default=0)
    missing = tuple(m for m in migrations if m.version not in {row["version"] for row in applied})
    for migration in missing:
        if migration.version < newest:
            raise MigrationError(f"{migration} comes before {newest:04d}, which is applied already")
    return missing


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
            queries["record"], migration.version, migration.name, migration.checksum
        )
    return migration


async def _lock(connection: Connection) -> None:
    """Wait for other migrators, at most :data:`LOCK_WAIT_S`; held until the transaction ends."""
    await connection.execute(f"SET LOCAL lock_timeout = '{LOCK_WAIT_S:g}s'")
    try:
        await connection.execute(sql.queries("migrations")["lock"], LOCK)
    except asyncpg.LockNotAvailableError:
        raise MigrationError(f"another migration has held the lock for {LOCK_WAIT_S:g} s") from None
