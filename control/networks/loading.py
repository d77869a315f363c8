"""A new version of a network: written in batches, shown to readers in one step.

A version's id is a ULID, made when its upload was accepted: of two uploads at a time the later one
wins, whichever is written first. Each batch says how many rows lie before it, and the version
counts what it has, in the same transaction. So a batch that is sent again, by this process or by
another one that has taken over, is written once, and who resumes asks the version where it is.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, NamedTuple

from neo4j import AsyncManagedTransaction
from neo4j.exceptions import ConstraintError

from control import cypher
from control.clock import Clock, iso
from control.errors import DrawbridgeError
from control.networks.network import PAGE, node_key, page_key
from control.stores.graph import Graph

LOADING, COMPLETE, SUPERSEDED, VOID, DROPPING = (
    "loading", "complete", "superseded", "void", "dropping"
)  # fmt: skip
"""The states of a version. Only a complete one is ever read; a void one was given up."""

NO_ATTRIBUTES: Mapping[str, Any] = {}


class Overtaken(DrawbridgeError):
    """The version is not as this writer left it: removed, or at another place. Begin again."""

    def __init__(self, version: str) -> None:
        super().__init__(f"version {version} was written or removed by somebody else meanwhile")


class UnknownNodes(DrawbridgeError):
    """Arcs name nodes that the network does not have; ``ids`` are they. Nothing was written."""

    def __init__(self, ids: set[str]) -> None:
        super().__init__("arcs name unknown nodes")
        self.ids = ids


class DuplicateNodes(DrawbridgeError):
    """Nodes with these ``ids`` are there already. Nothing was written."""

    def __init__(self, ids: set[str]) -> None:
        super().__init__("nodes are given twice")
        self.ids = ids


class NewNode(NamedTuple):
    """A node to be written."""

    id: str
    supply: float
    attributes: Mapping[str, Any] = NO_ATTRIBUTES


class NewArc(NamedTuple):
    """An arc to be written, between the ids of nodes; ``capacity`` is ``None`` without a limit."""

    source: str
    target: str
    cost: float
    capacity: float | None
    lower: float
    attributes: Mapping[str, Any] = NO_ATTRIBUTES


@dataclass(frozen=True)
class Written:
    """How far a version is."""

    state: str
    nodes: int
    edges: int
    supply: float = 0.0
    demand: float = 0.0


class Loader:
    """Writes one version. Methods raise :class:`control.errors.StoreUnavailable`, and may then be
    called again with the same rows."""

    def __init__(self, graph: Graph, version: str, name: str, clock: Clock) -> None:
        self._graph = graph
        self._version = version
        self._name = name
        self._clock = clock
        self._queries = cypher.queries("versions")

    async def begin(self, *, digest: str, format_: str) -> Written:
        """Make the version, or find what an earlier attempt has left of it."""
        [row] = await self._graph.transact(
            partial(
                self._run, "begin", name=self._name, digest=digest, format=format_,
                created_at=iso(self._clock.now()), now_ms=self._now_ms,
            )
        )  # fmt: skip
        return Written(*row)

    async def add_nodes(self, first: int, nodes: Sequence[NewNode]) -> None:
        """Write nodes, ``first`` of which come before these, each id once.

        Raises :class:`DuplicateNodes` and :class:`Overtaken`.
        """
        try:
            await self._graph.transact(partial(self._add_nodes, first, nodes))
        except ConstraintError:
            rows = [[node_key(self._version, node.id), node.id] for node in nodes]
            found = await self._graph.rows(self._queries["present_before"], rows=rows, first=first)
            raise DuplicateNodes({row[0] for row in found}) from None

    async def add_arcs(self, first: int, arcs: Sequence[NewArc], *, implied: bool) -> None:
        """Write arcs, ``first`` of which come before these. ``implied``: nodes that are not there
        yet are made, without supply.

        Raises :class:`UnknownNodes` and :class:`Overtaken`.
        """
        await self._graph.transact(partial(self._add_arcs, first, arcs, implied))

    async def unknown(self, arcs: Sequence[NewArc]) -> set[str]:
        """The ids that ``arcs`` name and no node has."""
        return set(await self._graph.transact(lambda tx: self._absent(tx, arcs)))

    async def give_up(self) -> None:
        """Nothing will come of the version."""
        await self._graph.transact(partial(self._run, "set_state", state=VOID))

    async def publish(self) -> bool:
        """Let readers see the version instead of the one before, in one step; ``False`` where a
        later upload has done so already. Raises :class:`Overtaken`."""
        return await self._graph.transact(self._publish)

    async def _add_nodes(
        self, first: int, nodes: Sequence[NewNode], tx: AsyncManagedTransaction
    ) -> None:
        written = await self._hold(tx)
        if not self._due(written, written.nodes, first, len(nodes)):
            return
        await self._create_nodes(tx, written, nodes)

    async def _create_nodes(
        self, tx: AsyncManagedTransaction, written: Written, nodes: Sequence[NewNode]
    ) -> None:
        first = written.nodes
        await self._run(
            "add_nodes",
            tx,
            nodes=first + len(nodes),
            supply=written.supply + sum(node.supply for node in nodes if node.supply > 0),
            demand=written.demand - sum(node.supply for node in nodes if node.supply < 0),
            rows=[
                [
                    node_key(self._version, node.id),
                    page_key(self._version, seq // PAGE),
                    seq,
                    node.id,
                    node.supply,
                    node.attributes,
                ]
                for seq, node in enumerate(nodes, first)
            ],
        )

    async def _add_arcs(
        self, first: int, arcs: Sequence[NewArc], implied: bool, tx: AsyncManagedTransaction
    ) -> None:
        written = await self._hold(tx)
        if not self._due(written, written.edges, first, len(arcs)):
            return
        if implied and (absent := await self._absent(tx, arcs)):
            await self._create_nodes(tx, written, [NewNode(each, 0.0) for each in absent])
        version, with_attributes = self._version, any(arc.attributes for arc in arcs)
        rows = [
            [
                node_key(version, arc.source),
                node_key(version, arc.target),
                seq,
                arc.cost,
                arc.capacity,
                arc.lower,
                *((arc.attributes,) if with_attributes else ()),
            ]
            for seq, arc in enumerate(arcs, first)
        ]
        query = "add_arcs_with_attributes" if with_attributes else "add_arcs"
        [(made,)] = await self._run(query, tx, edges=first + len(arcs), rows=rows)
        if made < len(arcs):
            raise UnknownNodes(set(await self._absent(tx, arcs)))

    async def _absent(self, tx: AsyncManagedTransaction, arcs: Sequence[NewArc]) -> list[str]:
        """The ids that arcs name and no node has, in the order in which they are named."""
        named = dict.fromkeys(end for arc in arcs for end in (arc.source, arc.target))
        rows = [[node_key(self._version, each), each] for each in named]
        return [row[0] for row in await self._run("absent", tx, rows=rows)]

    async def _publish(self, tx: AsyncManagedTransaction) -> bool:
        now_ms = self._now_ms
        [(current,)] = await self._run("point", tx, name=self._name, now_ms=now_ms)
        if current == self._version:
            return True
        written = await self._hold(tx)
        if written.state == SUPERSEDED or current > self._version:
            await self._run("set_state", tx, state=SUPERSEDED)
            return False
        if written.state != LOADING:
            raise Overtaken(self._version)
        await self._run("publish", tx, name=self._name)
        return True

    async def _hold(self, tx: AsyncManagedTransaction) -> Written:
        rows = await self._run("hold", tx, now_ms=self._now_ms)
        if not rows:
            raise Overtaken(self._version)
        return Written(*rows[0])

    def _due(self, written: Written, there: int, first: int, count: int) -> bool:
        """Whether a batch is the next one; not if it is there already."""
        if there >= first + count:
            return False
        if there != first or written.state != LOADING:
            raise Overtaken(self._version)
        return True

    async def _run(
        self, query: str, tx: AsyncManagedTransaction, **parameters: Any
    ) -> list[tuple[Any, ...]]:
        answer = await tx.run(self._queries[query], {"version": self._version, **parameters})
        return [tuple(record) async for record in answer]

    @property
    def _now_ms(self) -> int:
        return int(self._clock.now().timestamp() * 1000)
