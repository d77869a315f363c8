"""The ``optimize`` kind: linear and mixed-integer programs, and flows over stored networks, solved
with HiGHS."""

from __future__ import annotations

from typing import TYPE_CHECKING

from control.clock import SystemClock
from control.errors import StoreUnavailable
from control.networks.network import NetworkReplaced
from worker.jobs.kinds import job
from worker.optimize.problem import NetworkProblem, OptimizePayload, check

if TYPE_CHECKING:
    from worker.cpu.context import Context
    from worker.optimize.flow_result import FlowSolution
    from worker.optimize.solution import Solution

RETRIED = (StoreUnavailable, NetworkReplaced)


@job(
    "optimize",
    cpu=True,
    graph=True,
    payload=OptimizePayload,
    check=check,
    max_attempts=3,
    retry_on=RETRIED,
)
def optimize(context: Context, payload: OptimizePayload) -> Solution | FlowSolution:
    """Solve one problem. Raises :class:`control.errors.InvalidInput` for one that is unreadable."""
    # Imported only here: they bring in numpy, the solver and the driver of Neo4j.
    if isinstance(payload.problem, NetworkProblem):
        from worker.optimize.flow_job import FlowJob  # noqa: PLC0415

        return FlowJob(context, payload.problem, payload, SystemClock()).run()
    from worker.optimize.solver import Solver  # noqa: PLC0415

    return Solver(context, payload.problem, payload.options, SystemClock()).solve()
