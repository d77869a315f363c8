"""Brings the graph's schema up to date before the first use of it."""

from control import graph_migrations
from control.stores.graph import Graph


class Schema:
    """Remembers that the graph was up to date, so that it is asked once."""

    def __init__(self, graph: Graph) -> None:
        self._graph = graph
        self._is_ready = False

    async def ready(self) -> None:
        """Apply what the graph lacks, if that was not done before.

        Raises :class:`control.migrations.MigrationError` and
        :class:`control.errors.StoreUnavailable`.
        """
        if not self._is_ready:
            await graph_migrations.migrate(self._graph)
            self._is_ready = True
