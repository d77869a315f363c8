"""What a page or a feed renders: one snapshot, immutable, in memory.

Times are aware, in UTC. What the public must not see (drafts) is never in it.
"""

from datetime import date, datetime

import msgspec

from control.status.states import IncidentStatus, Severity, Source, Status, WindowStatus


class DayEntry(msgspec.Struct, frozen=True, kw_only=True):
    """A day (UTC) of a component, in seconds. ``status`` is the worst of the day, unknown where
    nothing at all is known of it; a day that was unknown in part is as its known part was.

    ``covered_s`` is what of the day the component has been there for, unknown parts included.
    ``uptime`` is a percentage, floored; ``None`` where nothing counts.
    """

    date: date
    status: Status
    covered_s: float = 0.0
    degraded_s: float = 0.0
    partial_s: float = 0.0
    major_s: float = 0.0
    maintenance_s: float = 0.0
    unknown_s: float = 0.0
    uptime: float | None = None


class ComponentView(msgspec.Struct, frozen=True, kw_only=True):
    """A component. ``source`` says who determines its status; ``days`` are 90, oldest first."""

    id: str
    name: str
    description: str
    position: int
    status: Status
    status_since: datetime | None
    source: Source | None
    last_checked: datetime | None
    created_at: datetime
    updated_at: datetime
    checks: tuple[str, ...]
    days: tuple[DayEntry, ...]
    uptime_30: float | None
    uptime_60: float | None
    uptime_90: float | None


class Affected(msgspec.Struct, frozen=True):
    """A component of an incident, and what the incident means for it."""

    id: str
    name: str
    impact: Status


class Moved(msgspec.Struct, frozen=True):
    """A component of which an update changed what the incident means for it."""

    id: str
    name: str
    old: Status
    new: Status


class UpdateView(msgspec.Struct, frozen=True, kw_only=True):
    """What was said of an incident at one time; ``message`` is Markdown as it was written."""

    id: str
    status: IncidentStatus
    message: str
    at: datetime
    estimated_resolution: datetime | None = None
    next_update_at: datetime | None = None
    affected: tuple[Moved, ...] = ()


class IncidentView(msgspec.Struct, frozen=True, kw_only=True):
    """A published incident; its updates, oldest first. ``automatic``: checks opened it."""

    id: str
    title: str
    description: str
    severity: Severity
    status: IncidentStatus
    started_at: datetime
    created_at: datetime
    updated_at: datetime
    monitoring_at: datetime | None
    resolved_at: datetime | None
    estimated_resolution: datetime | None
    next_update_at: datetime | None
    root_cause: str | None
    resolution: str | None
    automatic: bool
    components: tuple[Affected, ...]
    updates: tuple[UpdateView, ...]
    draft: bool = False
    """Not published yet. No view has such a one; administrators see it elsewhere."""

    def overdue(self, now: datetime) -> bool:
        """Whether the next update was promised for a time that has passed."""
        promised = self.next_update_at
        return self.resolved_at is None and promised is not None and promised < now


class Named(msgspec.Struct, frozen=True):
    """A component, by id and name."""

    id: str
    name: str


class WindowView(msgspec.Struct, frozen=True, kw_only=True):
    """A maintenance window. Of a recurring one each occurrence is a window, made ahead: ``series``
    is what they share, ``rrule`` how they recur. ``sequence`` grows with each change of its times.

    ``missed``: it opened and closed while no instance lived; nothing was done.
    """

    id: str
    title: str
    description: str
    status: WindowStatus
    scheduled_start: datetime
    scheduled_end: datetime
    started_at: datetime | None
    ended_at: datetime | None
    raise_bridge: bool
    missed: bool
    series: str | None
    rrule: str | None
    sequence: int
    created_at: datetime
    updated_at: datetime
    components: tuple[Named, ...]


class Bridge(msgspec.Struct, frozen=True):
    """Maintenance mode, while it is on."""

    reason: str | None
    since: datetime | None
    until: datetime | None
    mode: str


class StatusView(msgspec.Struct, frozen=True, kw_only=True):
    """Everything that is told. ``as_of``: when this was last known to be so (it moves by itself);
    ``last_updated``: the newest change of what is told but for ``last_checked``.

    ``incidents``: all open ones and those of the last 366 days, newest first. ``windows``: those
    that are scheduled or in progress and those of the last 90 days, by their start.
    ``local``: PostgreSQL does not answer, and statuses are as this instance sees them itself.
    """

    as_of: datetime
    last_updated: datetime
    overall: Status
    components: tuple[ComponentView, ...]
    incidents: tuple[IncidentView, ...]
    windows: tuple[WindowView, ...]
    bridge: Bridge | None = None
    local: bool = False

    def component(self, id_: str) -> ComponentView | None:
        """The component of that id."""
        return next((each for each in self.components if each.id == id_), None)

    def incident(self, id_: str) -> IncidentView | None:
        """The incident of that id, if it is among these."""
        return next((each for each in self.incidents if each.id == id_), None)

    def window(self, id_: str) -> WindowView | None:
        """The window of that id, if it is among these."""
        return next((each for each in self.windows if each.id == id_), None)

    @property
    def open_incidents(self) -> tuple[IncidentView, ...]:
        """Those that are not resolved, newest first."""
        return tuple(each for each in self.incidents if each.resolved_at is None)

    def windows_of(self, *statuses: WindowStatus) -> tuple[WindowView, ...]:
        """The windows that stand so, by their start."""
        return tuple(each for each in self.windows if each.status in statuses)
