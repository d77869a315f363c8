"""How a component was over time, from what each source said: pure rules.

An override stands in place of checks and of maintenance. Maintenance outranks checks only: an
incident shows through it. Else the worse of check and incident counts. Where nobody said anything
it is unknown, never green.
"""

import itertools
from collections.abc import Iterable, Iterator, Mapping
from datetime import UTC, date, datetime, time, timedelta
from typing import NamedTuple

import msgspec

from control.status.states import Source, Status

DAY = timedelta(days=1)
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MS = timedelta(milliseconds=1)


class Segment(NamedTuple):
    """What one source said of a component from ``start`` to ``end``; ``None``: it still says so."""

    source: Source
    status: Status
    start: datetime
    end: datetime | None


class Piece(NamedTuple):
    """How a component was from ``start`` to ``end``; ``source`` is who determined that."""

    start: datetime
    end: datetime
    status: Status
    source: Source | None


class Totals(msgspec.Struct, frozen=True):
    """How long a component was what, in whole milliseconds."""

    operational_ms: int = 0
    degraded_ms: int = 0
    partial_ms: int = 0
    major_ms: int = 0
    maintenance_ms: int = 0
    unknown_ms: int = 0

    def __add__(self, other: "Totals") -> "Totals":
        return Totals(*(a + b for a, b in zip(self.parts, other.parts, strict=True)))

    @property
    def parts(self) -> tuple[int, ...]:
        """All of them, in the order of :data:`_PARTS`."""
        return tuple(getattr(self, name) for name in self.__struct_fields__)

    @property
    def covered_ms(self) -> int:
        """How long it has been there for."""
        return sum(self.parts)

    @property
    def worst(self) -> Status:
        """The worst that it was; unknown where nothing at all is known."""
        return max(
            (status for status, ms in zip(_PARTS, self.parts, strict=True)
             if ms and status is not Status.UNKNOWN),
            key=lambda status: status.rank, default=Status.UNKNOWN,
        )  # fmt: skip


_PARTS = (
    Status.OPERATIONAL, Status.DEGRADED, Status.PARTIAL_OUTAGE, Status.MAJOR_OUTAGE,
    Status.UNDER_MAINTENANCE, Status.UNKNOWN,
)  # fmt: skip


def effective(said: Mapping[Source, Status]) -> tuple[Status, Source | None]:
    """How a component is, and who determines it, when each source says that of it."""
    base: tuple[Status, Source | None] = (Status.UNKNOWN, None)
    for source in (Source.OVERRIDE, Source.MAINTENANCE, Source.CHECK):
        if source in said:
            base = said[source], source
            break
    incident = said.get(Source.INCIDENT, Status.OPERATIONAL)
    if incident is not Status.OPERATIONAL and (
        base[1] is Source.MAINTENANCE or incident.rank > base[0].rank
    ):
        return incident, Source.INCIDENT
    return base


def pieces(segments: Iterable[Segment], start: datetime, end: datetime) -> Iterator[Piece]:
    """How the component was in ``[start, end)``, without gaps; neighbours differ.

    Segments of one source must not overlap.
    """
    if end <= start:
        return
    edges: list[tuple[datetime, bool, Source, Status]] = []
    for segment in segments:
        begins, ends = max(segment.start, start), min(segment.end or end, end)
        if begins < ends:
            edges.append((begins, True, segment.source, segment.status))
            edges.append((ends, False, segment.source, segment.status))
    edges.sort(key=lambda edge: edge[:2])  # at one moment what ends comes first
    said: dict[Source, Status] = {}
    since, now = start, effective(said)
    for at, together in itertools.groupby(edges, key=lambda edge: edge[0]):
        if at == end:
            break
        for _, begins_, source, status in together:
            if begins_:
                said[source] = status
            else:
                del said[source]
        after = effective(said)
        if at > since and after != now:
            yield Piece(since, at, *now)
            since = at
        now = after
    yield Piece(since, end, *now)


def totals(parts: Iterable[Piece]) -> Totals:
    """How long it was what."""
    sums = dict.fromkeys(_PARTS, 0)
    for piece in parts:
        sums[piece.status] += _ms(piece.end) - _ms(piece.start)
    return Totals(*(sums[status] for status in _PARTS))


def days(
    segments: Iterable[Segment], start: datetime, end: datetime
) -> Iterator[tuple[date, Totals]]:
    """Each day (UTC) that ``[start, end)`` touches, and how the component was on it."""
    open_: Totals = Totals()
    day = start.astimezone(UTC).date()
    for piece in pieces(segments, start, end):
        at = piece.start
        while at < piece.end:
            ends = min(piece.end, midnight(day + DAY))
            open_ += totals([piece._replace(start=at, end=ends)])
            at = ends
            if ends == midnight(day + DAY):
                yield day, open_
                day, open_ = day + DAY, Totals()
    if open_.covered_ms:
        yield day, open_


def midnight(day: date) -> datetime:
    """When a day begins, in UTC."""
    return datetime.combine(day, time(), UTC)


def _ms(at: datetime) -> int:
    return (at - _EPOCH) // _MS
