"""The result of an ``optimize`` job."""

import math
from collections.abc import Iterable
from typing import Literal

import msgspec

Outcome = Literal["optimal", "infeasible", "unbounded", "time_limit", "interrupted"]


class Solution(msgspec.Struct, frozen=True, kw_only=True):
    """How a model was solved.

    ``objective`` is the best value found, in the model's own sense, and ``solution`` the columns'
    values that give it; ``None`` and empty where there are none. ``bound`` says how good the
    objective could be at best; ``gap`` is their relative distance. ``solve_s`` is in seconds,
    without reading the model.
    """

    outcome: Outcome
    objective: float | None
    bound: float | None
    gap: float | None
    solution: dict[str, float]
    solver: str
    solve_s: float


def finite(value: float) -> float | None:
    """``value`` as JSON can hold it: ``None`` unless it is finite, and never ``-0.0``."""
    return float(value) + 0.0 if math.isfinite(value) else None


def named(names: Iterable[str], values: Iterable[float]) -> dict[str, float]:
    """The columns' values by name. ``values`` must be finite."""
    return {name: value + 0.0 for name, value in zip(names, values, strict=True)}


def gap(objective: float | None, bound: float | None) -> float | None:
    """How far apart they are, relative to the objective; ``None`` where that says nothing."""
    if objective is None or bound is None:
        return None
    distance = abs(objective - bound)
    if distance == 0:
        return 0.0
    return finite(distance / abs(objective)) if objective else None
