"""Solves one problem with HiGHS; runs in the job's own process.

A model is read, solved, and asked about once, so a :class:`Solver` is used once. The solver calls
back several hundred times a second; that is where it hears of a cancellation.
"""

import os
import re
import tempfile
from pathlib import Path
from typing import Any

import highspy
import numpy as np

from control.clock import Clock
from control.errors import InvalidInput
from worker.cpu.context import Context
from worker.optimize.problem import LpProblem, MpsProblem, OptimizePayload, Options
from worker.optimize.solution import Outcome, Solution, finite, gap, named

Status = highspy.HighsModelStatus
Callback = highspy.cb.HighsCallbackType

_OUTCOMES: dict[Any, Outcome] = {
    Status.kOptimal: "optimal",
    Status.kInfeasible: "infeasible",
    Status.kUnbounded: "unbounded",
    Status.kTimeLimit: "time_limit",
    Status.kInterrupt: "interrupted",
}
_INTERRUPTS = {
    int(Callback.kCallbackSimplexInterrupt): "simplex",
    int(Callback.kCallbackIpmInterrupt): "ipm",
    int(Callback.kCallbackMipInterrupt): "mip",
}
_LOGGING = int(Callback.kCallbackLogging)
_EMPTY_LINES = re.compile(r"\n{2,}")
_PROGRESS_EVERY_S = 0.1
_LINES_KEPT = 10
_PLACE = re.compile(r"--> .*?:(\d+):(\d+)$")
_DRAWING = re.compile(r"(\d+ )?\||=|\^")
"""How HiGHS shows a place in a model: a file's name, a line of it, marks below it, advice."""

_FEASIBLE = highspy.kSolutionStatusFeasible


class SolverFailed(Exception):
    """The solver gave up without an answer."""


class Solver:
    """One solve of one problem."""

    def __init__(self, context: Context, payload: OptimizePayload, clock: Clock) -> None:
        self._context = context
        self._problem = payload.problem
        self._options = payload.options
        self._clock = clock
        self._started = clock.monotonic()
        self._told = 0.0
        self._complaints: list[str] = []
        self._highs: Any = highspy.Highs()  # type: ignore[no-untyped-call]

    def solve(self) -> Solution:
        """Read the model, solve it and say how that ended.

        Raises :class:`InvalidInput` for a model that the solver cannot read or is not made for,
        :class:`SolverFailed` where it gives up, and ``MemoryError``.
        """
        self._listen()
        self._tell("reading")
        self._read()
        self._configure(self._options)
        is_mip = len(self._highs.getLp().integrality_) > 0
        if is_mip and self._context.restored:
            self._restore(self._context.restored)
        self._tell("presolve")
        began = self._clock.monotonic()
        status = self._run()
        found = self._found(status, is_mip=is_mip)
        if status == Status.kUnboundedOrInfeasible:
            status = self._tell_apart()
        took = self._clock.monotonic() - began
        outcome = _OUTCOMES.get(status)
        if outcome is None:
            raise SolverFailed(f"the solver gave up: {self._highs.modelStatusToString(status)}")
        self._tell("finished", incumbent=found[0], bound=found[1])
        return self._answer(outcome, took, *found)

    def _listen(self) -> None:
        """Have HiGHS tell us what goes on, and nobody else."""
        highs = self._highs
        highs.setOptionValue("log_to_console", False)
        highs.setCallback(self._called, None)
        for kind in (*_INTERRUPTS, _LOGGING):
            highs.startCallbackInt(kind)

    def _called(self, kind: int, message: str, out: Any, into: Any, _data: Any) -> None:
        """Called by HiGHS, at times from a thread of its own. Must not raise."""
        if kind == _LOGGING:
            if out.log_type in (highspy.HighsLogType.kError, highspy.HighsLogType.kWarning):
                self._complaints.append(message)
                del self._complaints[:-_LINES_KEPT]
            return
        if self._context.cancelled:
            into.user_interrupt = True
        now = self._clock.monotonic()
        if now - self._told < _PROGRESS_EVERY_S:
            return
        phase = _INTERRUPTS.get(kind, "")
        if phase == "mip":
            self._tell(
                phase,
                nodes=out.mip_node_count,
                incumbent=finite(out.mip_primal_bound),
                bound=finite(out.mip_dual_bound),
            )
        else:
            simplex = phase == "simplex"
            count = out.simplex_iteration_count if simplex else out.ipm_iteration_count
            self._tell(phase, iterations=count)

    def _tell(
        self,
        phase: str,
        *,
        iterations: int | None = None,
        nodes: int | None = None,
        incumbent: float | None = None,
        bound: float | None = None,
    ) -> None:
        self._told = self._clock.monotonic()
        self._context.progress(
            phase=phase,
            iterations=iterations,
            nodes=nodes,
            incumbent=incumbent,
            bound=bound,
            gap=gap(incumbent, bound),
            elapsed_s=round(self._told - self._started, 3),
        )

    def _read(self) -> None:
        match self._problem:
            case MpsProblem(content=content):
                # At an empty line HiGHS's reader of names with spaces goes round for ever.
                name, content = "model.mps", _EMPTY_LINES.sub("\n", content.lstrip("\n"))
            case LpProblem(content=content):
                name = "model.lp"
            case _:
                raise InvalidInput("networks are not available yet", "problem.format")
        with tempfile.TemporaryDirectory(prefix="drawbridge-") as folder:
            path = Path(folder, name)
            path.write_bytes(content.encode())
            status = self._highs.readModel(str(path))
        complaints = _readable(self._complaints, str(path))
        if status == highspy.HighsStatus.kError:
            why = complaints or "its syntax is wrong"
        elif self._highs.getNumCol() == 0:
            why = "it finds no columns in it"
        else:
            if complaints:
                self._context.log.warning("the solver warns about the model", warnings=complaints)
            self._complaints.clear()
            return
        raise InvalidInput(f"the solver cannot read the model: {why}", "problem.content")

    def _configure(self, options: Options) -> None:
        values: dict[str, Any] = {
            "threads": min(options.threads, os.cpu_count() or 1),
            "time_limit": options.time_limit_s,
            "mip_rel_gap": options.mip_rel_gap,
            "random_seed": options.seed,
        }
        for name, value in values.items():
            if value is None:
                continue
            if self._highs.setOptionValue(name, value) != highspy.HighsStatus.kOk:
                raise InvalidInput(f"the solver does not take {name} {value!r}", "options")

    def _restore(self, values: dict[str, float]) -> None:
        """Begin with the incumbent of an earlier run."""
        names = self._names()
        if values.keys() != set(names):
            self._context.log.warning("the checkpoint belongs to another model")
            return
        incumbent = np.array([values[name] for name in names], dtype=np.float64)
        self._highs.setSolution(len(names), np.arange(len(names), dtype=np.int32), incumbent)

    def _run(self) -> Any:
        """Solve, and raise what is no outcome."""
        returned = self._highs.run()
        status = self._highs.getModelStatus()
        if status == Status.kMemoryLimit:
            raise MemoryError
        if returned == highspy.HighsStatus.kError and status not in _OUTCOMES:
            why = _readable(self._complaints) or self._highs.modelStatusToString(status)
            raise InvalidInput(f"the solver cannot solve the model: {why}", "problem.content")
        return status

    def _tell_apart(self) -> Any:
        """Whether a model that is unbounded or infeasible is the one or the other.

        Without an objective nothing is unbounded: if there is a solution then, the objective was.
        """
        columns = self._highs.getNumCol()
        everything = np.arange(columns, dtype=np.int32)
        self._highs.changeColsCost(columns, everything, np.zeros(columns))
        status = self._run()
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
            solver=f"HiGHS {self._highs.version()}",
            solve_s=round(took, 6),
        )

    def _names(self) -> list[str]:
        """The columns' names; made up where the model has not named each of them."""
        names: list[str] = self._highs.getLp().col_names_
        columns = self._highs.getNumCol()
        if len(set(names)) == columns and all(names):
            return names
        return [f"C{number}" for number in range(1, columns + 1)]


def _readable(complaints: list[str], path: str = "") -> str:
    """What HiGHS complained of, without its prefixes, its drawings and our file's name."""
    lines: list[str] = []
    for line in "\n".join(complaints).splitlines():
        text = " ".join(line.split())
        for prefix in ("ERROR:", "WARNING:"):
            text = text.removeprefix(prefix).strip()
        if place := _PLACE.match(text):
            if lines:
                lines[-1] += f" (line {place[1]}, column {place[2]})"
        elif text and not _DRAWING.match(text) and not (path and path in text):
            lines.append(text)
    return "; ".join(lines[:3])
