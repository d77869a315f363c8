"""Solves one model with HiGHS; runs in the job's own process.

A model is read, solved, and asked about once, so a :class:`Solver` is used once.
"""

import re
import tempfile
from pathlib import Path
from typing import Any

import highspy
import numpy as np

from control.clock import Clock
from control.errors import InvalidInput
from worker.cpu.context import Context
from worker.optimize.highs import Highs, Status, Teller, readable
from worker.optimize.problem import LpProblem, MpsProblem, Options
from worker.optimize.solution import Outcome, Solution, finite, gap, named
from worker.optimize.text import unmarked

_EMPTY_LINES = re.compile(r"\n{2,}")
_FEASIBLE = highspy.kSolutionStatusFeasible


class Solver:
    """One solve of one problem."""

    def __init__(
        self, context: Context, problem: MpsProblem | LpProblem, options: Options, clock: Clock
    ) -> None:
        self._context = context
        self._problem = problem
        self._options = options
        self._clock = clock
        self._teller = Teller(context, clock)
        self._solver = Highs(context, self._teller)
        self._highs: Any = self._solver.model

    def solve(self) -> Solution:
        """Read the model, solve it and say how that ended.

        Raises :class:`InvalidInput` for a model that the solver cannot read or is not made for,
        :class:`SolverFailed` where it gives up, and ``MemoryError``.
        """
        self._teller.tell("reading")
        self._read()
        self._solver.configure(self._options)
        is_mip = len(self._highs.getLp().integrality_) > 0
        if is_mip and self._context.restored:
            self._restore(self._context.restored)
        self._teller.tell("presolve")
        began = self._clock.monotonic()
        status = self._solver.run()
        found = self._found(status, is_mip=is_mip)
        if status == Status.kUnboundedOrInfeasible:
            status = self._tell_apart()
        took = self._clock.monotonic() - began
        outcome = self._solver.outcome(status)
        self._teller.tell("finished", incumbent=found[0], bound=found[1])
        return self._answer(outcome, took, *found)

    def _read(self) -> None:
        content = unmarked(self._problem.content)
        match self._problem:
            case MpsProblem():
                # At an empty line HiGHS's reader of names with spaces goes round for ever.
                name, content = "model.mps", _EMPTY_LINES.sub("\n", content.lstrip("\n"))
            case LpProblem():
                name = "model.lp"
        with tempfile.TemporaryDirectory(prefix="drawbridge-") as folder:
            path = Path(folder, name)
            path.write_bytes(content.encode())
            status = self._highs.readModel(str(path))
        complaints = readable(self._solver.complaints, str(path))
        if status == highspy.HighsStatus.kError:
            why = complaints or "its syntax is wrong"
        elif self._highs.getNumCol() == 0:
            why = "it finds no columns in it"
        else:
            if complaints:
                self._context.log.warning("the solver warns about the model", warnings=complaints)
            self._solver.complaints.clear()
            return
        raise InvalidInput(f"the solver cannot read the model: {why}", "problem.content")

    def _restore(self, values: dict[str, float]) -> None:
        """Begin with the incumbent of an earlier run."""
        names = self._names()
        if values.keys() != set(names):
            self._context.log.warning("the checkpoint belongs to another model")
            return
        incumbent = np.array([values[name] for name in names], dtype=np.float64)
        self._highs.setSolution(len(names), np.arange(len(names), dtype=np.int32), incumbent)

    def _tell_apart(self) -> Any:
        """Whether a model that is unbounded or infeasible is the one or the other.

        Without an objective nothing is unbounded: if there is a solution then, the objective was.
        """
        columns = self._highs.getNumCol()
        everything = np.arange(columns, dtype=np.int32)
        self._highs.changeColsCost(columns, everything, np.zeros(columns))
        status = self._solver.run()
        return Status.kUnbounded if status == Status.kOptimal else status

    def _found(
        self, status: Any, *, is_mip: bool
    ) -> tuple[float | None, float | None, dict[str, float]]:
        """``(objective, bound, solution)`` of the last run."""
        info = self._highs.getInfo()
        objective: float | None = None
        solution: dict[str, float] = {}
        has_answer = status in (Status.kOptimal, Status.kTimeLimit, Status.kInterrupt)
        if has_answer and info.primal_solution_status == _FEASIBLE:
            objective = finite(info.objective_function_value)
            solution = named(self._names(), self._highs.getSolution().col_value)
        bound: float | None = None
        if is_mip and has_answer:
            bound = finite(info.mip_dual_bound)
        elif status == Status.kOptimal:
            bound = objective
        return objective, bound, solution

    def _answer(
        self,
        outcome: Outcome,
        took: float,
        objective: float | None,
        bound: float | None,
        solution: dict[str, float],
    ) -> Solution:
        if outcome != "interrupted":
            self._context.disregard_cancel()
        elif solution and self._context.cancel_reason == "drain":
            self._context.checkpoint(solution)
        return Solution(
            outcome=outcome,
            objective=objective,
            bound=bound,
            gap=gap(objective, bound),
            solution=solution,
            solver=self._solver.version,
            solve_s=round(took, 6),
        )

    def _names(self) -> list[str]:
        """The columns' names; made up where the model has not named each of them."""
        names: list[str] = self._highs.getLp().col_names_
        columns = self._highs.getNumCol()
        if len(set(names)) == columns and all(names):
            return names
        return [f"C{number}" for number in range(1, columns + 1)]
