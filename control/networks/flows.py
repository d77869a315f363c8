"""A flow, written onto the arcs of the version that it was computed for.

Several transactions make one flow. The version says whose it is only once all are written, and
where two runs write at the same time, whoever began later wins and the other one is told.
"""

from collections.abc import Mapping
from functools import partial

from neo4j import AsyncManagedTransaction

from control import cypher
from control.clock import Clock, iso
from control.networks.catalogue import QUERIES
from control.networks.network import (
    FlowSuperseded,
    Network,
    NetworkReplaced,
    page_key,
)
from control.stores.graph import Graph

ARCS = 5_000
"""The most arcs that one transaction writes."""


class FlowWriter:
    """Writes one run's flow. Methods raise :class:`control.errors.StoreUnavailable`, and may then
    be called again."""

    def __init__(self, graph: Graph, network: Network, run_id: str, clock: Clock) -> None:
        self._graph = graph
        self._network = network
        self._run_id = run_id
        self._clock = clock
        self._queries = cypher.queries(QUERIES)

    async def begin(self) -> None:
        """From now on the network has no whole flow. Raises :class:`NetworkReplaced`."""
        found = await self._graph.write(
            self._queries["begin_flow"], version=self._network.version, run_id=self._run_id
        )
        if not found:
            raise NetworkReplaced(self._network.name)

    async def write(self, page: int, flows: Mapping[int, float]) -> None:
        """The flows of arcs by their ``seq``, all with tails among the nodes of ``page``.

        An arc of that page between the first and the last one given that is left out has none.
        Raises :class:`FlowSuperseded`.
        """
        named = sorted(flows.items())
        for at in range(0, len(named), ARCS):
            await self._graph.transact(partial(self._write, page, named[at : at + ARCS]))

    async def finish(self, objective: float) -> None:
        """All is written: the network shows the flow. Raises :class:`FlowSuperseded`."""
        found = await self._graph.write(
            self._queries["finish_flow"],
            version=self._network.version,
            run_id=self._run_id,
            objective=objective,
            at=iso(self._clock.now()),
            now_ms=self._now_ms,
        )
        if not found:
            raise FlowSuperseded(self._network.name)

    async def _write(
        self, page: int, piece: list[tuple[int, float]], tx: AsyncManagedTransaction
    ) -> None:
        held = await tx.run(
            self._queries["hold_flow"],
            version=self._network.version,
            run_id=self._run_id,
            now_ms=self._now_ms,
        )
        if await held.single() is None:
            raise FlowSuperseded(self._network.name)
        written = await tx.run(
            self._queries["write_flow"],
            page=page_key(self._network.version, page),
            first=piece[0][0],
            last=piece[-1][0],
            flows={str(seq): flow for seq, flow in piece},
        )
        await written.consume()

    @property
    def _now_ms(self) -> int:
        return int(self._clock.now().timestamp() * 1000)
