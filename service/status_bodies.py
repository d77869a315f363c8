"""Bodies of the status page's API. The lists have exactly the members that clients know of old;
with ``detail=true``, and one by one, incidents and windows tell all."""

from collections.abc import Sequence
from datetime import datetime
from typing import Annotated, Literal

import msgspec
from msgspec import Meta

from control.status.states import Impact, IncidentStatus, Severity, Status, WindowStatus
from control.status.view import (
    Affected,
    ComponentView,
    DayEntry,
    IncidentView,
    StatusView,
    UpdateView,
    WindowView,
)
from service.inputs import Moment


class ComponentLine(msgspec.Struct, frozen=True):
    """A component, in a word."""

    id: str
    name: str
    status: Status
    last_checked: datetime | None


class UpdateBody(msgspec.Struct, frozen=True, kw_only=True):
    """What was said of an incident. ``overdue``: it promised a next word that has not come."""

    id: str
    status: IncidentStatus
    message: str
    created_at: datetime
    estimated_resolution: datetime | None
    next_update: datetime | None
    overdue: bool


class IncidentBody(msgspec.Struct, frozen=True, kw_only=True):
    """An incident; its updates, oldest first. ``affected_components`` are ids."""

    id: str
    title: str
    description: str
    status: IncidentStatus
    severity: Severity
    started_at: datetime
    resolved_at: datetime | None
    root_cause: str | None
    resolution: str | None
    affected_components: list[str]
    updates: list[UpdateBody]


class IncidentDetail(IncidentBody, frozen=True, kw_only=True):
    """The same, what it means for each component, and what is promised. ``automatic``: checks
    opened it; ``draft``: it is not published."""

    impacts: list[Affected]
    estimated_resolution: datetime | None
    next_update: datetime | None
    overdue: bool
    created_at: datetime
    updated_at: datetime
    automatic: bool
    draft: bool


class WindowBody(msgspec.Struct, frozen=True, kw_only=True):
    """A maintenance window. ``affected_components`` are ids."""

    id: str
    title: str
    description: str
    scheduled_start: datetime
    scheduled_end: datetime
    status: WindowStatus
    affected_components: list[str]


class WindowDetail(WindowBody, frozen=True, kw_only=True):
    """The same and all else. ``series`` is what the windows of one ``recurrence`` share;
    ``missed``: it passed while no instance lived, and nothing was done."""

    started_at: datetime | None
    ended_at: datetime | None
    raise_bridge: bool
    missed: bool
    series: str | None
    recurrence: str | None
    created_at: datetime
    updated_at: datetime


class StatusBody(msgspec.Struct, frozen=True, kw_only=True):
    """The whole. ``last_updated``: when this was last known to be so."""

    components: list[ComponentLine]
    overall_status: Status
    recent_incidents: list[IncidentBody]
    scheduled_maintenance: list[WindowBody]
    last_updated: datetime


class Uptime(msgspec.Struct, frozen=True, rename={
    "days_30": "30_days", "days_60": "60_days", "days_90": "90_days",
}):  # fmt: skip
    """Percent, floored; null where nothing is known of that time."""

    days_30: float | None
    days_60: float | None
    days_90: float | None


class ComponentDetail(ComponentLine, frozen=True, kw_only=True):
    """A component. ``source`` says who determines its status; ``checks`` what it is fed by."""

    description: str
    since: datetime | None
    source: Literal["check", "incident", "maintenance", "override"] | None
    checks: list[str]


class ComponentBody(msgspec.Struct, frozen=True):
    """A component, its uptime, and its last 90 days, oldest first."""

    component: ComponentDetail
    uptime: Uptime
    days: list[DayEntry]


class ComponentList(msgspec.Struct, frozen=True):
    """Every component."""

    components: list[ComponentDetail]


class IncidentList(msgspec.Struct, frozen=True):
    """The incidents of a period, newest first."""

    incidents: Sequence[IncidentBody]
    period_days: int


class Drafts(msgspec.Struct, frozen=True):
    """Incidents that nobody has published yet."""

    incidents: list[IncidentDetail]


class WindowList(msgspec.Struct, frozen=True):
    """The windows to come, those in progress, and those of the last 90 days, by their start."""

    maintenance_windows: Sequence[WindowBody]


class Looked(msgspec.Struct, frozen=True):
    """What a look has found, by the name of the component."""

    message: str
    results: dict[str, Status]


class IncidentsQuery(msgspec.Struct, frozen=True):
    """How far back, and how much of each. What links and caches add to it is ignored."""

    days: Annotated[int, Meta(ge=1, le=365)] = 90
    detail: bool = False


class WindowsQuery(msgspec.Struct, frozen=True):
    """How much of each. What links and caches add to it is ignored."""

    detail: bool = False


class AffectedInput(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A component, by id or name, and what the incident means for it."""

    id: str
    impact: Impact | None = None


class IncidentCreate(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A new incident. Components that are only named suffer what ``severity`` means: degraded,
    partial_outage, major_outage. Texts are Markdown."""

    title: str
    description: str = ""
    severity: Severity = Severity.MINOR
    affected_components: list[str | AffectedInput] = []
    status: IncidentStatus = IncidentStatus.INVESTIGATING
    message: str | None = None
    started_at: Moment | None = None
    estimated_resolution: Moment | None = None
    next_update: Moment | None = None


class IncidentUpdate(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One more word on an incident. What is left out stays as it is."""

    message: str
    status: IncidentStatus | None = None
    severity: Severity | None = None
    estimated_resolution: Moment | None = None
    next_update: Moment | None = None
    affected_components: list[str | AffectedInput] | None = None


class IncidentResolve(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Why it was, and what ended it."""

    root_cause: str | None = None
    resolution: str | None = None


class WindowCreate(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A new window. Without a start it begins now. ``raise_bridge``: maintenance mode goes on at
    its start and off at its end, by itself. ``recurrence`` is an RRULE, on the wall clock of
    ``timezone``."""

    title: str
    description: str = ""
    scheduled_start: Moment | None = None
    scheduled_end: Moment
    affected_components: list[str] = []
    raise_bridge: bool = False
    recurrence: str | None = None
    timezone: str = "UTC"


class WindowPatch(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What is to be different."""

    title: str | None = None
    description: str | None = None
    scheduled_start: Moment | None = None
    scheduled_end: Moment | None = None
    affected_components: list[str] | None = None
    raise_bridge: bool | None = None


class WindowExtend(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """How much longer it takes."""

    minutes: Annotated[float, Meta(gt=0, le=44_640)]


class ComponentCreate(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A new component, fed by health checks: ``redis``, ``external:stripe@partial_outage``."""

    name: str
    checks: list[str]
    id: str | None = None
    description: str = ""
    position: Annotated[int, Meta(ge=0, le=1_000_000)] = 1000


class ComponentPatch(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What is to be different."""

    name: str | None = None
    checks: list[str] | None = None
    description: str | None = None
    position: Annotated[int, Meta(ge=0, le=1_000_000)] | None = None


class Override(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """How a component is until then, whatever its checks say."""

    status: Impact
    until: Moment


def line(view: ComponentView) -> ComponentLine:
    """A component in a list."""
    return ComponentLine(view.id, view.name, view.status, view.last_checked)


def component(view: ComponentView) -> ComponentDetail:
    """A component in full."""
    return ComponentDetail(
        id=view.id,
        name=view.name,
        status=view.status,
        last_checked=view.last_checked,
        description=view.description,
        since=view.status_since,
        source=view.source.value if view.source else None,
        checks=list(view.checks),
    )


def component_body(view: ComponentView) -> ComponentBody:
    """A component, its uptime and its days."""
    uptime = Uptime(view.uptime_30, view.uptime_60, view.uptime_90)
    return ComponentBody(component(view), uptime, list(view.days))


def incident(view: IncidentView, now: datetime) -> IncidentBody:
    """An incident in a list."""
    return IncidentBody(**_incident(view, now))  # type: ignore[arg-type]


def incident_detail(view: IncidentView, now: datetime) -> IncidentDetail:
    """An incident in full."""
    return IncidentDetail(
        **_incident(view, now),  # type: ignore[arg-type]
        impacts=list(view.components),
        estimated_resolution=view.estimated_resolution,
        next_update=view.next_update_at,
        overdue=view.overdue(now),
        created_at=view.created_at,
        updated_at=view.updated_at,
        automatic=view.automatic,
        draft=view.draft,
    )


def _incident(view: IncidentView, now: datetime) -> dict[str, object]:
    last = view.updates[-1] if view.updates else None
    return {
        "id": view.id, "title": view.title, "description": view.description,
        "status": view.status, "severity": view.severity, "started_at": view.started_at,
        "resolved_at": view.resolved_at, "root_cause": view.root_cause,
        "resolution": view.resolution,
        "affected_components": [each.id for each in view.components],
        "updates": [
            _update(each, overdue=each is last and view.overdue(now)) for each in view.updates
        ],
    }  # fmt: skip


def _update(view: UpdateView, *, overdue: bool) -> UpdateBody:
    return UpdateBody(
        id=view.id,
        status=view.status,
        message=view.message,
        created_at=view.at,
        estimated_resolution=view.estimated_resolution,
        next_update=view.next_update_at,
        overdue=overdue,
    )


def window(view: WindowView) -> WindowBody:
    """A window in a list."""
    return WindowBody(**_window(view))  # type: ignore[arg-type]


def window_detail(view: WindowView) -> WindowDetail:
    """A window in full."""
    return WindowDetail(
        **_window(view),  # type: ignore[arg-type]
        started_at=view.started_at,
        ended_at=view.ended_at,
        raise_bridge=view.raise_bridge,
        missed=view.missed,
        series=view.series,
        recurrence=view.rrule,
        created_at=view.created_at,
        updated_at=view.updated_at,
    )


def _window(view: WindowView) -> dict[str, object]:
    return {
        "id": view.id, "title": view.title, "description": view.description,
        "scheduled_start": view.scheduled_start, "scheduled_end": view.scheduled_end,
        "status": view.status, "affected_components": [each.id for each in view.components],
    }  # fmt: skip


def whole(view: StatusView, now: datetime, *, recent: list[IncidentView]) -> StatusBody:
    """The whole; ``recent`` are the incidents that it shows."""
    ahead = view.windows_of(WindowStatus.SCHEDULED, WindowStatus.IN_PROGRESS)
    return StatusBody(
        components=[line(each) for each in view.components],
        overall_status=view.overall,
        recent_incidents=[incident(each, now) for each in recent],
        scheduled_maintenance=[window(each) for each in ahead],
        last_updated=view.as_of,
    )
