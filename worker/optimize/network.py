"""A network on its way between Neo4j and a job's own process, which waits while Neo4j is away.

The process reads by itself, page by page, so that the worker's loop has no part in it; each page
goes into arrays before the next one is asked for.
"""

from collections.abc import Awaitable, Callable
from typing import Any, TypeVar

from neo4j import AsyncManagedTransaction, Record, RoutingControl

from control.backoff import Backoff
from control.clock import Clock
from control.config import GraphSection
from control.errors import StoreUnavailable
from control.networks.flows import FlowWriter
from control.networks.network import PAGE, Network, NetworkReplaced
from control.networks.reading import NetworkReader
from control.stores.graph import Graph
from worker.optimize.flow import Floats, FlowNetwork
from worker.optimize.places import drawable

T = TypeVar("T")
PATIENCE_S = 60.0
"""How long a job waits for Neo4j at a time, before it leaves its slot to others."""

_REPLACED = 5

Attributes = list[dict[str, Any]] | None
Tell = Callable[[str, int, int], None]
"""Is told the phase and how many arcs of how many are done."""


class PatientGraph(Graph):
    """Neo4j, each call repeated while it is away: for at most ``patience_s`` in a row, then it
    raises :class:`StoreUnavailable`. ``waiting`` is called before each further attempt."""

    def __init__(
        self,
        section: GraphSection,
        clock: Clock,
        waiting: Callable[[], None],
        *,
        patience_s: float = PATIENCE_S,
    ) -> None:
        super().__init__(section, retry_s=0)
        self._clock = clock
        self._waiting = waiting
        self._patience_s = patience_s

    async def transact(self, work: Callable[[AsyncManagedTransaction], Awaitable[T]]) -> T:
        """As of :class:`Graph`; ``work`` must bear being done twice."""
        return await self._patiently(lambda: super(PatientGraph, self).transact(work))

    async def _records(
        self, query: str, routing: RoutingControl, parameters: dict[str, Any]
    ) -> list[Record]:
        return await self._patiently(
            lambda: super(PatientGraph, self)._records(query, routing, parameters)
        )

    async def _patiently(self, call: Callable[[], Awaitable[T]]) -> T:
        since = self._clock.monotonic()
        pause = Backoff(cap_s=2.0)
        while True:
            try:
                return await call()
            except StoreUnavailable:
                if self._clock.monotonic() - since >= self._patience_s:
                    raise
            self._waiting()
            await pause.wait()


async def read(
    graph: Graph, name: str, clock: Clock, tell: Tell
) -> tuple[Network, FlowNetwork, Attributes]:
    """The newest version of a network, whole; one that is replaced meanwhile is read anew.

    The nodes' own attributes come along where the network is small enough to be drawn. Raises
    :class:`control.networks.network.UnknownNetwork`, :class:`NetworkReplaced` where that goes on
    for ever, and :class:`control.errors.InvalidInput` for one that somebody has spoilt.
    """
    reader = NetworkReader(graph, clock)
    replaced = 0
    while True:
        used = await reader.open(name)
        try:
            return used, *await _whole(reader, used, tell)
        except NetworkReplaced:
            replaced += 1
            if replaced == _REPLACED:
                raise


async def _whole(
    reader: NetworkReader, used: Network, tell: Tell
) -> tuple[FlowNetwork, Attributes]:
    network = FlowNetwork(used.nodes, used.edges)
    attributes: Attributes = [] if drawable(used.nodes, used.edges) else None
    tell("reading", 0, used.edges)
    async for nodes in reader.nodes(used, attributes=attributes is not None):
        network.put_nodes(nodes)
        if attributes is not None:
            attributes += [node.attributes for node in nodes]
    done = 0
    async for arcs in reader.arcs(used):
        network.put_arcs(arcs)
        done += len(arcs)
        tell("reading", done, used.edges)
    network.check()
    return network, attributes


async def write_back(
    graph: Graph,
    used: Network,
    network: FlowNetwork,
    values: Floats,
    objective: float,
    *,
    run_id: str,
    clock: Clock,
    tell: Tell,
) -> None:
    """Write a flow onto the relationships of the version that was solved.

    Every arc is written, whatever flowed there before. Raises :class:`NetworkReplaced` where that
    version is gone, and :class:`control.networks.network.FlowSuperseded`.
    """
    writer = FlowWriter(graph, used, run_id, clock)
    tell("writing back", 0, network.arcs)
    await writer.begin()
    pages = network.tail // PAGE
    order = pages.argsort(kind="stable")
    bounds = pages[order].searchsorted(range(used.pages + 1))
    for page in range(used.pages):
        arcs = order[bounds[page] : bounds[page + 1]]
        if len(arcs):
            await writer.write(page, dict(zip(arcs.tolist(), values[arcs].tolist(), strict=True)))
            tell("writing back", int(bounds[page + 1]), network.arcs)
    await writer.finish(objective)
