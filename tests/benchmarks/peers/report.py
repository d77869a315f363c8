"""What was found, as Markdown for people and as JSON for machines."""

import json
import math
import statistics
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

from tests.benchmarks.peers import chart
from tests.benchmarks.peers.benchmark import Benchmark, Findings
from tests.benchmarks.peers.turn import PICKUPS

Row = dict[str, Any]
Results = dict[str, Any]
"""``about`` (date, machine), ``rounds``, ``quick``, and ``summary``: a row for each engine, with
all that is told of it. What a run measured has ``engines`` beside them: every turn's figures."""


def results(done: Benchmark, *, quick: bool) -> Results:
    """What a run found."""
    rows = [summary(found) for found in done.findings]
    rows.sort(key=lambda row: -(row["drained"] or 0))
    return {
        "about": done.about,
        "rounds": done.rounds,
        "quick": quick,
        "summary": rows,
        "engines": [_raw(found) for found in done.findings],
    }


def write(told: Results, folder: Path) -> str:
    """Write results.md, results.svg and results.json; the text of the Markdown."""
    text = markdown(told)
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "results.md").write_text(text)
    (folder / "results.svg").write_text(drawing(told))
    (folder / "results.json").write_text(json.dumps(told, indent=1) + "\n")
    return text


def drawing(told: Results) -> str:
    """The chart, as SVG."""
    return chart.svg(told["summary"], _caption(told))


def summary(found: Findings) -> Row:
    """One line of the table; ``None`` where nothing is known. Rates a second, times in ms."""
    commands = (found.pace or {}).get("commands")
    return {
        "title": found.subject.title,
        "own": found.subject.checkout is not None,
        "version": found.version,
        "tuning": found.subject.tuning,
        "turns": len(found.turns),
        "jobs": _median(found, lambda turn: turn["drained"]["count"]),
        "drained": _median(found, lambda turn: turn["drained"]["per_second"]),
        "one_by_one": _median(found, lambda turn: turn["one_by_one"]["per_second"]),
        "bulk": _median(found, lambda turn: turn["bulk"]["per_second"]),
        **_pickups(found),
        "commands": commands and commands["submit"] + commands["work"],
        "commands_bulk": commands and commands["submit_bulk"] + commands["work"],
        "scripted": commands and commands["scripted"],
        "idle": _median(found, lambda turn: turn["idle"]["sent_per_second"]),
        "idle_for_jobs": _median(found, lambda turn: turn["idle"]["sent_for_jobs_per_second"]),
        "cpu_us": commands and commands["cpu_us"],
        "memory_mb": _median(found, lambda turn: turn["memory_mb"]),
        **_checked(found),
        "failures": found.failures,
    }


def _pickups(found: Findings) -> Row:
    row = {}
    for pauses in PICKUPS:
        name = f"pickup_{pauses}"
        took_ms = [ms for turn in found.turns for ms in turn[name]["took_ms"]]
        row |= {f"{name}_p{each}": percentile(took_ms, each) for each in (50, 99)}
    return row


def percentile(values: Sequence[float], of_hundred: int) -> float | None:
    """The smallest value that at least so many percent do not exceed."""
    if not values:
        return None
    return sorted(values)[math.ceil(len(values) * of_hundred / 100) - 1]


def _median(found: Findings, figure: Callable[[Row], float | None]) -> float | None:
    values = [value for turn in found.turns if (value := figure(turn)) is not None]
    return statistics.median(values) if values else None


def _checked(found: Findings) -> Row:
    """How many results were looked at once all jobs of a turn had ended, and how many were not
    there."""
    turns = found.turns if found.pace in found.turns else [found.pace, *found.turns]
    checks = [turn["checked"] for turn in turns if turn]
    of, right = sum(check["of"] for check in checks), sum(check["right"] for check in checks)
    return {"checked": of, "missed": of - right}


def markdown(told: Results) -> str:
    """The tables and what they were measured on."""
    return "\n\n".join([table(told), *basis(told), settings(told), *remarks(told)]) + "\n"


def remarks(told: Results) -> list[str]:
    """What failed, and which results were not there."""
    parts = []
    if failed := [f"- {row['title']}: {s}" for row in told["summary"] for s in row["failures"]]:
        parts.append("Failed:\n\n" + "\n".join(failed))
    missed = [
        f"- {row['title']}: {row['missed']:,} of {row['checked']:,} looked at"
        for row in told["summary"]
        if row["missed"]
    ]
    if missed:
        parts.append("Results that were not there once all jobs had ended:\n\n" + "\n".join(missed))
    return parts


def table(told: Results) -> str:
    """The figures, an engine a line."""
    head = (
        "Engine", "Drained/s", "Enqueued/s one by one", "Enqueued/s in bulk",
        "Pickup in a row, p50 / p99 ms", "Pickup after a rest, p50 / p99 ms",
        "Redis commands a job", "Idle commands/s", "Worker CPU µs a job", "Worker MB",
    )  # fmt: skip
    return _table(head, map(_cells, told["summary"]))


def settings(told: Results) -> str:
    """What was measured, in which version, and how it was tuned."""
    rows = sorted(told["summary"], key=lambda row: row["title"].lower())
    return _table(
        ("Engine", "Version", "Settings (the default in brackets)"),
        [(row["title"], row["version"], row["tuning"]) for row in rows],
        right=0,
    )


def _cells(row: Row) -> tuple[str, ...]:
    title = f"**{row['title']}**" if row["own"] else row["title"]
    if not row["turns"]:
        return (title, "failed", *("—",) * 8)
    commands = _number(row["commands"], 2)
    if row["scripted"] and row["scripted"] >= 0.05:
        commands += f" (+ {_number(row['scripted'], 1)} in scripts)"
    pickups = (
        " / ".join(_number(row[f"pickup_{pauses}_p{each}"], 2) for each in (50, 99))
        for pauses in PICKUPS
    )
    idle = _number(row["idle"], 1)
    if row["own"]:
        idle += f" ({_number(row['idle_for_jobs'], 1)} for jobs)"
    return (
        title, _number(row["drained"]), _number(row["one_by_one"]), _number(row["bulk"]),
        *pickups, commands,
        idle, _number(row["cpu_us"]), _number(row["memory_mb"]),
    )  # fmt: skip


def _number(value: float | None, digits: int = 0) -> str:
    return "—" if value is None else f"{value:,.{digits}f}"


def _table(head: Sequence[str], body: Iterable[Sequence[str]], *, right: int = 1) -> str:
    """``right`` set: all columns but the first are of numbers."""
    rule = ["---", *(["---:" if right else "---"] * (len(head) - 1))]
    return "\n".join("| " + " | ".join(line) + " |" for line in (head, rule, *body))


def _caption(told: Results) -> str:
    about = told["about"]
    return (
        f"{about['date']} · {about['cores']} cores, {about['processor']} · {about['python']} · "
        f"{about['redis']} · {_medians(told)}"
    )


def _medians(told: Results) -> str:
    return f"medians of {told['rounds']} rounds" if told["rounds"] else "one turn each"


def basis(told: Results) -> list[str]:
    """When, on what and how it was measured: paragraphs."""
    about = told["about"]
    lines = [
        f"Measured {about['date']} on {about['cores']} cores ({about['processor']}, "
        f"{about['memory_gb']} GB), {about['kernel']} {about['machine']}, {about['python']}, "
        f"{about['redis']} over loopback TCP with an append-only file synced each second. "
        f"Load of the machine before and after: {about['load_before']} and "
        f"{about['load_after']}.",
        f"{_medians(told).capitalize()}, all engines in one run, in random order within a round; "
        "pickup over all samples; commands and processor time from a first turn. One worker "
        "process each. The job does nothing; its result and status are stored.",
        "Drained: as many jobs as the engine does in some seconds, from the first to the last "
        "stored result. Pickup: from the call that submits to the job's start, on an idle worker: "
        "1-3 ms after the start of the job before it (in a row), and 15-35 ms after it, when "
        "processors and caches have gone to other work (after a rest). "
        "Commands: to submit one job alone and to work it off a backlog, as clients send them. "
        "Idle: all that a worker sends that has nothing left to do; Drawbridge's are mostly "
        "presence and the control plane, whose beacon it is, the others have none.",
    ]
    if told["quick"]:
        lines.append("This was the quick run: one short turn each, to see that it works.")
    return lines


def _raw(found: Findings) -> Row:
    return {
        "name": found.subject.name,
        "title": found.subject.title,
        "version": found.version,
        "tuning": found.subject.tuning,
        "worker": found.subject.worker,
        "pace": found.pace,
        "turns": found.turns,
        "failures": found.failures,
    }
