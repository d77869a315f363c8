"""How things stand as a whole: what is at the top of the page, in the badges and in the feeds.

One rule: never green over a fire. The whole is at least as bad as the worst component, as the worst
incident that is open, as maintenance that is under way, and as what is not known.
"""

from dataclasses import dataclass
from datetime import datetime
from enum import Enum
from typing import Protocol

import msgspec

from control.status.states import Status, WindowStatus, worst
from control.status.view import Bridge, ComponentView, IncidentView, StatusView, WindowView


class Knowledge(Enum):
    """How much is known of the present."""

    FRESH = "the records were read a moment ago"
    LOCAL = "the records cannot be read; this instance looks at the components itself"
    OLD = "the records cannot be read; what they last said is told, with its time"
    NONE = "they were never read since this process began"


class Board(Protocol):
    """Where the newest view is."""

    @property
    def view(self) -> StatusView:
        """What is told now."""
        ...

    @property
    def known(self) -> bool:
        """Whether the records were ever read."""
        ...

    @property
    def stale(self) -> bool:
        """Whether they could not be read for a while."""
        ...


@dataclass(frozen=True)
class Standing:
    """The present. ``as_of``: when the records were last read. ``local``: how components are is
    what this instance sees itself."""

    overall: Status
    knowledge: Knowledge
    as_of: datetime
    last_updated: datetime
    bridge: Bridge | None
    local: bool
    components: tuple[ComponentView, ...]
    incidents: tuple[IncidentView, ...]
    windows: tuple[WindowView, ...]

    @property
    def open_incidents(self) -> tuple[IncidentView, ...]:
        """Those that are not resolved, newest first."""
        return tuple(each for each in self.incidents if each.resolved_at is None)

    @property
    def running(self) -> tuple[WindowView, ...]:
        """Maintenance that was planned and is under way."""
        return self._windows(WindowStatus.IN_PROGRESS)

    @property
    def planned(self) -> tuple[WindowView, ...]:
        """Maintenance to come, the next one first."""
        return self._windows(WindowStatus.SCHEDULED)

    def _windows(self, status: WindowStatus) -> tuple[WindowView, ...]:
        return tuple(each for each in self.windows if each.status is status)


def stand(board: Board) -> Standing:
    """The present as ``board`` knows it. Where it is out of touch no component counts as well."""
    view = board.view
    knowledge = Knowledge.FRESH
    if not board.known:
        knowledge = Knowledge.NONE
    elif view.local:
        knowledge = Knowledge.LOCAL
    elif board.stale:
        knowledge = Knowledge.OLD
    components = view.components
    if not view.local and knowledge is not Knowledge.FRESH:
        components = tuple(_doubted(each) for each in components)
    return Standing(
        _overall(view, components, knowledge),
        knowledge,
        view.as_of,
        view.last_updated,
        view.bridge,
        view.local,
        components,
        view.incidents,
        view.windows,
    )


def _overall(
    view: StatusView, components: tuple[ComponentView, ...], knowledge: Knowledge
) -> Status:
    found = [view.overall, *(each.status for each in components)]
    found += [each.severity.impact for each in view.open_incidents]
    if view.bridge is not None or view.windows_of(WindowStatus.IN_PROGRESS):
        found.append(Status.UNDER_MAINTENANCE)
    if knowledge is not Knowledge.FRESH or not components:
        found.append(Status.UNKNOWN)
    return worst(found)


def _doubted(component: ComponentView) -> ComponentView:
    """That it was well is old news; that it was not may well be so still."""
    if component.status is Status.OPERATIONAL:
        return msgspec.structs.replace(component, status=Status.UNKNOWN)
    return component
