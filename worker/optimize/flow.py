"""A network in memory, to be solved: arrays, of which a million arcs take 40 MB.

Arcs and nodes are known by their place, which is their ``seq`` in the graph.
"""

from collections.abc import Iterator, Sequence
from typing import Any, Literal

import msgspec
import numpy as np
from numpy.typing import NDArray

from control.errors import InvalidInput
from control.networks.columns import column
from control.networks.network import Arc, Node
from worker.optimize.solution import Outcome

Floats = NDArray[np.float64]
Places = NDArray[np.int32]
Mask = NDArray[np.bool_]

NAMED = 100
"""The most nodes or arcs that a result names."""

_LARGEST = 1e15
"""What supplies and costs are at most; beyond it the solver takes numbers for infinite."""


class Why(msgspec.Struct, frozen=True, kw_only=True):
    """Why a network has no best flow.

    ``unbalanced``: supply and demand differ. ``bounds``: an arc must carry more than it may.
    ``cut``: into or out of a part of the network less may flow than must. ``cycle``: a cycle of
    unlimited capacity earns money. ``nodes`` and ``arcs`` are those to blame, at most 100 of each.
    """

    reason: Literal["unbalanced", "bounds", "cut", "cycle"]
    message: str
    nodes: list[str] = []
    arcs: list[str] = []


class Flow(msgspec.Struct, frozen=True, kw_only=True):
    """How a network was solved; ``values`` are the arcs' flows, where there are any.

    ``objective``, ``bound`` and ``solve_s`` are as in :class:`worker.optimize.solution.Solution`.
    """

    outcome: Outcome
    values: Any = None
    objective: float | None = None
    bound: float | None = None
    why: Why | None = None
    solve_s: float = 0.0


class FlowNetwork:
    """Nodes with their supply (demand is below 0), arcs with cost, lower bound and capacity."""

    def __init__(self, nodes: int, arcs: int) -> None:
        self.ids = [""] * nodes
        self.supply: Floats = np.full(nodes, np.nan)
        self.tail: Places = np.full(arcs, -1, np.int32)
        self.head: Places = np.full(arcs, -1, np.int32)
        self.cost: Floats = np.zeros(arcs)
        self.lower: Floats = np.zeros(arcs)
        self.capacity: Floats = np.zeros(arcs)
        self._parallel: Places | None = None

    @property
    def nodes(self) -> int:
        """How many there are."""
        return len(self.ids)

    @property
    def arcs(self) -> int:
        """How many there are."""
        return len(self.tail)

    def put_nodes(self, page: Sequence[Node]) -> None:
        """Take over some of the nodes."""
        for node in page:
            self.ids[node.seq] = node.id
        self.supply[[node.seq for node in page]] = [node.supply for node in page]

    def put_arcs(self, page: Sequence[Arc]) -> None:
        """Take over some of the arcs."""
        at = np.array([arc.seq for arc in page], np.int64)
        self.tail[at] = [arc.tail for arc in page]
        self.head[at] = [arc.head for arc in page]
        self.cost[at] = [arc.cost for arc in page]
        self.lower[at] = [arc.lower for arc in page]
        self.capacity[at] = [arc.capacity for arc in page]

    def check(self) -> None:
        """Raises :class:`InvalidInput` naming what somebody has spoilt in the graph."""
        if "" in self.ids or (self.tail < 0).any() or (self.head < 0).any():
            raise InvalidInput("the graph has lost nodes or arcs of this network", "network")
        for what, values in (("cost", self.cost), ("lower bound", self.lower)):
            self._require(what, ~(np.abs(values) < _LARGEST), values)
        self._require("capacity", np.isnan(self.capacity) | (self.capacity < -_LARGEST),
                      self.capacity)  # fmt: skip
        spoilt = np.flatnonzero(~(np.abs(self.supply) < _LARGEST))
        if len(spoilt):
            at = int(spoilt[0])
            message = f"the node {self.ids[at]} has no usable supply: {self.supply[at]:g}"
            raise InvalidInput(message, "network")

    def names(self, arcs: NDArray[Any]) -> Iterator[str]:
        """The names of some arcs."""
        parallel = self._parallels()
        ids, tail, head = self.ids, self.tail, self.head
        for arc in arcs.tolist():
            yield column(ids[tail[arc]], ids[head[arc]], int(parallel[arc]))

    def _require(self, what: str, spoilt: Mask, values: Floats) -> None:
        found = np.flatnonzero(spoilt)
        if len(found):
            [name] = self.names(found[:1])
            message = f"the arc {name} has no usable {what}: {values[found[0]]:g}"
            raise InvalidInput(message, "network")

    def _parallels(self) -> Places:
        """Of each arc, the how many-th it is between its nodes, counted from 1."""
        if self._parallel is None:
            order = np.lexsort((self.head, self.tail))  # stable: in the order of seq
            tail, head = self.tail[order], self.head[order]
            fresh = np.ones(self.arcs, bool)
            fresh[1:] = (tail[1:] != tail[:-1]) | (head[1:] != head[:-1])
            place = np.arange(self.arcs)
            rank = place - np.maximum.accumulate(np.where(fresh, place, 0)) + 1
            self._parallel = np.empty(self.arcs, np.int32)
            self._parallel[order] = rank
        return self._parallel
