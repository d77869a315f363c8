"""What may be said of an incident, and when: pure rules."""

from collections.abc import Mapping
from datetime import datetime, timedelta
from types import MappingProxyType

import msgspec

from control.errors import InvalidInput
from control.status import texts
from control.status.errors import Illegal
from control.status.states import IncidentStatus, Severity, Status

I = IncidentStatus  # noqa: E741 - a table of them reads best so

LEGAL: Mapping[IncidentStatus, frozenset[IncidentStatus]] = MappingProxyType({
    I.INVESTIGATING: frozenset({I.INVESTIGATING, I.IDENTIFIED, I.MONITORING, I.RESOLVED}),
    I.IDENTIFIED: frozenset({I.INVESTIGATING, I.IDENTIFIED, I.MONITORING, I.RESOLVED}),
    I.MONITORING: frozenset({I.INVESTIGATING, I.IDENTIFIED, I.MONITORING, I.RESOLVED}),
    I.RESOLVED: frozenset(),
})  # fmt: skip
"""What may be said next. A cause may turn out wrong, a fix may not hold; what is resolved is over:
should it come back, it is another incident."""

BACKDATED = timedelta(days=90)
"""An incident may be entered so long after it began."""


class NewIncident(msgspec.Struct, frozen=True, kw_only=True):
    """An incident that is to be opened. ``impacts`` by component id; ``cause`` where checks found
    it, ``draft`` where administrators are to look at it first."""

    title: str
    description: str
    severity: Severity
    impacts: Mapping[str, Status]
    status: IncidentStatus = IncidentStatus.INVESTIGATING
    message: str | None = None
    started_at: datetime | None = None
    estimated_resolution: datetime | None = None
    next_update: datetime | None = None
    cause: str | None = None
    draft: bool = False


class Said(msgspec.Struct, frozen=True, kw_only=True):
    """One more word on an incident. What is ``None`` stays as it was; what is said of the next
    update holds until the next word."""

    message: str
    status: IncidentStatus | None = None
    severity: Severity | None = None
    estimated_resolution: datetime | None = None
    next_update: datetime | None = None
    impacts: Mapping[str, Status] | None = None
    root_cause: str | None = None
    resolution: str | None = None


def checked_new(new: NewIncident, now: datetime) -> NewIncident:
    """``new``, every field looked at. Raises :class:`InvalidInput` that names the field."""
    if new.status is IncidentStatus.RESOLVED:
        raise InvalidInput("cannot be resolved from the beginning", "status")
    started = new.started_at
    if started is not None and not now - BACKDATED <= started <= now:
        raise InvalidInput(f"must lie in the last {BACKDATED.days} days", "started_at")
    return msgspec.structs.replace(
        new,
        title=texts.title(new.title),
        description=texts.text(new.description, "description", needed=False),
        message=None if new.message is None else texts.text(new.message, "message"),
        estimated_resolution=texts.future(new.estimated_resolution, now, "estimated_resolution"),
        next_update=texts.future(new.next_update, now, "next_update"),
    )


def checked_said(said: Said, before: IncidentStatus, now: datetime) -> Said:
    """``said``, with the status that it leads to. Raises :class:`InvalidInput`, and
    :class:`Illegal` where nothing of the kind may follow."""
    status = said.status or before
    if status not in LEGAL[before]:
        raise Illegal(f"The incident is {before}: nothing more is said of it.", before)

    return msgspec.structs.replace(
        said,
        status=status,
        message=texts.text(said.message, "message"),
        estimated_resolution=texts.future(said.estimated_resolution, now, "estimated_resolution"),
        next_update=texts.future(said.next_update, now, "next_update"),
        root_cause=reason(said.root_cause, "root_cause"),
        resolution=reason(said.resolution, "resolution"),
    )


def reason(text: str | None, where: str) -> str | None:
    """Why it was, or what ended it, where that is known. Raises :class:`InvalidInput`."""
    return None if text is None else texts.text(text, where)


def severity_of(statuses: Mapping[str, Status]) -> Severity:
    """How bad an incident is that makes this of components."""
    found = max((status.rank for status in statuses.values()), default=0)
    for severity in (Severity.CRITICAL, Severity.MAJOR):
        if found >= severity.impact.rank:
            return severity
    return Severity.MINOR
