"""A network, its nodes and its arcs, as they are read from the graph."""

import re
from typing import Any

import msgspec

from control.errors import DrawbridgeError, InvalidInput

PAGE = 1_000
"""How many nodes are one page: nodes ``0…999`` are page 0. Stored with the nodes."""

MAX_NAME = 128
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,127}")


class UnknownNetwork(DrawbridgeError):
    """No network has this name."""

    def __init__(self, name: str) -> None:
        super().__init__(f"no network {name} is stored")
        self.name = name


class NetworkReplaced(DrawbridgeError):
    """The version that was being read has been replaced and removed; read the new one."""

    def __init__(self, name: str) -> None:
        super().__init__(f"the network {name} was replaced meanwhile")
        self.name = name


class FlowSuperseded(DrawbridgeError):
    """Another run writes its flow onto the same network, and was later."""

    def __init__(self, name: str) -> None:
        super().__init__(f"another run has begun to write its flow onto the network {name}")
        self.name = name


class Flow(msgspec.Struct, frozen=True):
    """The flow that was written onto a network's arcs: by which run, its cost, when (ISO 8601)."""

    run_id: str
    objective: float
    at: str


class Network(msgspec.Struct, frozen=True, kw_only=True):
    """One version of a network. ``total_supply`` adds up what nodes give, ``total_demand`` what
    they take; where the two differ there is no feasible flow."""

    name: str
    version: str
    nodes: int
    edges: int
    total_supply: float
    total_demand: float
    created_at: str
    format: str = ""
    digest: str = ""
    flow: Flow | None = None

    @property
    def pages(self) -> int:
        """How many pages its nodes fill."""
        return -(-self.nodes // PAGE)


class Node(msgspec.Struct, frozen=True):
    """``seq`` counts a version's nodes from 0 without a gap; ``supply`` below 0 is demand."""

    seq: int
    id: str
    supply: float
    attributes: dict[str, Any] = {}


class Arc(msgspec.Struct, frozen=True):
    """``seq`` counts a version's arcs from 0; ``tail`` and ``head`` are the ``seq`` of nodes.

    ``capacity`` is ``math.inf`` where there is no limit; ``flow`` is ``None`` where none was
    written. Two nodes may have several arcs.
    """

    seq: int
    tail: int
    head: int
    cost: float
    capacity: float
    lower: float
    flow: float | None = None


def page_key(version: str, page: int) -> str:
    """What the nodes of one page have in ``network_page``."""
    return f"{version}/{page}"


def node_key(version: str, node_id: str) -> str:
    """What one node has in ``network_key``."""
    return f"{version}/{node_id}"


def check_name(name: str) -> str:
    """A network's name. Raises :class:`InvalidInput`."""
    if not _NAME.fullmatch(name):
        raise InvalidInput(
            f"must be 1 to {MAX_NAME} letters, digits, dots, dashes and underscores, and begin "
            "with a letter or digit",
            "name",
        )
    return name


def from_properties(stored: dict[str, Any]) -> Network:
    """A network from the properties of its ``NetworkVersion``."""
    flow = None
    if stored.get("flow_run_id"):
        flow = Flow(stored["flow_run_id"], stored["flow_objective"], stored["flow_at"])
    return Network(
        name=stored["network"],
        version=stored["id"],
        nodes=stored["nodes"],
        edges=stored["edges"],
        total_supply=stored["supply"],
        total_demand=stored["demand"],
        created_at=stored["created_at"],
        format=stored.get("format", ""),
        digest=stored.get("digest", ""),
        flow=flow,
    )
