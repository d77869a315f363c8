"""Why a network has no best flow: what can be seen at once, and what a solver's answer shows.

A feasible flow exists if and only if supply and demand are equal and no part of the network has to
send out more than may leave it (Hoffman's circulation theorem); a best one, if moreover no cycle of
unlimited arcs has a negative cost.
"""

import math
from collections import defaultdict

import numpy as np

from worker.optimize.flow import NAMED, Floats, FlowNetwork, Mask, Why

_SHOWN = 8
_ROUNDING = 1e-9
_LEVELS = 64
_LEVEL_DIGITS = 6


def seen_at_once(network: FlowNetwork) -> Why | None:
    """What makes a flow impossible, whatever the arcs."""
    crossed = np.flatnonzero(network.lower > network.capacity)
    if len(crossed):
        arcs = list(network.names(crossed[:NAMED]))
        message = f"more must flow than the capacity allows on {_some(arcs, len(crossed), 'arc')}"
        return Why(reason="bounds", message=message, arcs=arcs)
    supply = math.fsum(network.supply[network.supply > 0])
    demand = -math.fsum(network.supply[network.supply < 0])
    if abs(supply - demand) <= _ROUNDING * (supply + demand):
        return None
    more, less = ("supply", "demand") if supply > demand else ("demand", "supply")
    side = network.supply if supply > demand else -network.supply
    largest = np.argsort(-side, kind="stable")[:NAMED]
    nodes = [network.ids[at] for at in largest if side[at] > 0]
    message = (
        f"{more} is {_number(abs(supply - demand))} more than {less}: supply {_number(supply)}, "
        f"demand {_number(demand)}; largest {more} at {_some(nodes, int((side > 0).sum()), 'node')}"
    )
    return Why(reason="unbalanced", message=message, nodes=nodes)


def needs(network: FlowNetwork) -> Floats:
    """What each node still has to send out (or take in: below 0) once every arc carries its lower
    bound."""
    left = network.supply.copy()
    np.subtract.at(left, network.tail, network.lower)
    np.add.at(left, network.head, network.lower)
    left[np.abs(left) <= _ROUNDING * max(1.0, float(np.abs(network.supply).max(initial=0)))] = 0
    return left


def cut(network: FlowNetwork, potentials: Floats, unmet: Floats) -> Why:
    """The part of the network that cannot send out, or take in, what it must.

    ``potentials`` are the dual values of sending as much as possible: the nodes on one side of one
    of their levels are that part. ``unmet`` is what each node could not get rid of, to fall back
    on.
    """
    best: tuple[int, float, Mask] | None = None
    levels = np.unique(np.round(potentials, _LEVEL_DIGITS))
    for level in levels[:-1][:_LEVELS]:
        above = potentials > level + 0.5 * 10.0**-_LEVEL_DIGITS
        for side in (above, ~above):
            over = _over(network, side)
            size = int(min(side.sum(), len(side) - side.sum()))
            if over > _ROUNDING * (1 + abs(over)) and (best is None or size < best[0]):
                best = size, over, side
    if best is None:
        return _without_cut(network, unmet)
    size, over, side = best
    sends = int(side.sum()) == size
    part = side if sends else ~side
    across = side[network.tail] & ~side[network.head]
    return _cut_told(network, part, np.flatnonzero(across), sends=sends, over=over)


def cycle(network: FlowNetwork, chosen: Mask) -> Why | None:
    """A cycle of negative cost among the ``chosen`` arcs, which enter each node as often as they
    leave it; ``None`` where there is none."""
    leaving: dict[int, list[int]] = defaultdict(list)
    for arc in np.flatnonzero(chosen).tolist():
        leaving[int(network.tail[arc])].append(arc)
    while leaving:
        found = _one_cycle(network, leaving)
        cost = float(network.cost[found].sum())
        if cost < 0:
            nodes = [network.ids[network.tail[arc]] for arc in found]
            around = " -> ".join([*nodes[:_SHOWN], "…" if len(nodes) > _SHOWN else nodes[0]])
            message = (
                f"each unit that goes round {around} costs {_number(cost)}, and nothing limits it"
            )
            arcs = list(network.names(np.array(found[:NAMED])))
            return Why(reason="cycle", message=message, nodes=nodes[:NAMED], arcs=arcs)
    return None


def _one_cycle(network: FlowNetwork, leaving: dict[int, list[int]]) -> list[int]:
    """Take one cycle out of ``leaving``."""
    node = next(iter(leaving))
    path: list[int] = []
    place = {node: 0}
    while True:
        arc = leaving[node].pop()
        if not leaving[node]:
            del leaving[node]
        path.append(arc)
        node = int(network.head[arc])
        if node in place:
            break
        place[node] = len(path)
    begins = place[node]
    for arc in path[:begins]:  # the way there is no part of it
        leaving[int(network.tail[arc])].append(arc)
    return path[begins:]


def _over(network: FlowNetwork, side: Mask) -> float:
    """By how much what ``side`` must send out is above what may leave it."""
    out = side[network.tail] & ~side[network.head]
    into = ~side[network.tail] & side[network.head]
    must = float(network.supply[side].sum() + network.lower[into].sum())
    return must - float(network.capacity[out].sum())


def _cut_told(
    network: FlowNetwork, part: Mask, across: "np.ndarray", *, sends: bool, over: float
) -> Why:
    members = np.flatnonzero(part)
    nodes = [network.ids[at] for at in members[:NAMED]]
    limit = float(network.capacity[across].sum())
    verb, way = ("send out", "leave") if sends else ("take in", "enter")
    who = _some(nodes, len(members), "node")
    together = " together" if len(members) > 1 else ""
    message = f"{who} must{together} {verb} {_number(limit + over)}, but "
    arcs = list(network.names(across[:NAMED]))
    if arcs:
        message += f"at most {_number(limit)} may {way}, by {_some(arcs, len(across), 'arc')}"
    else:
        message += f"no arc {way}s"
        message += " them" if len(members) > 1 else " it"
    return Why(reason="cut", message=message, nodes=nodes, arcs=arcs)


def _without_cut(network: FlowNetwork, unmet: Floats) -> Why:
    """Where rounding hides the cut: the nodes that are left with something."""
    left = np.flatnonzero(np.abs(unmet) > _ROUNDING)
    nodes = [network.ids[at] for at in left[:NAMED]]
    message = f"no flow satisfies {_some(nodes, len(left), 'node')} within the bounds of the arcs"
    return Why(reason="cut", message=message, nodes=nodes)


def _some(names: list[str], total: int, what: str) -> str:
    """``the nodes A, B and 3 more``."""
    shown = ", ".join(names[:_SHOWN])
    more = f" and {total - _SHOWN} more" if total > _SHOWN else ""
    return f"the {what}{'s' if total != 1 else ''} {shown}{more}"


def _number(value: float) -> str:
    return f"{value:,.12g}".replace(",", "") if abs(value) < 1e15 else f"{value:g}"
