"""The view, made of what was read, of the flag, and of what this instance sees itself."""

from collections import defaultdict
from collections.abc import Iterable, Mapping
from datetime import UTC, datetime, timedelta

import msgspec

from control.flags.document import Flag
from control.status import judging, timeline, uptime
from control.status.components import Definition
from control.status.judging import Judged
from control.status.reader import ChecksPart, ComponentRow, ToldPart
from control.status.states import Source, Status, WindowStatus, worst
from control.status.view import Bridge, ComponentView, StatusView

_LONG_AGO = datetime(1970, 1, 1, tzinfo=UTC)
Said = dict[Source, tuple[Status, datetime | None]]
"""What each source says of a component, and since when."""


class Known(msgspec.Struct, frozen=True, kw_only=True):
    """All that a view is made of. ``local``: what this instance holds of components itself, where
    PostgreSQL does not answer."""

    checks: ChecksPart
    told: ToldPart
    as_of: datetime
    raised: Flag | None
    local: Mapping[str, Judged] | None = None


def blank(definitions: Iterable[Definition], now: datetime) -> ChecksPart:
    """Components of which nothing is known yet."""
    rows = tuple(
        ComponentRow(definition=each, number=-place, judged=Judged(), causes=(), created_at=now)
        for place, each in enumerate(definitions, 1)
    )
    return ChecksPart(rows, {}, {})


def compose(known: Known, now: datetime) -> tuple[StatusView, datetime]:
    """The view at ``now``, and until when it is the view, if nothing else happens."""
    told, raised = known.told, known.raised
    said = _told(told, now)
    views = tuple(_component(row, known, said, now) for row in known.checks.components)
    changes = (
        *(view.updated_at for view in views),
        *(incident.updated_at for incident in told.incidents),
        *(window.updated_at for window in told.windows),
        *((raised.changed_at or _LONG_AGO,) if raised else ()),
    )
    view = StatusView(
        as_of=known.as_of,
        last_updated=max(changes, default=known.as_of),
        overall=worst((view.status for view in views), Status.UNKNOWN),
        components=views,
        incidents=told.incidents,
        windows=told.windows,
        bridge=Bridge(raised.reason, raised.changed_at, raised.until, raised.mode)
        if raised
        else None,
        local=known.local is not None,
    )
    return view, _good_until(known, now)


def _told(told: ToldPart, now: datetime) -> dict[str, Said]:
    """What open incidents and windows in progress say of components, by id."""
    said: dict[str, Said] = defaultdict(dict)
    for incident in told.incidents:
        if incident.resolved_at is not None:
            continue
        for each in incident.components:
            before = said[each.id].get(Source.INCIDENT)
            if before is None or each.impact.rank > before[0].rank:
                said[each.id][Source.INCIDENT] = each.impact, incident.started_at
    for window in told.windows:
        if window.status is WindowStatus.IN_PROGRESS:
            for component in window.components:
                _maintained(said[component.id], window.started_at or now)
    return said


def _maintained(said: Said, since: datetime | None) -> None:
    before = said.get(Source.MAINTENANCE)
    if before is None or (since and before[1] and since < before[1]):
        said[Source.MAINTENANCE] = Status.UNDER_MAINTENANCE, since


def _component(
    row: ComponentRow, known: Known, told: Mapping[str, Said], now: datetime
) -> ComponentView:
    declared = row.definition
    judged = _newest(row, known.local)
    said: Said = dict(told.get(declared.id, {}))
    if declared.follows_flag and known.raised is not None:
        _maintained(said, known.raised.changed_at)
    for segment in known.checks.said.get(row.number, ()):
        if segment.source is Source.OVERRIDE and (segment.end is None or segment.end > now):
            said[Source.OVERRIDE] = segment.status, segment.start
    if (checked := judged.status_at(now)) is not None:
        since = max(filter(None, (judged.since, row.released_at)), default=None)
        said[Source.CHECK] = checked, since
    status, source = timeline.effective({each: status for each, (status, _) in said.items()})
    since = said[source][1] if source else judged.checked_at
    days = known.checks.days.get(row.number, ())
    today = now.astimezone(UTC).date()
    return ComponentView(
        id=declared.id,
        name=declared.name,
        description=declared.description,
        position=declared.position,
        status=status,
        status_since=since,
        source=source,
        last_checked=judged.checked_at,
        created_at=row.created_at,
        updated_at=max(since or row.created_at, row.created_at),
        checks=tuple(map(str, declared.checks)),
        days=uptime.entries(days, today),
        uptime_30=uptime.over(days, today, 30),
        uptime_60=uptime.over(days, today, 60),
        uptime_90=uptime.over(days, today, 90),
    )


def _newest(row: ComponentRow, local: Mapping[str, Judged] | None) -> Judged:
    """What is held of it: what was stored, or what this instance has seen since."""
    seen = local.get(row.definition.id) if local else None
    if seen is None or seen.checked_at is None:
        return row.judged
    stored_at = row.judged.checked_at
    return seen if stored_at is None or seen.checked_at > stored_at else row.judged


def _good_until(known: Known, now: datetime) -> datetime:
    ends = [timeline.midnight(now.astimezone(UTC).date() + timeline.DAY)]
    for row in known.checks.components:
        checked_at = _newest(row, known.local).checked_at
        if checked_at is not None:
            ends.append(checked_at + timedelta(seconds=judging.GAP_S, microseconds=1))
    for segments in known.checks.said.values():
        ends.extend(segment.end for segment in segments if segment.end is not None)
    return min(end for end in ends if end > now)
