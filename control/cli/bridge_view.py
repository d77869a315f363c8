"""What people see of the fleet: the bridge, each instance, and who has yet to follow."""

from collections.abc import Iterable, Sequence
from datetime import datetime
from time import monotonic
from types import TracebackType
from typing import Self

from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.spinner import Spinner
from rich.table import Table
from rich.text import Text

from control.cli import times
from control.flags.acknowledgement import Want
from control.flags.document import Document, Flag, Position
from control.flags.presence import ReplicaReport

_REFRESHES_PER_S = 8


def state(report: ReplicaReport, target: Position, want: Want | None) -> str:
    """How far an instance is on the way to ``target``, in a few words."""
    if report.position < target:
        return "has not applied it"
    if want != "quiesced":
        return "applied"
    if report.quiesced:
        return "at rest"
    return f"{report.phase}, {work(report)}"


def work(report: ReplicaReport) -> str:
    """What an instance still runs: ``2 jobs``."""
    noun = "job" if report.kind == "worker" else "request"
    return f"{report.running} {noun}{'' if report.running == 1 else 's'}"


def place(report: ReplicaReport) -> str:
    """Where people find an instance."""
    return f"{report.id} on {report.host} (process {report.pid})"


def stragglers(reports: Iterable[ReplicaReport], target: Position, want: Want | None) -> list[str]:
    """A line for each instance that is not there yet."""
    return [f"{report.kind} {place(report)}: {state(report, target, want)}" for report in reports]


def fleet(reports: Sequence[ReplicaReport]) -> Table:
    """All instances as a table."""
    table = _table("kind", "id", "host", "process", "flags", "phase", "running", "stale for")
    for report in _sorted(reports):
        table.add_row(
            report.kind,
            report.id,
            report.host,
            str(report.pid),
            str(report.position),
            f"{report.phase}, at rest" if report.quiesced else report.phase,
            work(report),
            f"{report.staleness_s:.1f} s ({report.source})",
        )
    return table


def flags_table(document: Document) -> Table:
    """Every flag as a table."""
    table = _table("flag", "is", "changed", "by", "reason", "until")
    for title, flag in sorted(document.flags.items()):
        table.add_row(
            title,
            "on" if flag.is_active else "off",
            times.stamp(flag.changed_at) if flag.changed_at else "",
            flag.changed_by or "",
            flag.reason or "",
            times.stamp(flag.until) if flag.until else "",
        )
    return table


def bridge(flag: Flag, now: datetime) -> str:
    """The bridge in words: whether it is up, who raised it, when, why and until when."""
    if not flag.is_active:
        lowered = f", lowered {_by(flag, now)}" if flag.changed_at else ""
        return f"The bridge is down{lowered}."
    rows = [
        ("raised", _by(flag, now)),
        ("why", flag.reason or "no reason was given"),
        ("until", times.when(flag.until, now) if flag.until else "nobody said"),
    ]
    if flag.mode == "read_only":
        rows.append(("mode", "read-only: GET and HEAD still pass"))
    return "\n".join(["The bridge is up.", *(f"  {title:6}  {text}" for title, text in rows)])


class Waiting:
    """Shows who has followed a change: a live table on a terminal, else a line for each step.

    A context manager. ``want`` is ``applied``, ``quiesced``, or ``None`` where nobody waits.
    """

    def __init__(self, console: Console, want: Want | None, *, quiet: bool = False) -> None:
        self._console = console
        self._want = want or "applied"
        self._quiet = quiet or want is None
        self._began = monotonic()
        self.target: Position | None = None
        """The position to be applied, once the change is made."""
        self._reports: list[ReplicaReport] = []
        self._said: dict[str, str] = {}
        shown = console.is_terminal and not self._quiet
        self._live = (
            Live(
                get_renderable=self.picture,
                console=console,
                transient=True,
                refresh_per_second=_REFRESHES_PER_S,
            )
            if shown
            else None
        )

    def __enter__(self) -> Self:
        if self._live is not None:
            self._live.start()
        return self

    def __exit__(
        self,
        _kind: type[BaseException] | None,
        _error: BaseException | None,
        _trace: TracebackType | None,
    ) -> None:
        if self._live is not None:
            self._live.stop()

    def committed(self, target: Position) -> None:
        """The change is made; from now on it counts who has applied ``target``."""
        self.target = target

    def tell(self, reports: list[ReplicaReport]) -> None:
        """The instances as they are now."""
        self._reports = _sorted(reports)
        if self._live is None and not self._quiet and self.target is not None:
            for report in self._reports:
                told = state(report, self.target, self._want)
                if self._said.get(report.id) != told:
                    self._said[report.id] = told
                    self._console.print(f"{report.kind} {place(report)}: {told}", soft_wrap=True)

    def picture(self) -> RenderableType:
        """The live view at this moment."""
        elapsed = f"{monotonic() - self._began:.1f} s"
        if self.target is None:
            return Spinner("dots", f"waiting for an instance to take the command, {elapsed}")
        there = 0
        table = _table("", "kind", "id", "host", "phase", "running")
        for report in self._reports:
            done = report.position >= self.target
            done = done and (self._want == "applied" or report.quiesced)
            there += done
            mark = Text("✓", "green") if done else Text("…", "yellow")
            doing = report.phase if report.position >= self.target else "has not applied it"
            table.add_row(mark, report.kind, report.id, report.host, doing, work(report))
        word = "have applied it" if self._want == "applied" else "are at rest"
        line = f"{there} of {len(self._reports)} instances {word}, {elapsed}"
        return Group(Spinner("dots", line), table)


def _sorted(reports: Iterable[ReplicaReport]) -> list[ReplicaReport]:
    return sorted(reports, key=lambda report: (report.kind, report.id))


def _table(*headings: str) -> Table:
    table = Table(box=None, pad_edge=False, header_style="bold")
    for heading in headings:
        table.add_column(heading, no_wrap=True)
    return table


def _by(flag: Flag, now: datetime) -> str:
    at = times.when(flag.changed_at, now) if flag.changed_at else "at an unknown time"
    return f"{at} by {flag.changed_by or 'somebody'}"
