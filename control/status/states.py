"""The words of the status page, and which is worse than which."""

from collections.abc import Iterable
from enum import StrEnum
from types import MappingProxyType
from typing import Literal


class Status(StrEnum):
    """How a component is. ``UNKNOWN``: nobody has looked for too long; it is never shown green."""

    OPERATIONAL = "operational"
    DEGRADED = "degraded"
    PARTIAL_OUTAGE = "partial_outage"
    MAJOR_OUTAGE = "major_outage"
    UNDER_MAINTENANCE = "under_maintenance"
    UNKNOWN = "unknown"

    @property
    def rank(self) -> int:
        """A higher one is worse."""
        return _RANK[self]


_RANK = MappingProxyType({
    Status.OPERATIONAL: 0, Status.UNKNOWN: 1, Status.UNDER_MAINTENANCE: 2, Status.DEGRADED: 3,
    Status.PARTIAL_OUTAGE: 4, Status.MAJOR_OUTAGE: 5,
})  # fmt: skip

Impact = Literal["operational", "degraded", "partial_outage", "major_outage"]
"""What an incident, a failing check or an override may make of a component."""


class Source(StrEnum):
    """Who says how a component is."""

    CHECK = "check"
    INCIDENT = "incident"
    MAINTENANCE = "maintenance"
    OVERRIDE = "override"


class IncidentStatus(StrEnum):
    """Where an incident stands."""

    INVESTIGATING = "investigating"
    IDENTIFIED = "identified"
    MONITORING = "monitoring"
    RESOLVED = "resolved"


class Severity(StrEnum):
    """How bad an incident is."""

    MINOR = "minor"
    MAJOR = "major"
    CRITICAL = "critical"

    @property
    def impact(self) -> Status:
        """What it means for a component of which nothing else was said."""
        return _IMPACT[self]


_IMPACT = MappingProxyType({
    Severity.MINOR: Status.DEGRADED, Severity.MAJOR: Status.PARTIAL_OUTAGE,
    Severity.CRITICAL: Status.MAJOR_OUTAGE,
})  # fmt: skip


class WindowStatus(StrEnum):
    """Where a maintenance window stands."""

    SCHEDULED = "scheduled"
    IN_PROGRESS = "in_progress"
    COMPLETED = "completed"
    CANCELLED = "cancelled"


def worst(statuses: Iterable[Status], default: Status = Status.OPERATIONAL) -> Status:
    """The worst of ``statuses``; ``default`` where there are none."""
    return max(statuses, key=_RANK.__getitem__, default=default)
