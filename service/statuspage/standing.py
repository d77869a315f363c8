"""How things stand as a whole: the words and the mark at the top of the page.

One rule: never green over a fire. The whole is at least as bad as the worst component, as the worst
incident that is open, as the raised bridge, and as what is not known.
"""

from dataclasses import dataclass, replace
from datetime import datetime
from enum import Enum

from control.flags.document import Flag
from service.statuspage.view import ComponentView, IncidentView, Status, StatusView, WindowView

_RANK = (
    Status.OPERATIONAL,
    Status.UNDER_MAINTENANCE,
    Status.UNKNOWN,
    Status.DEGRADED,
    Status.PARTIAL_OUTAGE,
    Status.MAJOR_OUTAGE,
)
OF_SEVERITY = {
    "minor": Status.DEGRADED,
    "major": Status.PARTIAL_OUTAGE,
    "critical": Status.MAJOR_OUTAGE,
}
"""What an open incident makes of the whole, at least."""


class Knowledge(Enum):
    """How much is known of the present."""

    FRESH = "the records were read a moment ago"
    OLD = "the records cannot be read now; what they last said is told, with its time"
    NONE = "they were never read since this process began"


@dataclass(frozen=True)
class Standing:
    """The present, as the page, the feeds and the badges tell it."""

    overall: Status
    knowledge: Knowledge
    as_of: datetime | None
    """When the records were last read; ``None``: never."""
    raised: Flag | None
    """The maintenance flag, while the bridge is up."""
    components: tuple[ComponentView, ...] = ()
    incidents: tuple[IncidentView, ...] = ()
    """All that are known, newest first."""
    windows: tuple[WindowView, ...] = ()

    @property
    def open_incidents(self) -> tuple[IncidentView, ...]:
        """Those that are not resolved, newest first."""
        return tuple(each for each in self.incidents if each.resolved_at is None)

    @property
    def running_windows(self) -> tuple[WindowView, ...]:
        """Maintenance that was planned and is under way."""
        return tuple(each for each in self.windows if each.status == "in_progress")

    @property
    def planned_windows(self) -> tuple[WindowView, ...]:
        """Maintenance to come, the next one first."""
        planned = (each for each in self.windows if each.status == "scheduled")
        return tuple(sorted(planned, key=lambda each: each.scheduled_start))


def worst(*statuses: Status) -> Status:
    """The one that customers should hear of first; operational where there is none."""
    return max(statuses, key=_RANK.index, default=Status.OPERATIONAL)


def stand(view: StatusView | None, *, fresh: bool, raised: Flag | None) -> Standing:
    """The present, from what was last read and from the flag as this instance holds it.

    ``fresh``: the records could be read a moment ago. Where not, no component counts as well.
    """
    if view is None:
        return Standing(_whole(Status.UNKNOWN, raised), Knowledge.NONE, None, raised)
    components = tuple(_shown(each, view, fresh=fresh, raised=raised) for each in view.components)
    fires = [OF_SEVERITY[each.severity] for each in view.incidents if each.resolved_at is None]
    running = [
        Status.UNDER_MAINTENANCE for each in view.windows if each.status == "in_progress"
    ]
    known = [] if fresh and components else [Status.UNKNOWN]
    overall = worst(*(each.status for each in components), *fires, *running, *known)
    return Standing(
        _whole(overall, raised),
        Knowledge.FRESH if fresh else Knowledge.OLD,
        view.as_of,
        raised,
        components,
        view.incidents,
        view.windows,
    )


def _whole(overall: Status, raised: Flag | None) -> Status:
    """The raised bridge is the news, but for an outage that an incident or a check tells of."""
    if raised is None or overall in (Status.PARTIAL_OUTAGE, Status.MAJOR_OUTAGE):
        return overall
    return Status.UNDER_MAINTENANCE


def _shown(
    component: ComponentView, view: StatusView, *, fresh: bool, raised: Flag | None
) -> ComponentView:
    """Maintenance outranks what checks say, not what incidents say; old news is no news."""
    impacts = [
        impact
        for incident in view.incidents
        if incident.resolved_at is None
        for affected, _, impact in incident.components
        if affected == component.id
    ]
    status = component.status
    if raised is not None:
        status = worst(Status.UNDER_MAINTENANCE, *impacts)
    elif not fresh:
        status = worst(Status.UNKNOWN, *impacts)
    return component if status is component.status else replace(component, status=status)
