"""Which networks are stored."""

from control import cypher
from control.networks.network import Network, UnknownNetwork, from_properties
from control.stores.graph import Graph

QUERIES = "networks"


class Catalogue:
    """The networks of one graph. Raises :class:`control.errors.StoreUnavailable`."""

    def __init__(self, graph: Graph) -> None:
        self._graph = graph
        self._queries = cypher.queries(QUERIES)

    async def page(self, *, limit: int, after: str = "") -> list[Network]:
        """Up to ``limit`` networks by name, from the first one behind ``after``."""
        found = await self._graph.read(self._queries["all"], limit=limit, after=after)
        return [from_properties(row["version"]) for row in found]

    async def get(self, name: str) -> Network:
        """The newest whole version of a network. Raises :class:`UnknownNetwork`."""
        found = await self._graph.read(self._queries["one"], name=name)
        if not found:
            raise UnknownNetwork(name)
        return from_properties(found[0]["version"])
