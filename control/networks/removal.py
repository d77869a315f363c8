"""Versions that nobody needs any more: replaced ones, and what uploads that never ended have left.

A version's state changes before the first of its nodes goes, so no reader takes half of it for the
whole. What is interrupted is gone on with the next time.
"""

from functools import partial
from typing import Any

from neo4j import AsyncManagedTransaction

from control import cypher
from control.clock import Clock
from control.networks.loading import DROPPING, LOADING
from control.networks.network import PAGE, page_key
from control.stores.graph import Graph

ABANDONED_S = 3_600.0
"""An upload that has written nothing for this long is taken for dead; should it go on after all, it
begins anew."""

ARCS = 5_000
"""The most arcs that one transaction removes."""


class Remover:
    """Removes versions. Methods raise :class:`control.errors.StoreUnavailable`."""

    def __init__(self, graph: Graph, clock: Clock) -> None:
        self._graph = graph
        self._clock = clock
        self._queries = cypher.queries("versions")

    async def unneeded(self) -> tuple[list[str], int]:
        """The versions that may go now, the oldest first; and how many are only being read yet."""
        now_ms = self._now_ms
        may_go, read = [], 0
        for version, state, touched_ms, pinned_until_ms, current in await self._graph.rows(
            self._queries["all"]
        ):
            abandoned = touched_ms < now_ms - int(ABANDONED_S * 1000)
            if current or (state == LOADING and not abandoned):
                continue
            if state == DROPPING or pinned_until_ms < now_ms:
                may_go.append(version)
            else:
                read += 1
        return sorted(may_go), read

    async def remove(self, version: str) -> bool:
        """Remove a version; ``False``, and nothing is done, if it is the one that readers see, or
        one of them has it pinned."""
        nodes = await self._graph.transact(partial(self._condemn, version))
        if nodes is None:
            return False
        pages = [page_key(version, page) for page in range(-(-nodes // PAGE))]
        for page in pages:
            while await self._part(version, "remove_arcs", page=page, limit=ARCS) == ARCS:
                pass
        for page in pages:
            await self._part(version, "remove_nodes", page=page)
        await self._part(version, "remove_version")
        return True

    async def _part(self, version: str, query: str, **parameters: Any) -> int:
        """How much one step has removed. Nothing, if somebody else was done with all of it: the
        same version may be in the making again."""

        async def work(tx: AsyncManagedTransaction) -> int:
            held = await self._ask(tx, "hold", version=version, now_ms=self._now_ms)
            if not held or held[0][0] != DROPPING:
                return 0
            [(removed,)] = await self._ask(tx, query, version=version, **parameters)
            return int(removed)

        return await self._graph.transact(work)

    async def _condemn(self, version: str, tx: AsyncManagedTransaction) -> int | None:
        """How many nodes it has, once nobody will read it any more; ``None`` if it has to stay."""
        asked = {"version": version, "now_ms": self._now_ms}
        held = await self._ask(tx, "hold", **asked)
        if not held:
            return None
        state, nodes = held[0][:2]
        if state != DROPPING:
            [(may_go,)] = await self._ask(tx, "may_go", **asked)
            if not may_go:
                return None
            await self._ask(tx, "set_state", version=version, state=DROPPING)
        return int(nodes)

    async def _ask(
        self, tx: AsyncManagedTransaction, query: str, **parameters: Any
    ) -> list[tuple[Any, ...]]:
        answer = await tx.run(self._queries[query], parameters)
        return [tuple(record) async for record in answer]

    @property
    def _now_ms(self) -> int:
        return int(self._clock.now().timestamp() * 1000)
