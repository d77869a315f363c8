"""The result of an ``optimize`` job over a network."""

import math

import msgspec
import numpy as np
from msgspec import UNSET, UnsetType

from control.networks.network import Network
from worker.optimize.flow import Floats, Flow, FlowNetwork, Why
from worker.optimize.solution import Outcome, gap

EVERY_ARC = 10_000
"""Of a network with more arcs, only those that something flows on are in the result."""

Place = tuple[float, float]


class UsedNetwork(msgspec.Struct, frozen=True):
    """The very version that was solved."""

    name: str
    version: str
    nodes: int
    edges: int


class ArcData(msgspec.Struct, frozen=True):
    """What the arcs of ``solution`` cost and may carry, in the same order. ``None`` in ``capacity``
    is no limit."""

    cost: list[float]
    lower: list[float]
    capacity: list[float | None]


class FlowSolution(msgspec.Struct, frozen=True, kw_only=True):
    """How a network was solved; the members of :class:`worker.optimize.solution.Solution`, where a
    column is an arc (:mod:`control.networks.columns`), and more.

    ``network`` comes first: that tells such a result from others without reading all of it.
    ``why`` is there where there is no best flow. ``nodes`` are supplies by id. ``places`` is where
    to draw the nodes, x to the right and y upwards, for networks that are small enough.
    ``not_written`` says why a flow that was to be written back was not.
    """

    network: UsedNetwork
    outcome: Outcome
    objective: float | None
    bound: float | None
    gap: float | None
    solution: dict[str, float]
    solver: str
    solve_s: float
    written_back: bool
    not_written: str | UnsetType = UNSET
    why: Why | UnsetType = UNSET
    nodes: dict[str, float]
    arcs: ArcData
    places: dict[str, Place] | UnsetType = UNSET


def result(
    used: Network, network: FlowNetwork, flow: Flow, *, solver: str, places: list[Place] | None
) -> FlowSolution:
    """The result of a solve, its flow not written back."""
    values: Floats | None = flow.values
    if values is None:
        chosen = np.arange(0)
    elif network.arcs > EVERY_ARC:
        chosen = np.flatnonzero(values)
    else:
        chosen = np.arange(network.arcs)
    flows = [] if values is None else (values[chosen] + 0.0).tolist()
    return FlowSolution(
        network=UsedNetwork(used.name, used.version, used.nodes, used.edges),
        outcome=flow.outcome,
        objective=flow.objective,
        bound=flow.bound,
        gap=gap(flow.objective, flow.bound),
        solution=dict(zip(network.names(chosen), flows, strict=True)),
        solver=solver,
        solve_s=flow.solve_s,
        written_back=False,
        why=UNSET if flow.why is None else flow.why,
        nodes=dict(zip(network.ids, (network.supply + 0.0).tolist(), strict=True)),
        arcs=ArcData(
            (network.cost[chosen] + 0.0).tolist(),
            (network.lower[chosen] + 0.0).tolist(),
            [each if each < math.inf else None for each in network.capacity[chosen].tolist()],
        ),
        places=UNSET if places is None else dict(zip(network.ids, places, strict=True)),
    )
