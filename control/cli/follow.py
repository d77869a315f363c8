"""Following a job on the terminal: a live display while it runs, one line when it has ended."""

from collections.abc import Mapping
from contextlib import AbstractContextManager
from types import TracebackType
from typing import Any, Self

import click
from rich.console import Console
from rich.progress import BarColumn, Progress, SpinnerColumn, TextColumn, TimeElapsedColumn

from control.cli.api_client import Api

FAILED, TIMED_OUT, INTERRUPTED = 1, 3, 130
"""Exit statuses beside 0."""


async def to_the_end(api: Api, run_id: str, console: Console) -> dict[str, Any]:
    """Show a job's events on ``console`` until it has ended; its record then."""
    with Display(console) as display:
        async for event in api.events(run_id):
            if event.type == "progress":
                display.progress(event.data)
            elif event.type == "maintenance":
                display.status("waiting for the bridge to be lowered")
            else:
                display.status(str(event.data.get("status", "")))
    return await api.job(run_id, patience_s=60)


def exit_status(record: Mapping[str, Any]) -> int:
    """0 where the job completed, 3 where its timeout ended it, else 1."""
    if record["status"] == "completed":
        return 0
    error = record.get("error") or {}
    return TIMED_OUT if error.get("class") == "JobTimeout" else FAILED


def left(run_id: str) -> int:
    """Say that a job which is followed no more goes on; the exit status for that."""
    click.echo(
        f"The job goes on. Follow it: drawbridge jobs show {run_id} --follow\n"
        f"Cancel it: drawbridge jobs cancel {run_id}",
        err=True,
    )
    return INTERRUPTED


def ending(record: Mapping[str, Any], result: Mapping[str, Any] | None) -> str:
    """How it ended, in a line."""
    if result is None or record["status"] != "completed":
        error = record.get("error") or {}
        why = f": {error['message']}" if error.get("message") else ""
        return f"{record['status']}{why}"
    if "outcome" not in result:
        return str(record["status"])
    parts = [str(result["outcome"])]
    for name, label, form in (
        ("objective", "objective", ".10g"),
        ("bound", "bound", ".10g"),
        ("gap", "gap", ".2%"),
        ("solve_s", "solved in", ".2f"),
    ):
        value = result.get(name)
        if isinstance(value, int | float) and not (name == "bound" and not result.get("gap")):
            parts.append(f"{label} {value:{form}}{' s' if name == 'solve_s' else ''}")
    if blame := result.get("why"):
        parts.append(str(blame["message"]))
    if result.get("written_back"):
        parts.append("written back")
    elif not_written := result.get("not_written"):
        parts.append(f"not written back: {not_written}")
    return " · ".join(parts)


class Display(AbstractContextManager["Display"]):
    """A spinner, a bar and figures on a terminal; elsewhere a line for each change of state."""

    def __init__(self, console: Console) -> None:
        self._console = console
        self._status = ""
        self._bar = Progress(
            SpinnerColumn(),
            TextColumn("[bold]{task.description}"),
            BarColumn(bar_width=24),
            TextColumn("{task.fields[figures]}"),
            TimeElapsedColumn(),
            console=console,
            transient=True,
            disable=not console.is_terminal,
        )
        self._task = self._bar.add_task("submitted", total=None, figures="")

    def __enter__(self) -> Self:
        self._bar.start()
        return self

    def __exit__(
        self,
        _kind: type[BaseException] | None,
        _error: BaseException | None,
        _trace: TracebackType | None,
    ) -> None:
        self._bar.stop()

    def status(self, status: str) -> None:
        """The job's state changed."""
        if status and status != self._status:
            self._status = status
            self._bar.update(self._task, description=status)
            if not self._console.is_terminal:
                self._console.print(status)

    def progress(self, told: Mapping[str, Any]) -> None:
        """The job told of its progress."""
        phase = str(told.get("phase") or self._status)
        self._bar.update(self._task, description=phase, figures=figures(told))
        gap = told.get("gap")
        if isinstance(gap, int | float):  # else the bar only pulses
            self._bar.update(self._task, total=1.0, completed=1.0 - min(1.0, max(0.0, gap)))
        elif rows := told.get("of_nodes", 0) + told.get("of_edges", 0):
            done = told.get("nodes", 0) + told.get("edges", 0)
            self._bar.update(self._task, total=float(rows), completed=float(min(done, rows)))

    def share(self, phase: str, done: float, whole: float) -> None:
        """How much of something is done, before there is a job."""
        self._bar.update(self._task, description=phase, total=whole, completed=min(done, whole))


def figures(progress: Mapping[str, Any]) -> str:
    """What was done so far, incumbent, bound and gap, as far as they are known."""
    shown = []
    for name, form in (
        ("rows", ",d"),
        ("nodes", ",d"),
        ("edges", ",d"),
        ("iterations", ",d"),
        ("incumbent", ".8g"),
        ("bound", ".8g"),
        ("gap", ".2%"),
    ):
        value = progress.get(name)
        if not isinstance(value, int | float) or (name == "iterations" and progress.get("nodes")):
            continue
        number = int(value) if form == ",d" else value
        shown.append(f"{name} {number:{form}}")
    if waiting := progress.get("waiting_for"):
        shown.append(f"waiting for {waiting}")
    return "  ".join(shown)
