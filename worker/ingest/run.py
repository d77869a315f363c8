"""One ingest job, from its files to a network that readers see.

It looks at every row, writes the nodes, writes the edges, and publishes. What the graph has of the
version says where to go on, so a job that was killed or handed back reads its files again and
writes only what is missing. While a store is away it waits.
"""

from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

from control.backoff import Backoff
from control.clock import Clock
from control.errors import DrawbridgeError, StoreUnavailable
from control.networks.catalogue import Catalogue
from control.networks.loading import (
    COMPLETE,
    DROPPING,
    SUPERSEDED,
    VOID,
    DuplicateNodes,
    Loader,
    NewArc,
    NewNode,
    UnknownNodes,
    Written,
)
from control.networks.network import Network, UnknownNetwork
from control.networks.removal import Remover
from control.networks.uploads import Uploads
from control.stores.graph import Graph
from worker.context import JobContext
from worker.ingest.payload import Ingested, IngestPayload
from worker.ingest.survey import MOST_TOLD, BadRows, Complaints, Survey, rows

T = TypeVar("T")
Row = TypeVar("Row", NewNode, NewArc)
BATCH = 2_000
"""Rows in one transaction: few enough that packing them does not hold up the worker's loop."""

_LONGEST_PAUSE_S = 2.0


class UploadGone(DrawbridgeError):
    """The files were removed meanwhile."""


@dataclass(frozen=True)
class Batch(Generic[Row]):
    """Some rows, where each came from, and how many of their sort come before them."""

    first: int
    rows: Sequence[Row]
    places: Sequence[tuple[str, int]]

    @property
    def end(self) -> int:
        """How many there are with these."""
        return self.first + len(self.rows)


class Ingest:
    """Stores the upload of one job. ``graph`` and ``uploads`` may go away: it waits for them."""

    def __init__(
        self,
        context: JobContext,
        payload: IngestPayload,
        *,
        graph: Graph,
        uploads: Uploads,
        clock: Clock,
    ) -> None:
        self._context = context
        self._payload = payload
        self._graph = graph
        self._uploads = uploads
        self._clock = clock
        self._version = context.run_id
        self._loader = Loader(graph, self._version, payload.network, clock)
        self._survey = Survey()
        self._complaints = Complaints()
        self._told: dict[str, Any] = {}

    async def run(self) -> Ingested:
        """What became of it. Raises :class:`BadRows`, :class:`UploadGone`, and CancelledError where
        it is to stop."""
        current = await self._current()
        published = current is not None and current.version == self._version
        if current is not None and not published and current.digest == self._payload.digest:
            return _of_network("unchanged", current)
        if not published:
            await self._look()
            await self._store()
        written = await self._patiently(self._begun)
        return Ingested(
            outcome="superseded" if written.state == SUPERSEDED else "stored",
            network=self._payload.network,
            version=self._version,
            nodes=written.nodes,
            edges=written.edges,
            total_supply=written.supply,
            total_demand=written.demand,
        )

    async def _look(self) -> None:
        if not await self._patiently(lambda: self._uploads.there(self._version)):
            raise UploadGone("the files of this job are not kept any more; send them again")
        for number, file in enumerate(self._payload.files):
            async for found in rows(self._fetcher(number), file.role):
                self._survey.add(file.name, found)
                self._tell("checking", rows=self._survey.rows)
        self._survey.complaints.require_none()

    async def _store(self) -> None:
        written = await self._begin()
        if written.state in (COMPLETE, SUPERSEDED):
            return
        try:
            await self._write_nodes(written.nodes)
            await self._write_arcs(written.edges)
        except BadRows:
            await self._patiently(self._loader.give_up)
            raise
        self._tell("publishing")
        await self._patiently(self._loader.publish)

    async def _begin(self) -> Written:
        """What an earlier attempt has written; what somebody began to remove goes first."""
        remover = Remover(self._graph, self._clock)
        written = await self._patiently(self._begun)
        while written.state in (DROPPING, VOID):
            await self._patiently(lambda: remover.remove(self._version))
            written = await self._patiently(self._begun)
        return written

    async def _begun(self) -> Written:
        role = self._payload.files[0].role
        kind = "csv" if role in ("nodes", "edges") else role
        return await self._loader.begin(digest=self._payload.digest, format_=kind)

    async def _current(self) -> Network | None:
        try:
            return await self._patiently(lambda: Catalogue(self._graph).get(self._payload.network))
        except UnknownNetwork:
            return None

    async def _write_nodes(self, written: int) -> None:
        async for batch in self._batches(NewNode):
            if batch.end > written:
                await self._add_nodes(batch)
            self._tell("nodes", nodes=batch.end)

    async def _add_nodes(self, batch: Batch[NewNode]) -> None:
        """Raises :class:`BadRows` for nodes that are given twice."""
        seen: set[str] = set()
        for node, place in zip(batch.rows, batch.places, strict=True):
            if node.id in seen:
                self._complaints.add(*place, f"node {node.id} is given twice")
            seen.add(node.id)
        self._complaints.require_none()
        try:
            await self._patiently(lambda: self._loader.add_nodes(batch.first, batch.rows))
        except DuplicateNodes as error:
            for node, place in zip(batch.rows, batch.places, strict=True):
                if node.id in error.ids:
                    self._complaints.add(*place, f"node {node.id} is given twice")
            self._complaints.require_none()
            raise

    async def _write_arcs(self, written: int) -> None:
        implied = self._payload.implied_nodes or not self._survey.nodes
        async for batch in self._batches(NewArc):
            if self._complaints.count:
                await self._find_unknown(batch)
                if self._complaints.count > MOST_TOLD:
                    break
            elif batch.end > written:
                await self._add_arcs(batch, implied=implied)
            self._tell("edges", edges=batch.end)
        self._complaints.require_none()

    async def _add_arcs(self, batch: Batch[NewArc], *, implied: bool) -> None:
        try:
            await self._patiently(
                lambda: self._loader.add_arcs(batch.first, batch.rows, implied=implied)
            )
        except UnknownNodes as error:
            self._complain_of(batch, error.ids)

    async def _find_unknown(self, batch: Batch[NewArc]) -> None:
        """Nothing will be stored: only look for more of what is wrong."""
        self._complain_of(batch, await self._patiently(lambda: self._loader.unknown(batch.rows)))

    def _complain_of(self, batch: Batch[NewArc], unknown: set[str]) -> None:
        for arc, place in zip(batch.rows, batch.places, strict=True):
            for end, key in (("source", arc.source), ("target", arc.target)):
                if key in unknown:
                    self._complaints.add(*place, f"{end} {key} is not among the nodes")

    async def _batches(self, sort: type[Row]) -> AsyncIterator[Batch[Row]]:
        """All rows of a sort, those of one transaction at a time."""
        first, found, places = 0, [], []
        for number, file in enumerate(self._payload.files):
            async for parsed in rows(self._fetcher(number), file.role):
                for line, row in parsed:
                    if not isinstance(row, sort):
                        continue
                    found.append(row)
                    places.append((file.name, line))
                    if len(found) == BATCH:
                        yield Batch(first, found, places)
                        first, found, places = first + len(found), [], []
        if found:
            yield Batch(first, found, places)

    def _fetcher(self, number: int) -> Callable[[int], Awaitable[bytes | None]]:
        """Gives the pieces of a file."""

        async def fetch(piece: int) -> bytes | None:
            return await self._patiently(lambda: self._uploads.piece(self._version, number, piece))

        return fetch

    async def _patiently(self, work: Callable[[], Awaitable[T]]) -> T:
        return await patiently(self._context, work, lambda: self._told)

    def _tell(self, phase: str, **counts: int) -> None:
        counted: dict[str, Any] = {"of_nodes": self._survey.nodes, "of_edges": self._survey.edges}
        done: dict[str, Any] = {
            name: self._told[name] for name in ["nodes", "edges"] if name in self._told
        }
        self._told = {"phase": phase, **(counted if phase != "checking" else {}), **done, **counts}
        self._context.progress(**self._told)


async def patiently(
    context: JobContext,
    work: Callable[[], Awaitable[T]],
    told: Callable[[], dict[str, Any]] = dict,
) -> T:
    """What ``work`` returns, once the store that it needs is there; however long that takes.

    Before each attempt the job can be handed back. ``told`` is what the progress said before.
    """
    pause = Backoff(cap_s=_LONGEST_PAUSE_S)
    while True:
        if context.draining:
            context.hand_back()
        try:
            return await work()
        except StoreUnavailable as error:
            context.log.info("waiting for a store", reason=str(error))
            context.progress(**told(), waiting_for=error.dependency)
        await pause.wait()


def _of_network(outcome: Any, network: Network) -> Ingested:
    return Ingested(
        outcome=outcome,
        network=network.name,
        version=network.version,
        nodes=network.nodes,
        edges=network.edges,
        total_supply=network.total_supply,
        total_demand=network.total_demand,
    )
