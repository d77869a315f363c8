"""One run of HiGHS: what it is set to, what it tells of its progress, and how it is stopped.

The solver calls back several hundred times a second; that is where it hears of a cancellation.
"""

import os
import re
from typing import Any

import highspy

from control.clock import Clock
from control.errors import InvalidInput
from worker.cpu.context import Context
from worker.optimize.problem import Options
from worker.optimize.solution import Outcome, finite, gap

Status = highspy.HighsModelStatus
Callback = highspy.cb.HighsCallbackType

OUTCOMES: dict[Any, Outcome] = {
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
_PROGRESS_EVERY_S = 0.1
_LINES_KEPT = 10
_PLACE = re.compile(r"--> .*?:(\d+):(\d+)$")
_DRAWING = re.compile(r"(\d+ )?\||=|\^")
"""How HiGHS shows a place in a model: a file's name, a line of it, marks below it, advice."""


class SolverFailed(Exception):
    """The solver gave up without an answer."""


class Teller:
    """Tells of one job's progress, in the fields that every way of solving has."""

    def __init__(self, context: Context, clock: Clock) -> None:
        self._context = context
        self._clock = clock
        self._started = clock.monotonic()
        self._told = float("-inf")

    @property
    def elapsed_s(self) -> float:
        """Seconds since the job's function began."""
        return self._clock.monotonic() - self._started

    @property
    def due(self) -> bool:
        """Whether it is time to tell of progress again."""
        return self._clock.monotonic() - self._told >= _PROGRESS_EVERY_S

    def tell(
        self,
        phase: str,
        *,
        iterations: int | None = None,
        nodes: int | None = None,
        incumbent: float | None = None,
        bound: float | None = None,
        **more: object,
    ) -> None:
        """Tell that ``phase`` is under way; ``more`` are fields of its own."""
        self._told = self._clock.monotonic()
        self._context.progress(
            phase=phase,
            iterations=iterations,
            nodes=nodes,
            incumbent=incumbent,
            bound=bound,
            gap=gap(incumbent, bound),
            elapsed_s=round(self.elapsed_s, 3),
            **more,
        )


class Highs:
    """A HiGHS that listens to the job's cancellation. ``model`` is the solver itself."""

    def __init__(self, context: Context, teller: Teller) -> None:
        self._context = context
        self._teller = teller
        self.complaints: list[str] = []
        """The newest errors and warnings, as the solver wrote them."""
        # Its threads belong to the process, and stay as many as the first run in it had.
        highspy.Highs.resetGlobalScheduler(True)
        self.model: Any = highspy.Highs()  # type: ignore[no-untyped-call]
        self.model.setOptionValue("log_to_console", False)
        self.model.setCallback(self._called, None)
        for kind in (*_INTERRUPTS, _LOGGING):
            self.model.startCallbackInt(kind)

    @property
    def version(self) -> str:
        """As results name the solver."""
        return f"HiGHS {self.model.version()}"

    def configure(self, options: Options, **more: object) -> None:
        """Set what the caller asked for, and ``more`` of the solver's own options.

        Raises :class:`InvalidInput` for what the solver does not take.
        """
        values: dict[str, Any] = {
            "threads": min(options.threads, os.cpu_count() or 1),
            "time_limit": options.time_limit_s,
            "mip_rel_gap": options.mip_rel_gap,
            "random_seed": options.seed,
            **more,
        }
        for name, value in values.items():
            if value is None:
                continue
            if self.model.setOptionValue(name, value) != highspy.HighsStatus.kOk:
                raise InvalidInput(f"the solver does not take {name} {value!r}", "options")

    def run(self, blame: str = "problem.content") -> Any:
        """Solve; the status. Raises what is no outcome: :class:`InvalidInput` about the field
        ``blame``, and ``MemoryError``."""
        returned = self.model.run()
        status = self.model.getModelStatus()
        if status == Status.kMemoryLimit:
            raise MemoryError
        if returned == highspy.HighsStatus.kError and status not in OUTCOMES:
            why = readable(self.complaints) or self.model.modelStatusToString(status)
            raise InvalidInput(f"the solver cannot solve the model: {why}", blame)
        return status

    def outcome(self, status: Any) -> Outcome:
        """What ``status`` means. Raises :class:`SolverFailed` where it is no answer."""
        outcome = OUTCOMES.get(status)
        if outcome is None:
            raise SolverFailed(f"the solver gave up: {self.model.modelStatusToString(status)}")
        return outcome

    def _called(self, kind: Any, message: str, out: Any, into: Any, _data: Any) -> None:
        """Called by HiGHS, at times from a thread of its own. Must not raise."""
        if kind == _LOGGING:
            if out.log_type in (highspy.HighsLogType.kError, highspy.HighsLogType.kWarning):
                self.complaints.append(message)
                del self.complaints[:-_LINES_KEPT]
            return
        if self._context.cancelled:
            into.user_interrupt = True
        if not self._teller.due:
            return
        phase = _INTERRUPTS.get(kind, "")
        if phase == "mip":
            self._teller.tell(
                phase,
                nodes=out.mip_node_count,
                incumbent=finite(out.mip_primal_bound),
                bound=finite(out.mip_dual_bound),
            )
        else:
            simplex = phase == "simplex"
            count = out.simplex_iteration_count if simplex else out.ipm_iteration_count
            self._teller.tell(phase, iterations=count)


def readable(complaints: list[str], path: str = "") -> str:
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
