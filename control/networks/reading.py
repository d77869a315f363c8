"""One version of a network, read a page at a time while others replace it.

A reader pins the version for a while at a time, and whoever removes old versions leaves pinned ones
alone. One that was held up for longer than its pin notices at its next page.
"""

import math
from collections.abc import AsyncIterator
from operator import itemgetter
from typing import Any

from control import cypher
from control.clock import Clock
from control.networks.catalogue import QUERIES, Catalogue
from control.networks.network import (
    Arc,
    Network,
    NetworkReplaced,
    Node,
    page_key,
)
from control.stores.graph import Graph

PIN_S = 120.0
"""How long a version is kept after its last page was read, should it be replaced."""

ARCS = 20_000
"""The most arcs that are read at once. A page of nodes may have more, if one of them is a hub; it
is then gone through again for each such piece."""

COMPLETE = "complete"
_NO_FLOW = -1.0
"""Stands for a flow that was not written: a real one is not below 0."""

_OWN = ("id", "supply")
_OWN_PREFIX = "network_"


class NetworkReader:
    """Reads networks. Methods raise :class:`control.errors.StoreUnavailable`."""

    def __init__(self, graph: Graph, clock: Clock) -> None:
        self._graph = graph
        self._clock = clock
        self._queries = cypher.queries(QUERIES)
        self._catalogue = Catalogue(graph)
        self._pinned_at = float("-inf")

    async def open(self, name: str) -> Network:
        """The newest whole version of a network, pinned, so that its pages can be read.

        Raises :class:`UnknownNetwork`.
        """
        while True:
            network = await self._catalogue.get(name)
            if await self._pin(network):
                return network

    async def nodes(
        self, network: Network, *, attributes: bool = False
    ) -> AsyncIterator[list[Node]]:
        """All nodes in the order of ``seq``, a page at a time; with the user's attributes if asked.

        Raises :class:`NetworkReplaced`.
        """
        query = self._queries["page_of_nodes_in_full" if attributes else "page_of_nodes"]
        for page in range(network.pages):
            rows = await self._graph.rows(query, page=page_key(network.version, page))
            await self._still_there(network)
            yield [Node(seq, key, supply, *map(_users, rest)) for seq, key, supply, *rest in rows]

    async def arcs(self, network: Network) -> AsyncIterator[list[Arc]]:
        """All arcs, those of one page of tails after those of another, each page's in the order of
        ``seq``, at most :data:`ARCS` at a time. Raises :class:`NetworkReplaced`."""
        for page in range(network.pages):
            async for rows in self._arcs_of(page_key(network.version, page)):
                await self._still_there(network)
                yield [
                    Arc(seq, tail, head, cost, capacity, lower, None if flow == _NO_FLOW else flow)
                    for seq, tail, head, cost, capacity, lower, flow in rows
                ]

    async def _arcs_of(self, page: str) -> AsyncIterator[list[tuple[Any, ...]]]:
        """The rows of a page's arcs. Only where there are too many the server has to sort them:
        that costs it as much as the rest."""
        [(count,)] = await self._graph.rows(self._queries["count_arcs"], page=page)
        if count <= ARCS:
            if count:
                yield await self._columns("page_of_arcs", page=page)
            return
        after = -1
        while rows := await self._columns("piece_of_arcs", page=page, after=after, limit=ARCS):
            yield rows
            after = rows[-1][0]

    async def _columns(self, query: str, **parameters: Any) -> list[tuple[Any, ...]]:
        """The rows of a query that answers in columns, ordered by the first one."""
        [columns] = await self._graph.rows(
            self._queries[query], unlimited=math.inf, no_flow=_NO_FLOW, **parameters
        )
        return sorted(zip(*columns, strict=True), key=itemgetter(0))

    async def _still_there(self, network: Network) -> None:
        """What was read is whole: a version's state changes before anything of it is removed."""
        if self._clock.monotonic() - self._pinned_at > PIN_S / 4:
            there = await self._pin(network)
        else:
            [state] = (await self._graph.rows(self._queries["state"], version=network.version)) or [
                ("gone",)
            ]
            there = state[0] == COMPLETE
        if not there:
            raise NetworkReplaced(network.name)

    async def _pin(self, network: Network) -> bool:
        """Keep the version for :data:`PIN_S` from now on; whether it is still there."""
        now, moment = self._clock.monotonic(), self._clock.now().timestamp()
        found = await self._graph.write(
            self._queries["pin"],
            version=network.version,
            until_ms=int((moment + PIN_S) * 1000),
        )
        self._pinned_at = now
        return bool(found) and found[0]["state"] == COMPLETE


def _users(properties: dict[str, object]) -> dict[str, object]:
    """What of a node's properties is the user's."""
    return {
        name: value
        for name, value in properties.items()
        if name not in _OWN and not name.startswith(_OWN_PREFIX)
    }
