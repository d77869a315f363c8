"""The public JSON of Atlassian's Statuspage, version 2, made of how things stand.

What that has no word for is told as the nearest that is no better: a component that nobody could
look at is `degraded_performance`, never `operational`.
"""

import hashlib
from collections.abc import Iterable
from datetime import datetime

from control.clock import iso
from control.status.states import Severity, Status, WindowStatus
from control.status.view import ComponentView, IncidentView, Moved, WindowView
from service.statuspage import told
from service.statuspage.pages import Site
from service.statuspage.standing import Standing
from service.statuspage.v2_bodies import (
    AffectedComponent,
    Component,
    Components,
    ComponentStatus,
    Impact,
    Incident,
    Incidents,
    Indicator,
    Maintenance,
    Maintenances,
    MaintenanceState,
    Page,
    StatusDocument,
    Summary,
    Update,
)

_NEWEST = 50
"""So many incidents, or maintenances, a list has at most."""

_OPEN = frozenset({WindowStatus.SCHEDULED, WindowStatus.IN_PROGRESS})
_STATUS: dict[Status, ComponentStatus] = {
    Status.OPERATIONAL: "operational",
    Status.DEGRADED: "degraded_performance",
    Status.PARTIAL_OUTAGE: "partial_outage",
    Status.MAJOR_OUTAGE: "major_outage",
    Status.UNDER_MAINTENANCE: "under_maintenance",
    Status.UNKNOWN: "degraded_performance",
}
_IMPACTS: dict[Severity, Impact] = {
    Severity.MINOR: "minor", Severity.MAJOR: "major", Severity.CRITICAL: "critical",
}  # fmt: skip
_STATES: dict[WindowStatus, MaintenanceState] = {
    WindowStatus.SCHEDULED: "scheduled",
    WindowStatus.IN_PROGRESS: "in_progress",
    WindowStatus.COMPLETED: "completed",
    WindowStatus.CANCELLED: "completed",
}
_WHOLE: dict[Status, tuple[Impact, str]] = {
    Status.OPERATIONAL: ("none", "All Systems Operational"),
    Status.DEGRADED: ("minor", "Partially Degraded Service"),
    Status.PARTIAL_OUTAGE: ("major", "Partial System Outage"),
    Status.MAJOR_OUTAGE: ("critical", "Major Service Outage"),
    Status.UNDER_MAINTENANCE: ("maintenance", "Service Under Maintenance"),
    Status.UNKNOWN: ("minor", "Partially Degraded Service"),
}


def summary(site: Site, standing: Standing, _now: datetime) -> Summary:
    """Everything that is open."""
    made = _Maker(site, standing)
    return Summary(
        made.page,
        list(made.components.values()),
        [made.incident(each) for each in standing.open_incidents],
        [made.maintenance(each) for each in standing.windows if each.status in _OPEN],
        _indicator(standing),
    )


def status(site: Site, standing: Standing, _now: datetime) -> StatusDocument:
    """The whole alone."""
    return StatusDocument(_Maker(site, standing).page, _indicator(standing))


def components(site: Site, standing: Standing, _now: datetime) -> Components:
    """Every component."""
    made = _Maker(site, standing)
    return Components(made.page, list(made.components.values()))


def incidents(site: Site, standing: Standing, _now: datetime) -> Incidents:
    """The newest incidents, open or not."""
    made = _Maker(site, standing)
    return Incidents(made.page, [made.incident(each) for each in standing.incidents[:_NEWEST]])


def unresolved(site: Site, standing: Standing, _now: datetime) -> Incidents:
    """The open ones."""
    made = _Maker(site, standing)
    return Incidents(made.page, [made.incident(each) for each in standing.open_incidents])


def maintenances(site: Site, standing: Standing, _now: datetime) -> Maintenances:
    """The newest windows, but for those that were cancelled."""
    kept = [each for each in standing.windows if each.status is not WindowStatus.CANCELLED]
    return _maintenances(site, standing, kept[: -_NEWEST - 1 : -1])


def upcoming(site: Site, standing: Standing, _now: datetime) -> Maintenances:
    """Those that have not begun."""
    return _maintenances(site, standing, standing.planned)


def active(site: Site, standing: Standing, _now: datetime) -> Maintenances:
    """Those that are under way."""
    return _maintenances(site, standing, standing.running)


def _maintenances(
    site: Site, standing: Standing, windows: list[WindowView] | tuple[WindowView, ...]
) -> Maintenances:
    made = _Maker(site, standing)
    return Maintenances(made.page, [made.maintenance(each) for each in windows])


def _indicator(standing: Standing) -> Indicator:
    indicator, description = _WHOLE[standing.overall]
    if standing.overall is Status.DEGRADED and all(
        each.status is not Status.DEGRADED for each in standing.components
    ):
        description = "Minor Service Outage"  # an incident that says so, no component
    return Indicator(indicator, description)


class _Maker:
    """Makes the parts, which refer to one another."""

    def __init__(self, site: Site, standing: Standing) -> None:
        self._url = site.url
        self._page_id = hashlib.sha256(site.title.encode()).hexdigest()[:12]
        self.page = Page(
            self._page_id, site.title, f"{site.url}/status", "Etc/UTC", iso(standing.last_updated)
        )
        self.components = {
            each.id: self._component(number, each)
            for number, each in enumerate(standing.components, start=1)
        }

    def _component(self, position: int, component: ComponentView) -> Component:
        return Component(
            id=component.id, name=component.name, status=_STATUS[component.status],
            created_at=iso(component.created_at), updated_at=iso(component.updated_at),
            position=position, description=component.description or None,
            start_date=component.created_at.date().isoformat(), page_id=self._page_id,
        )  # fmt: skip

    def incident(self, incident: IncidentView) -> Incident:
        """One incident."""
        updates = [self._update(incident.id, each) for each in told.of_incident(incident)]
        return Incident(
            id=incident.id, name=incident.title, status=incident.status.value,
            created_at=iso(incident.created_at), updated_at=iso(incident.updated_at),
            monitoring_at=_iso(incident.monitoring_at), resolved_at=_iso(incident.resolved_at),
            impact=_IMPACTS[incident.severity],
            shortlink=f"{self._url}/status/incidents/{incident.id}",
            started_at=iso(incident.started_at), page_id=self._page_id,
            incident_updates=updates[::-1],
            components=self._named(each.id for each in incident.components),
        )  # fmt: skip

    def maintenance(self, window: WindowView) -> Maintenance:
        """One window."""
        updates = [self._update(window.id, each) for each in told.of_window(window)]
        return Maintenance(
            id=window.id, name=window.title, status=_STATES[window.status],
            created_at=iso(window.created_at), updated_at=iso(window.updated_at),
            resolved_at=_iso(window.ended_at),
            shortlink=f"{self._url}/status/maintenance/{window.id}",
            started_at=iso(window.started_at or window.scheduled_start), page_id=self._page_id,
            incident_updates=updates[::-1],
            components=self._named(each.id for each in window.components),
            scheduled_for=iso(window.scheduled_start), scheduled_until=iso(window.scheduled_end),
        )  # fmt: skip

    def _update(self, subject: str, said: told.Said) -> Update:
        at = iso(said.at)
        return Update(
            id=str(said.id), status=said.status, body=said.text,  # type: ignore[arg-type]
            incident_id=subject, created_at=at, updated_at=at, display_at=at,
            affected_components=[_affected(each) for each in said.affected] or None,
        )  # fmt: skip

    def _named(self, ids: Iterable[str]) -> list[Component]:
        """Those of the components that are still there."""
        return [self.components[each] for each in ids if each in self.components]


def _affected(moved: Moved) -> AffectedComponent:
    return AffectedComponent(moved.id, moved.name, _STATUS[moved.old], _STATUS[moved.new])


def _iso(moment: datetime | None) -> str | None:
    return None if moment is None else iso(moment)
