"""The ``optimize`` kind: linear and mixed-integer programs, solved with HiGHS."""

from __future__ import annotations

from typing import TYPE_CHECKING

from control.clock import SystemClock
from worker.jobs.kinds import job
from worker.optimize.problem import OptimizePayload, check

if TYPE_CHECKING:
    from worker.cpu.context import Context
    from worker.optimize.solution import Solution


@job("optimize", cpu=True, payload=OptimizePayload, check=check, max_attempts=3)
def optimize(context: Context, payload: OptimizePayload) -> Solution:
    """Solve one problem. Raises :class:`control.errors.InvalidInput` for an unreadable model."""
    from worker.optimize.solver import Solver  # noqa: PLC0415 - brings in numpy and the solver

    return Solver(context, payload, SystemClock()).solve()
