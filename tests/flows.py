"""Networks for tests of flows: made by hand, drawn, or generated large."""

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from control.clock import SystemClock
from control.networks.network import Arc, Node
from worker.cpu.context import Context, Send
from worker.optimize.flow import Flow, FlowNetwork
from worker.optimize.flow_solver import Basis, FlowSolver
from worker.optimize.highs import Teller
from worker.optimize.problem import Options

Edge = tuple[Any, ...]
"""``(source, target, cost[, capacity[, lower]])``"""


def network(supplies: Mapping[str, float], edges: Sequence[Edge]) -> FlowNetwork:
    """A network as it comes out of the graph. Nodes that only edges name supply nothing."""
    named = {end: 0.0 for edge in edges for end in edge[:2]}
    nodes = [Node(at, *each) for at, each in enumerate((named | dict(supplies)).items())]
    place = {node.id: node.seq for node in nodes}
    made = FlowNetwork(len(nodes), len(edges))
    made.put_nodes(nodes)
    made.put_arcs([
        Arc(at, place[source], place[target], cost, *(rest + [math.inf, 0][len(rest):]))
        for at, (source, target, cost, *rest) in enumerate(edges)
    ])  # fmt: skip
    made.check()
    return made


def context(told: Send = lambda _kind, _body: None) -> Context:
    """What a solver needs of a job."""
    return Context(
        told, submitted=lambda: None,  # type: ignore[arg-type,return-value]
        run_id="r", attempt=1, correlation_id="c", restored=None,
    )  # fmt: skip


def solved(given: FlowNetwork, start: Basis | None = None, **options: Any) -> Flow:
    """The best flow."""
    clock, around = SystemClock(), context()
    solver = FlowSolver(around, Options(**options), clock, Teller(around, clock))
    return solver.solve(given, start)


def by_name(given: FlowNetwork, flow: Flow) -> dict[str, float]:
    """What flows, by the names of the arcs."""
    names = given.names(np.arange(given.arcs))
    return {name: value for name, value in zip(names, flow.values.tolist(), strict=True) if value}


def drawn(seed: int, nodes: int, arcs: int, *, whole: bool = True) -> FlowNetwork:
    """A feasible network: a path that any supply can take at a price, and arcs between near nodes,
    parallel ones among them. ``whole``: all its numbers are."""
    rng = np.random.default_rng(seed)
    made = FlowNetwork(nodes, arcs)
    made.ids = [f"n{at}" for at in range(nodes)]
    supply = np.where(rng.random(nodes) < 0.7, 0, rng.integers(-50, 51, nodes)).astype(float)
    supply[-1] -= supply.sum()
    reach = 3 * math.isqrt(nodes) + 1
    made.tail[:] = rng.integers(0, nodes, arcs)
    made.head[:] = (made.tail + rng.integers(-reach, reach + 1, arcs)) % nodes
    made.tail[:nodes] = np.arange(nodes)
    made.head[:nodes] = (made.tail[:nodes] + 1) % nodes
    made.cost[:] = rng.integers(1, 1000, arcs)
    made.capacity[:] = rng.integers(20, 100, arcs)
    made.cost[:nodes] = 1000
    made.capacity[:nodes] = math.inf
    made.supply[:] = supply
    if not whole:
        made.cost += rng.random(arcs)
        made.capacity[nodes:] += rng.random(arcs - nodes)
    return made
