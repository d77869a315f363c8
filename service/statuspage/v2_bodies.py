"""The shapes of Statuspage's public JSON, version 2: its fields, its closed enumerations."""

from typing import Literal

import msgspec

ComponentStatus = Literal[
    "operational", "degraded_performance", "partial_outage", "major_outage", "under_maintenance"
]
IncidentState = Literal["investigating", "identified", "monitoring", "resolved", "postmortem"]
MaintenanceState = Literal["scheduled", "in_progress", "verifying", "completed"]
Impact = Literal["none", "minor", "major", "critical", "maintenance"]


class Page(msgspec.Struct, frozen=True):
    """Whose status it is."""

    id: str
    name: str
    url: str
    time_zone: str
    updated_at: str


class Indicator(msgspec.Struct, frozen=True):
    """The whole."""

    indicator: Impact
    description: str


class Component(msgspec.Struct, frozen=True, kw_only=True):
    """One component."""

    id: str
    name: str
    status: ComponentStatus
    created_at: str
    updated_at: str
    position: int
    description: str | None
    showcase: bool = True
    start_date: str | None
    group_id: str | None = None
    page_id: str
    group: bool = False
    only_show_if_degraded: bool = False


class AffectedComponent(msgspec.Struct, frozen=True):
    """What an update changed of a component."""

    code: str
    name: str
    old_status: ComponentStatus
    new_status: ComponentStatus


class Update(msgspec.Struct, frozen=True, kw_only=True):
    """One update."""

    id: str
    status: IncidentState | MaintenanceState
    body: str
    incident_id: str
    created_at: str
    updated_at: str
    display_at: str
    affected_components: list[AffectedComponent] | None
    deliver_notifications: bool = True
    custom_tweet: str | None = None
    tweet_id: str | None = None


class Incident(msgspec.Struct, frozen=True, kw_only=True):
    """One incident; its updates, newest first."""

    id: str
    name: str
    status: IncidentState
    created_at: str
    updated_at: str
    monitoring_at: str | None
    resolved_at: str | None
    impact: Impact
    shortlink: str
    started_at: str
    page_id: str
    incident_updates: list[Update]
    components: list[Component]
    reminder_intervals: str | None = None


class Maintenance(msgspec.Struct, frozen=True, kw_only=True):
    """One maintenance window; its updates, newest first."""

    id: str
    name: str
    status: MaintenanceState
    created_at: str
    updated_at: str
    monitoring_at: str | None = None
    resolved_at: str | None
    impact: Impact = "maintenance"
    shortlink: str
    started_at: str
    page_id: str
    incident_updates: list[Update]
    components: list[Component]
    scheduled_for: str
    scheduled_until: str


class StatusDocument(msgspec.Struct, frozen=True):
    """``status.json``."""

    page: Page
    status: Indicator


class Components(msgspec.Struct, frozen=True):
    """``components.json``."""

    page: Page
    components: list[Component]


class Incidents(msgspec.Struct, frozen=True):
    """``incidents.json`` and ``incidents/unresolved.json``."""

    page: Page
    incidents: list[Incident]


class Maintenances(msgspec.Struct, frozen=True):
    """``scheduled-maintenances.json`` and its two parts."""

    page: Page
    scheduled_maintenances: list[Maintenance]


class Summary(msgspec.Struct, frozen=True):
    """``summary.json``: what is so now, and what is to come."""

    page: Page
    components: list[Component]
    incidents: list[Incident]
    scheduled_maintenances: list[Maintenance]
    status: Indicator
