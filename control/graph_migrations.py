"""The schema of the graph, brought forward by numbered files, as PostgreSQL's is.

Each statement can be run again, so two migrators at a time, or one that is killed between a
statement and its entry ``(:GraphMigration {version, name, checksum})``, do no harm.
"""

import re
from collections.abc import Sequence

from control import cypher
from control.migrations import Migration, MigrationError, numbered
from control.stores.graph import Graph

_COMMENT = re.compile(r"^//.*$", re.MULTILINE)


def shipped() -> tuple[Migration, ...]:
    """The migrations of this release, the oldest first. Raises :class:`MigrationError`."""
    return numbered(cypher.migration_files(), ".cypher")


async def pending(graph: Graph, migrations: Sequence[Migration]) -> tuple[Migration, ...]:
    """Those of ``migrations`` that the graph lacks; changes nothing.

    Raises :class:`MigrationError` where a file was changed after it had been applied, or the graph
    is newer than ``migrations``; and :class:`control.errors.StoreUnavailable`.
    """
    known = {migration.version: migration for migration in migrations}
    applied = await graph.read(cypher.queries("migrations")["applied"])
    for row in applied:
        migration = known.get(row["version"])
        if migration is None:
            stranger = f"{row['version']:04d}_{row['name']}"
            raise MigrationError(f"the graph is newer than this release: it has {stranger}")
        if migration.checksum != row["checksum"]:
            raise MigrationError(f"{migration} was changed after it had been applied to the graph")
    there = {row["version"] for row in applied}
    return tuple(migration for migration in migrations if migration.version not in there)


async def migrate(graph: Graph) -> tuple[Migration, ...]:
    """Bring the graph up to date; returns what was applied. Raises as :func:`pending` does."""
    queries = cypher.queries("migrations")
    missing = await pending(graph, shipped())
    for migration in missing:
        for statement in _statements(migration):
            await graph.write(statement)
        await graph.write(
            queries["record"],
            version=migration.version,
            name=migration.name,
            checksum=migration.checksum,
        )
    return missing


def _statements(migration: Migration) -> list[str]:
    """Neo4j takes one at a time, each change of the schema in a transaction of its own."""
    text = _COMMENT.sub("", migration.statements)
    return [statement.strip() for statement in text.split(";") if statement.strip()]
