"""The figures in deploy/SCALE.md: between two marks, made anew from results that are committed."""

import json
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from control.config import Config
from tests.benchmarks.fleet import model
from tests.benchmarks.fleet.model import Habit, Size
from tests.benchmarks.peers.marks import Marks
from tests.benchmarks.peers.subjects import CHECKOUT

PAGE = CHECKOUT / "deploy" / "SCALE.md"
KEPT = CHECKOUT / "tests" / "benchmarks" / "results" / "fleet.json"
MARKS = Marks("make bench-fleet")

Results = dict[str, Any]
"""``idle``, ``changes`` and ``jobs``: each ``about`` (date, machine) and ``points``."""

_SHARES = ("p50", "p99")
_AHEAD = (
    Size(services=2, workers=2),
    Size(services=50, workers=50),
    Size(services=500, workers=500),
    Size(services=5_000, workers=5_000),
)


def write(told: Results, page: Path = PAGE, kept: Path = KEPT) -> None:
    """Show ``told`` in ``page``, and keep it in ``kept``. Raises :class:`NoSection`."""
    text = MARKS.replaced(page.read_text(), section(told))
    kept.parent.mkdir(parents=True, exist_ok=True)
    kept.write_text(json.dumps(told, indent=1, ensure_ascii=False) + "\n")
    page.write_text(text)


def section(told: Results) -> str:
    """All that is computed, and all that was measured."""
    parts = [
        "### What each instance sends to Redis while it idles",
        _habits(),
        "### What a fleet costs by the model",
        _ahead(told),
        *_part(told, "idle", "### Model and measurement: an idle fleet", _idle),
        *_part(told, "changes", "### A change, until everybody has it and has said so", _changes),
        *_part(told, "jobs", "### Jobs", _jobs),
    ]
    return "\n\n".join(parts)


def table(heads: Sequence[str], rows: Iterable[Sequence[object]], *, words: int = 1) -> str:
    """Markdown; the first ``words`` columns are text, the others numbers."""
    lines = [f"| {' | '.join(heads)} |", "|" + " --- |" * words + " ---: |" * (len(heads) - words)]
    lines += [f"| {' | '.join(map(_shown, row))} |" for row in rows]
    return "\n".join(lines)


def _part(told: Results, name: str, title: str, show: Any) -> list[str]:
    part = told.get(name)
    return [title, show(part["points"]), _about(part["about"])] if part else []


def _about(about: dict[str, Any]) -> str:
    return (
        f"Measured {about['date']} on {about['cores']} cores ({about['processor']},"
        f" {about['memory_gb']} GB), {about['kernel']} {about['machine']}, {about['python']};"
        f" load of the machine before: {about['load_before']:.2f}."
    )


def _habits() -> str:
    config = Config()
    groups = (
        ("each", (*model.replica(), *model.checks())),
        ("service", model.service()),
        ("worker", model.worker(config)),
        ("beacon (one)", model.in_office(config)),
    )
    rows = [(who, *_habit(habit)) for who, habits in groups for habit in habits]
    heads = ("Who", "What", "Command", "a second", "in its script", "bytes out", "bytes back")
    return table(heads, rows, words=3)


def _habit(habit: Habit) -> tuple[object, ...]:
    return (
        habit.what, habit.command.upper(), round(habit.per_s, 2), habit.inside, habit.sent,
        habit.answered,
    )  # fmt: skip


def _ahead(told: Results) -> str:
    cpu_us, change_ms = redis_us(told), redis_ms(told)
    rows = []
    for size in _AHEAD:
        load, held = model.idle(size), model.connections(size)
        busy = model.connections(size, busy=True)
        change = model.change(size.instances)
        rows.append(
            (
                f"{size.services:,} + {size.workers:,}",
                round(load.sent), round(load.inside), round(load.received_bytes / 1000),
                round(load.answered_bytes / 1000),
                f"{cpu_us * load.sent / 1e4:.0f} %" if cpu_us else None,
                held.redis, f"{held.postgres:,} – {busy.postgres:,}", held.graph,
                round(change.answered_bytes / 1e6, 2),
                change_ms and round(change_ms * size.instances, 1),
            )
        )  # fmt: skip
    heads = (
        "Services + workers", "Redis commands/s", "in scripts/s", "kB/s in", "kB/s out",
        "Redis core", "Redis connections", "PostgreSQL", "Bolt", "MB out a change",
        "Redis ms a change",
    )  # fmt: skip
    shown = table(heads, rows)
    if cpu_us is None or change_ms is None:
        return shown
    return (
        f"{shown}\n\nCommands, bytes and connections are the model's; PostgreSQL's while the pool"
        " rests and while all of it is used. Processor time is reckoned from the largest fleets"
        f" measured below: {cpu_us:.0f} µs of Redis for a command, {change_ms * 1000:.0f} µs for a"
        " change and replica."
    )


def redis_us(told: Results) -> float | None:
    """Microseconds of Redis's processor that one more command costs, its script included: the
    difference between the two largest idle fleets that were measured. In small ones a command
    costs more, because Redis wakes up for each."""
    points = sorted(told.get("idle", {}).get("points", ()), key=lambda p: p["measured"]["sent"])
    if len(points) < 2:
        return None
    few, many = points[-2:]
    more = many["measured"]["sent"] - few["measured"]["sent"]
    return float((many["redis_cpu_percent"] - few["redis_cpu_percent"]) * 1e4 / more)


def redis_ms(told: Results) -> float | None:
    """Milliseconds of Redis's processor that a change costs for each replica: of the largest
    fleet that was measured."""
    points = told.get("changes", {}).get("points", ())
    most = max(points, key=lambda p: p["replicas"], default=None)
    return most and float(most["redis_ms"] / most["replicas"])


def _idle(points: Sequence[dict[str, Any]]) -> str:
    rows = [
        (
            f"{p['services']} + {p['workers']} + {p['light']} light",
            *(
                f"{p['predicted'][name]:,.0f} / {p['measured'][name]:,.0f}"
                for name in ("sent", "inside", "received_bytes", "answered_bytes", "connections")
            ),
            p["database_connections"], f"{p['redis_cpu_percent']:.1f} %", p["redis_mb"],
            p["service_mb"], p["worker_mb"], f"{p['instance_cpu_percent']:.1f} %",
        )
        for p in points
    ]  # fmt: skip
    heads = (
        "Services + workers", "Commands/s", "in scripts/s", "bytes/s in", "bytes/s out",
        "Redis connections", "PostgreSQL connections", "Redis core", "Redis MB", "Service MB",
        "Worker MB", "Core of an instance",
    )  # fmt: skip
    return "Predicted / measured.\n\n" + table(heads, rows)


def _changes(points: Sequence[dict[str, Any]]) -> str:
    rows = [
        (
            f"{p['replicas']}",
            *(p[what][share] for what in ("applied_ms", "acknowledged_ms") for share in _SHARES),
            *(
                f"{p['predicted'][name]:,.0f} / {p['measured'][name]:,.0f}"
                for name in ("sent", "answered_kb")
            ),
            p["roll_reads"],
            p["redis_ms"],
            p["changes"],
        )
        for p in points
    ]
    heads = (
        "Replicas", "Last applied, p50 ms", "p99 ms", "All acknowledged, p50 ms", "p99 ms",
        "Redis commands", "kB from Redis", "Reads of the roll", "Redis ms", "Changes",
    )  # fmt: skip
    return (
        "From the request (`POST …/toggle?wait=applied` to a service) until the last replica has"
        " applied it, and until the answer. Commands and bytes for each change: predicted /"
        " measured.\n\n" + table(heads, rows)
    )


def _jobs(points: Sequence[dict[str, Any]]) -> str:
    rows = [
        (
            f"{p['workers']}", p["per_s"], p["commands"], p["inside"], p["bytes"], p["redis_us"],
            p["worker_us"], round(1e6 / p["redis_us"]),
        )
        for p in points
    ]  # fmt: skip
    heads = (
        "Workers", "Jobs/s", "Commands a job", "in scripts", "bytes", "Redis µs", "Workers' µs",
        "Jobs/s that would fill a core of Redis",
    )  # fmt: skip
    return "Commands and times without those of the submission.\n\n" + table(heads, rows)


def _shown(value: object) -> str:
    match value:
        case None:
            return "—"
        case float():
            return f"{value:,.2f}".rstrip("0").rstrip(".")
        case int():
            return f"{value:,}"
    return str(value)
