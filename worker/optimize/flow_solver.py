"""Minimum-cost flow over a network, solved with HiGHS as the linear program that it is.

An arc is a column, a node a row. Its basic solutions are whole numbers where supplies, bounds and
capacities are, so the simplex method gives whole flows. Measured on networks of 200,000 and
1,000,000 arcs, the dual simplex without presolve is several times faster than with it, than the
primal simplex and than the interior point method.
"""

import math
from typing import Any

import highspy
import numpy as np
from numpy.typing import NDArray

from control.clock import Clock
from worker.cpu.context import Context
from worker.optimize import flow_faults
from worker.optimize.flow import Floats, Flow, FlowNetwork, Why
from worker.optimize.highs import Highs, Status, Teller
from worker.optimize.problem import Options

_METHOD = {"solver": "simplex", "presolve": "off"}
_WHOLE = 1e-6
_STATUSES = [highspy.HighsBasisStatus(number) for number in range(5)]
_NEGATIVE = -1e-7
_TIME_LIMIT = Flow(outcome="time_limit")

Basis = tuple[NDArray[np.uint8], NDArray[np.uint8]]
"""Where a simplex stands: the state of each column and of each row."""


class FlowSolver:
    """One solve of one network; it is used once."""

    def __init__(self, context: Context, options: Options, clock: Clock, teller: Teller) -> None:
        self._context = context
        self._options = options
        self._clock = clock
        self._teller = teller
        self._began = clock.monotonic()
        self.basis: Basis | None = None
        """Where a solve that was cut short stood."""

        self.version = Highs(context, teller).version
        """The solver, as results name it."""

    def solve(self, network: FlowNetwork, start: Basis | None = None) -> Flow:
        """The best flow, or why there is none. ``start`` is where an earlier solve stood.

        Raises :class:`control.errors.InvalidInput`, :class:`SolverFailed`, ``MemoryError``.
        """
        self._began = self._clock.monotonic()
        self._teller.tell("checking")
        flow = self._found(network, start)
        took = round(self._clock.monotonic() - self._began, 6)
        return Flow(
            outcome=flow.outcome, values=flow.values, objective=flow.objective, bound=flow.bound,
            why=flow.why, solve_s=took,
        )  # fmt: skip

    def _found(self, network: FlowNetwork, start: Basis | None) -> Flow:
        why = flow_faults.seen_at_once(network)
        if why is not None:
            return Flow(outcome="infeasible", why=why)
        around = self._cycle(network)
        if isinstance(around, Flow):
            return around
        if around is not None:
            feasible = self._cut(network)
            return feasible or Flow(outcome="unbounded", why=around)
        return self._best(network, start)

    def _best(self, network: FlowNetwork, start: Basis | None) -> Flow:
        """Solve what has a best flow if it has any."""
        loop = network.tail == network.head
        values = np.where(loop & (network.cost < 0), network.capacity, network.lower)
        if loop.all():
            return self._cut(network) or _optimal(network, values)
        plain = np.flatnonzero(~loop)
        solver = self._solver()
        if solver is None:
            return _TIME_LIMIT
        _pass(solver, _program(network, plain, network.lower, network.capacity))
        if start is not None and len(start[0]) == len(plain) and len(start[1]) == network.nodes:
            _begin_at(solver, start)
        status = solver.run("problem.network")
        if status in (Status.kInfeasible, Status.kUnboundedOrInfeasible):
            return self._cut(network) or Flow(outcome="infeasible")
        outcome = solver.outcome(status)
        solved = solver.model.getSolution()
        if outcome == "optimal":
            values[plain] = solved.col_value
            return _optimal(network, values)
        self.basis = _stands_at(solver) if self._context.draining else None
        bound = _bound(network, np.array(solved.row_dual)) if solved.dual_valid else None
        return Flow(outcome=outcome, bound=bound)

    def _cycle(self, network: FlowNetwork) -> Why | Flow | None:
        """A negative cycle of unlimited arcs; a flow that says that the search was cut short."""
        unlimited = np.isinf(network.capacity)
        earning = unlimited & (network.cost < 0)
        if not earning.any():
            return None
        loop = network.tail == network.head
        if (earning & loop).any():
            return flow_faults.cycle(network, earning & loop)
        plain = np.flatnonzero(unlimited & ~loop)
        solver = self._solver()
        if solver is None:
            return _TIME_LIMIT
        # What goes round at the lowest cost, where each arc may carry one unit.
        ones = np.ones(network.arcs)
        _pass(solver, _program(network, plain, ones * 0, ones, supply=np.zeros(network.nodes)))
        outcome = solver.outcome(solver.run("problem.network"))
        if outcome != "optimal":
            return Flow(outcome=outcome)
        chosen = np.zeros(network.arcs, bool)
        chosen[plain] = np.array(solver.model.getSolution().col_value) > 0.5
        return flow_faults.cycle(network, chosen)

    def _cut(self, network: FlowNetwork) -> Flow | None:
        """Why nothing satisfies every node, ``None`` where something does.

        Each node may send what it cannot get rid of into nowhere; how little of that is possible?
        """
        needs = flow_faults.needs(network)
        if not needs.any():
            return None
        solver = self._solver()
        if solver is None:
            return _TIME_LIMIT
        plain = np.flatnonzero(network.tail != network.head)
        left = np.flatnonzero(needs)
        capacity = network.capacity - network.lower
        lp = _program(network, plain, network.lower * 0, capacity, supply=needs, nowhere=left)
        _pass(solver, lp)
        outcome = solver.outcome(solver.run("problem.network"))
        if outcome != "optimal":
            return Flow(outcome=outcome)
        solved = solver.model.getSolution()
        unmet = np.zeros(network.nodes)
        unmet[left] = np.array(solved.col_value)[len(plain) :]
        if unmet.sum() <= _WHOLE * max(1.0, float(np.abs(needs).max())):
            return None
        why = flow_faults.cut(network, np.array(solved.row_dual), unmet)
        return Flow(outcome="infeasible", why=why)

    def _solver(self) -> Highs | None:
        """A fresh solver with the time that is left; ``None`` where that is none."""
        limit = self._options.time_limit_s
        left = math.inf if limit is None else limit - (self._clock.monotonic() - self._began)
        if left <= 0:
            return None
        solver = Highs(self._context, self._teller)
        solver.configure(self._options, time_limit=left, mip_rel_gap=None, **_METHOD)
        return solver


def _program(
    network: FlowNetwork,
    arcs: NDArray[Any],
    lower: Floats,
    upper: Floats,
    *,
    supply: Floats | None = None,
    nowhere: NDArray[Any] | None = None,
) -> Any:
    """The linear program over some of the arcs, none of them a loop.

    With ``nowhere``, the sum of what these nodes cannot get rid of is made as small as possible
    instead of the cost.
    """
    extra = 0 if nowhere is None else len(nowhere)
    rows = network.supply if supply is None else supply
    columns = len(arcs)
    lp = highspy.HighsLp()
    lp.num_col_, lp.num_row_ = columns + extra, network.nodes
    index = np.empty(2 * columns + extra, np.int32)
    index[0 : 2 * columns : 2], index[1 : 2 * columns : 2] = network.tail[arcs], network.head[arcs]
    value = np.empty(2 * columns + extra)
    value[0 : 2 * columns : 2], value[1 : 2 * columns : 2] = 1, -1
    starts = np.arange(0, 2 * columns + 1, 2, dtype=np.int32)
    costs, lowest, highest = network.cost[arcs], lower[arcs], upper[arcs]
    if nowhere is not None:
        index[2 * columns :], value[2 * columns :] = nowhere, np.sign(rows[nowhere])
        starts = np.append(starts, np.arange(1, extra + 1, dtype=np.int32) + 2 * columns)
        costs = np.concatenate((np.zeros(columns), np.ones(extra)))
        lowest = np.concatenate((lowest, np.zeros(extra)))
        highest = np.concatenate((highest, np.full(extra, math.inf)))
    lp.col_cost_, lp.col_lower_, lp.col_upper_ = costs, lowest, highest
    lp.row_lower_ = lp.row_upper_ = rows
    lp.a_matrix_.format_ = highspy.MatrixFormat.kColwise
    lp.a_matrix_.start_, lp.a_matrix_.index_, lp.a_matrix_.value_ = starts, index, value
    return lp


def _pass(solver: Highs, lp: Any) -> None:
    solver.model.passModel(lp)
    solver.complaints.clear()


def _begin_at(solver: Highs, start: Basis) -> None:
    basis = highspy.HighsBasis()
    basis.col_status = [_STATUSES[number] for number in start[0]]
    basis.row_status = [_STATUSES[number] for number in start[1]]
    basis.valid = True
    solver.model.setBasis(basis)


def _stands_at(solver: Highs) -> Basis | None:
    basis = solver.model.getBasis()
    if not basis.valid:
        return None
    columns, rows = (
        np.fromiter((int(each) for each in states), np.uint8, len(states))
        for states in (basis.col_status, basis.row_status)
    )
    return columns, rows


def _optimal(network: FlowNetwork, values: Floats) -> Flow:
    """The flow without the solver's rounding errors."""
    whole = np.rint(values)
    data = (network.supply, network.lower, network.capacity[np.isfinite(network.capacity)])
    if all(np.array_equal(each, np.rint(each)) for each in data):
        if np.abs(values - whole).max(initial=0) < _WHOLE:
            values = whole
    else:
        values = np.clip(values, network.lower, network.capacity)
        values[np.abs(values) < 1e-12 * max(1.0, float(np.abs(values).max(initial=0)))] = 0
    objective = math.fsum((network.cost * values).tolist()) + 0.0
    return Flow(outcome="optimal", values=values, objective=objective, bound=objective)


def _bound(network: FlowNetwork, potentials: Floats) -> float | None:
    """What no flow can cost less than, by any potentials; ``None`` where these say nothing."""
    reduced = network.cost - potentials[network.tail] + potentials[network.head]
    at = np.where(reduced < 0, network.capacity, network.lower)
    at[np.isinf(at) & (reduced > _NEGATIVE)] = 0
    if np.isinf(at).any():
        return None
    return float(potentials @ network.supply + reduced @ at)
