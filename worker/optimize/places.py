"""Where the nodes of a small network are drawn: where they lie on the map, if their attributes say
so, else where the drawn distances come closest to the numbers of arcs between them.

The latter is stress majorisation (Gansner, Koren, North: Graph Drawing by Stress Majorization,
2004), begun with classical scaling, and turned so that the flow goes from left to right.
"""

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from worker.optimize.flow import Floats, FlowNetwork

MOST_NODES = 300
"""Networks with more nodes are not drawn."""

MOST_ARCS = 3_000
"""Nor those with more arcs."""

_ROUNDS = 60
_APART = 1.5
_COORDINATES = (("x", "y"), ("lon", "lat"), ("lng", "lat"), ("longitude", "latitude"))


def drawable(nodes: int, arcs: int) -> bool:
    """Whether a network of that size is drawn."""
    return nodes <= MOST_NODES and arcs <= MOST_ARCS


def places(
    network: FlowNetwork, attributes: Sequence[Mapping[str, Any]], flow: Floats | None
) -> list[tuple[float, float]]:
    """For each node x to the right and y upwards, from 0 to 1, the shape kept."""
    if not network.nodes:
        return []
    at = _on_the_map(attributes)
    if at is None:
        at = _turned(network, _spread(network), flow)
    at = at - at.min(axis=0)
    extent = float(at.max()) or 1.0
    return [(round(x / extent, 4), round(y / extent, 4)) for x, y in at.tolist()]


def _on_the_map(attributes: Sequence[Mapping[str, Any]]) -> Floats | None:
    """Coordinates that every node has, and not all the same."""
    for across, up in _COORDINATES:
        found = [(each.get(across), each.get(up)) for each in attributes]
        if all(_number(x) and _number(y) for x, y in found):
            at = np.array(found, np.float64)
            if across != "x":  # degrees: those of longitude are shorter away from the equator
                at[:, 0] *= math.cos(math.radians(float(np.clip(at[:, 1].mean(), -85, 85))))
            return at if float(np.ptp(at, axis=0).max()) > 0 else None
    return None


def _number(value: Any) -> bool:
    return isinstance(value, int | float) and math.isfinite(value)


def _spread(network: FlowNetwork) -> Floats:
    distance = _distances(network)
    count = len(distance)
    if count == 1:
        return np.zeros((1, 2))
    at = _scaled(distance)
    weight = np.where(distance > 0, distance, 1) ** -2.0
    np.fill_diagonal(weight, 0)
    laplacian = np.diag(weight.sum(axis=1)) - weight
    inverse = np.linalg.pinv(laplacian)
    for _ in range(_ROUNDS):
        apart = np.linalg.norm(at[:, None, :] - at[None, :, :], axis=2)
        pull = np.where(apart > 1e-9, -weight * distance / np.maximum(apart, 1e-9), 0)
        np.fill_diagonal(pull, 0)
        np.fill_diagonal(pull, -pull.sum(axis=1))
        at = inverse @ (pull @ at)
    return at


def _distances(network: FlowNetwork) -> Floats:
    """The least number of arcs between any two nodes, in either direction; between nodes that
    nothing connects, more than all others."""
    distance = np.full((network.nodes, network.nodes), math.inf)
    np.fill_diagonal(distance, 0)
    plain = network.tail != network.head
    distance[network.tail[plain], network.head[plain]] = 1
    distance[network.head[plain], network.tail[plain]] = 1
    for by in range(network.nodes):
        np.minimum(distance, distance[:, by, None] + distance[None, by, :], out=distance)
    known = distance[np.isfinite(distance)]
    distance[np.isinf(distance)] = known.max() + _APART
    return distance


def _scaled(distance: Floats) -> Floats:
    """Classical scaling to two dimensions, each node a little aside, so that no two coincide."""
    count = len(distance)
    centre = np.eye(count) - 1 / count
    values, vectors = np.linalg.eigh(-0.5 * centre @ distance**2 @ centre)
    at = vectors[:, -2:][:, ::-1] * np.sqrt(np.maximum(values[-2:][::-1], 1e-6))
    golden = np.arange(count) * math.pi * (3 - math.sqrt(5))
    moved: Floats = at + 0.05 * np.column_stack((np.cos(golden), np.sin(golden)))
    return moved


def _turned(network: FlowNetwork, at: Floats, flow: Floats | None) -> Floats:
    """The same picture, turned by the direction in which most of the flow goes."""
    way = np.zeros(2)
    if flow is not None:
        way = ((at[network.head] - at[network.tail]) * flow[:, None]).sum(axis=0)
    if float(np.linalg.norm(way)) < 1e-9:
        spread = np.linalg.svd(at - at.mean(axis=0), full_matrices=False)[2]
        way = spread[0]
    across, up = way / np.linalg.norm(way)
    turned: Floats = at @ np.array([[across, -up], [up, across]])
    return turned
