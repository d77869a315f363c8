"""Views of the status page, made by hand: for tests of what is rendered from them."""

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from typing import Any

import msgspec

from control import ids
from control.status.states import IncidentStatus, Severity, Source, Status, WindowStatus, worst
from control.status.view import (
    Affected,
    ComponentView,
    DayEntry,
    IncidentView,
    Named,
    StatusView,
    UpdateView,
    WindowView,
)

NOW = datetime(2026, 11, 27, 20, 31, tzinfo=UTC)
NAMES = (
    "API", "Database", "File Storage", "Email Service", "Authentication", "Redis", "Graph",
    "Workers",
)  # fmt: skip


@dataclass
class FakeBoard:
    """A board that shows what it is given."""

    view: StatusView
    stale: bool = False
    known: bool = True


def day(on: date, status: Status = Status.OPERATIONAL, **seconds: float) -> DayEntry:
    """A day, by default a whole one without trouble."""
    return DayEntry(date=on, status=status, covered_s=86_400, **seconds)


def component(
    name: str, status: Status = Status.OPERATIONAL, troubled: Iterable[int] = (), **changes: Any
) -> ComponentView:
    """A component; ``troubled`` are days ago, each a bit worse than the last."""
    kinds = (
        (Status.DEGRADED, "degraded_s"), (Status.PARTIAL_OUTAGE, "partial_s"),
        (Status.MAJOR_OUTAGE, "major_s"), (Status.UNDER_MAINTENANCE, "maintenance_s"),
    )  # fmt: skip
    today, days = NOW.date(), []
    marked = {ago: kinds[index % len(kinds)] for index, ago in enumerate(troubled)}
    for ago in reversed(range(90)):
        on = today - timedelta(days=ago)
        if ago in marked:
            bad, field = marked[ago]
            days.append(day(on, bad, **{field: 60.0 * (7 + ago)}))
        else:
            days.append(day(on))
    terms: dict[str, Any] = {
        "id": name.lower().replace(" ", "-"), "name": name, "description": "", "status": status,
        "position": 1, "status_since": NOW - timedelta(hours=3), "source": Source.CHECK,
        "last_checked": NOW, "created_at": NOW - timedelta(days=200),
        "updated_at": NOW - timedelta(hours=3), "checks": (), "days": tuple(days),
        "uptime_30": 100.0, "uptime_60": 99.99, "uptime_90": 99.982,
    }  # fmt: skip
    return ComponentView(**(terms | changes))


def incident(title: str, severity: str = "major", **changes: Any) -> IncidentView:
    """An open incident of an hour ago that has three updates."""
    began = changes.pop("began", NOW - timedelta(hours=1))
    said = (
        (IncidentStatus.INVESTIGATING, "We are looking into **slow answers**."),
        (IncidentStatus.IDENTIFIED, "A disk is full. We are making room."),
        (IncidentStatus.MONITORING, "Answers are fast again; we keep watching."),
    )
    terms: dict[str, Any] = {
        "id": ids.new_id(), "title": title, "description": "Requests take longer than they should.",
        "severity": Severity(severity), "status": IncidentStatus.MONITORING, "started_at": began,
        "created_at": began, "updated_at": began + timedelta(minutes=40),
        "monitoring_at": began + timedelta(minutes=40), "resolved_at": None,
        "estimated_resolution": None, "next_update_at": None, "root_cause": None,
        "resolution": None, "automatic": False,
        "components": (Affected("api", "API", Status.DEGRADED),),
        "updates": tuple(
            UpdateView(id=ids.new_id(), status=status, message=text,
                       at=began + timedelta(minutes=20 * number))
            for number, (status, text) in enumerate(said)
        ),
    }  # fmt: skip
    return IncidentView(**(terms | changes))


def resolved(title: str, ago: timedelta, severity: str = "minor", **changes: Any) -> IncidentView:
    """An incident that ended ``ago``, three quarters of an hour after it began."""
    end = NOW - ago
    return incident(
        title, severity, began=end - timedelta(minutes=45), resolved_at=end,
        status=IncidentStatus.RESOLVED, resolution="We made room on the disk.",
        root_cause="A log was never rotated.", **changes,
    )  # fmt: skip


def window(title: str, status: str = "scheduled", **changes: Any) -> WindowView:
    """A window of two hours, tomorrow; one that runs began half an hour ago."""
    start = NOW - timedelta(minutes=30) if status == "in_progress" else NOW + timedelta(hours=24)
    terms: dict[str, Any] = {
        "id": ids.new_id(), "title": title, "description": "We move to larger disks.",
        "status": WindowStatus(status), "scheduled_start": start,
        "scheduled_end": start + timedelta(hours=2),
        "started_at": start if status == "in_progress" else None, "ended_at": None,
        "raise_bridge": True, "missed": False, "series": None, "rrule": None, "sequence": 0,
        "created_at": NOW - timedelta(days=2), "updated_at": NOW - timedelta(days=2),
        "components": (Named("database", "Database"),),
    }  # fmt: skip
    return WindowView(**(terms | changes))


def view(components: Iterable[ComponentView] | None = None, **changes: Any) -> StatusView:
    """Three components, all well, by default, and nothing else."""
    shown = tuple(component(n) for n in NAMES[:3]) if components is None else tuple(components)
    terms: dict[str, Any] = {
        "as_of": NOW, "last_updated": NOW - timedelta(hours=3),
        "overall": worst(each.status for each in shown), "components": shown, "incidents": (),
        "windows": (),
    }  # fmt: skip
    return StatusView(**(terms | changes))


changed = msgspec.structs.replace
