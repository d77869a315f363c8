"""Stand-in for the snapshot of the model, until that lands."""

from dataclasses import dataclass
from datetime import date, datetime
from enum import StrEnum


class Status(StrEnum):
    """How a component is."""

    OPERATIONAL = "operational"
    DEGRADED = "degraded"
    PARTIAL_OUTAGE = "partial_outage"
    MAJOR_OUTAGE = "major_outage"
    UNDER_MAINTENANCE = "under_maintenance"
    UNKNOWN = "unknown"


@dataclass(frozen=True)
class DayEntry:
    """One day of a component, in UTC."""

    date: date
    status: Status
    major_s: float = 0
    partial_s: float = 0
    degraded_s: float = 0
    maintenance_s: float = 0
    unknown_s: float = 0
    covered_s: float = 86_400
    uptime: float | None = 100.0


@dataclass(frozen=True)
class ComponentView:
    """One component."""

    id: str
    name: str
    description: str | None
    status: Status
    status_since: datetime | None
    last_checked: datetime | None
    created_at: datetime
    updated_at: datetime
    position: int
    days: tuple[DayEntry, ...]
    uptime_30: float | None
    uptime_60: float | None
    uptime_90: float | None


@dataclass(frozen=True)
class UpdateView:
    """One update of an incident."""

    id: str
    status: str
    message: str
    at: datetime
    estimated_resolution: datetime | None = None
    next_update_at: datetime | None = None
    affected: tuple[tuple[str, str, Status, Status], ...] = ()


@dataclass(frozen=True)
class IncidentView:
    """One incident."""

    id: str
    title: str
    description: str
    severity: str
    status: str
    started_at: datetime
    created_at: datetime
    updated_at: datetime
    monitoring_at: datetime | None
    resolved_at: datetime | None
    estimated_resolution: datetime | None
    next_update_at: datetime | None
    root_cause: str | None
    resolution: str | None
    components: tuple[tuple[str, str, Status], ...]
    updates: tuple[UpdateView, ...]


@dataclass(frozen=True)
class WindowView:
    """One maintenance window."""

    id: str
    title: str
    description: str
    status: str
    scheduled_start: datetime
    scheduled_end: datetime
    started_at: datetime | None
    ended_at: datetime | None
    created_at: datetime
    updated_at: datetime
    raise_bridge: bool
    components: tuple[tuple[str, str], ...]


@dataclass(frozen=True)
class StatusView:
    """All that the public may see."""

    as_of: datetime
    components: tuple[ComponentView, ...]
    incidents: tuple[IncidentView, ...]
    windows: tuple[WindowView, ...]
    last_updated: datetime | None
