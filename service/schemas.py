"""Shapes of bodies that other rooms make, told here for the API's description only."""

from dataclasses import dataclass
from datetime import datetime
from typing import Any, Literal

import msgspec
from msgspec import UNSET, UnsetType

from control.health.report import CheckReport
from service.flows import ArcData, UsedNetwork

Text = str
"""A body that is no JSON."""


class Event(msgspec.Struct):
    """One of a stream of Server-Sent Events; ``data`` is JSON."""

    event: str
    data: str
    id: str | UnsetType = UNSET


@dataclass(frozen=True)
class Payload:
    """Stands for the body that submits a job of ``kind``; the kind itself knows its type."""

    kind: str


@dataclass(frozen=True)
class KindForm:
    """Stands for the body of ``POST /jobs/{kind}``, which each kind has of its own; ``many``: of
    the array that a batch is."""

    many: bool = False


class Solution(msgspec.Struct):
    """What solving a model returned. From ``network`` on it is there only for a network: ``why``
    names whom to blame where there is no best flow; ``nodes`` are supplies, ``arcs`` figures of the
    columns in their order, ``places`` where nodes are drawn."""

    run_id: str
    outcome: Literal["optimal", "infeasible", "unbounded", "time_limit", "interrupted"]
    solver: str
    solve_s: float
    objective: float | None = None
    bound: float | None = None
    gap: float | None = None
    solution: dict[str, float] | None = None
    network: UsedNetwork | UnsetType = UNSET
    why: dict[str, Any] | UnsetType = UNSET
    written_back: bool | UnsetType = UNSET
    not_written: str | UnsetType = UNSET
    nodes: dict[str, float] | UnsetType = UNSET
    arcs: ArcData | UnsetType = UNSET
    places: dict[str, tuple[float, float]] | UnsetType = UNSET


class JobResult(msgspec.Struct):
    """What a job returned: the members of its object, or ``result`` where it is none."""

    run_id: str
    result: Any = None


class Up(msgspec.Struct):
    """The process lives."""

    status: Literal["ok"]
    timestamp: datetime
    version: str
    uptime_seconds: float


class Ready(msgspec.Struct):
    """It can do its work; ``dependencies`` by name.

    ``control_state`` is there only while this instance has lost touch with the control plane.
    """

    status: Literal["ready"]
    dependencies: dict[str, str]
    control_state: Literal["stale"] | UnsetType = UNSET
    checks: dict[str, CheckReport] | UnsetType = UNSET


class WhyNotReady(msgspec.Struct):
    """``down: <why>`` for each dependency that is; ``reason`` while this instance stops."""

    dependencies: dict[str, str]
    reason: Literal["shutting_down"] | UnsetType = UNSET
    control_state: Literal["stale"] | UnsetType = UNSET
    checks: dict[str, CheckReport] | UnsetType = UNSET


class NotReady(msgspec.Struct):
    """It cannot do its work now."""

    detail: WhyNotReady


class ReadyQuery(msgspec.Struct):
    """What to leave out, and whether to tell of every check."""

    exclude: str | UnsetType = UNSET
    verbose: bool | UnsetType = UNSET


class ProblemDocument(msgspec.Struct):
    """An error, as RFC 9457 has it; further members depend on its type."""

    type: str
    title: str
    status: int
    detail: str
    request_id: str
