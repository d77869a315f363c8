"""The schema of the graph: applied once, from wherever, and never by an older release."""

import pytest

from control import cypher, graph_migrations
from control.config import GraphSection
from control.migrations import MigrationError
from control.stores.graph import Graph


async def test_what_is_missing_is_applied_once(graph: GraphSection) -> None:
    async with Graph(graph) as opened:
        missing = await graph_migrations.pending(opened, graph_migrations.shipped())
        assert [str(each) for each in missing] == ["0001_networks"]
        assert await graph_migrations.migrate(opened) == missing
        assert await graph_migrations.migrate(opened) == ()


async def test_a_changed_file_and_a_newer_graph_are_refused(
    graph: GraphSection, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with Graph(graph) as opened:
        await graph_migrations.migrate(opened)
        monkeypatch.setattr(cypher, "migration_files", lambda: [("0001_networks.cypher", "x")])
        with pytest.raises(MigrationError, match="0001_networks was changed after"):
            await graph_migrations.migrate(opened)
        monkeypatch.setattr(cypher, "migration_files", list)
        with pytest.raises(MigrationError, match="newer than this release: it has 0001_networks"):
            await graph_migrations.migrate(opened)
