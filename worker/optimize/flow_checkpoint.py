"""What a flow job keeps for its next run: the flow that is still to be written back, or where the
simplex stood when its worker drained. Small enough for Redis: packed, a few bytes an arc."""

import base64
import zlib
from typing import Any

import msgspec
import numpy as np

from worker.optimize.flow import Flow, FlowNetwork
from worker.optimize.flow_solver import Basis


class Checkpoint(msgspec.Struct, frozen=True, kw_only=True):
    """Of the version that was solved. ``values`` and ``objective`` are those of the best flow;
    ``columns`` and ``rows`` are a basis."""

    version: str
    arcs: int
    solver: str = ""
    solve_s: float = 0.0
    objective: float | None = None
    values: str = ""
    columns: str = ""
    rows: str = ""

    @property
    def basis(self) -> Basis | None:
        """Where the simplex may go on."""
        if not self.columns:
            return None
        return _unpacked(self.columns, np.uint8), _unpacked(self.rows, np.uint8)

    def flow(self, network: FlowNetwork) -> Flow | None:
        """The flow that was found, if it was."""
        if self.objective is None or self.arcs != network.arcs:
            return None
        return Flow(
            outcome="optimal",
            values=_unpacked(self.values, np.float64),
            objective=self.objective,
            bound=self.objective,
            solve_s=self.solve_s,
        )


def solved(version: str, flow: Flow, solver: str) -> Checkpoint:
    """A flow that is to be written back."""
    return Checkpoint(
        version=version, arcs=len(flow.values), solver=solver, solve_s=flow.solve_s,
        objective=flow.objective, values=_packed(flow.values),
    )  # fmt: skip


def standing(version: str, arcs: int, basis: Basis) -> Checkpoint:
    """A simplex that was cut short."""
    columns, rows = map(_packed, basis)
    return Checkpoint(version=version, arcs=arcs, columns=columns, rows=rows)


def restored(kept: Any, version: str) -> Checkpoint | None:
    """An earlier run's checkpoint, if it is of this version."""
    if kept is None:
        return None
    try:
        found = msgspec.convert(kept, Checkpoint)
    except msgspec.ValidationError:  # of another release
        return None
    return found if found.version == version else None


def _packed(values: "np.ndarray[Any, Any]") -> str:
    return base64.b64encode(zlib.compress(values.tobytes(), 1)).decode()


def _unpacked(text: str, kind: Any) -> "np.ndarray[Any, Any]":
    return np.frombuffer(zlib.decompress(base64.b64decode(text)), kind).copy()
