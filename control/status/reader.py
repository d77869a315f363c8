"""Reads from PostgreSQL what the view is made of, and single incidents and windows."""

from collections import defaultdict
from collections.abc import Mapping, Sequence
from datetime import UTC, date, datetime, timedelta

import asyncpg
import msgspec

from control import sql
from control.status.components import CheckRef, Definition
from control.status.judging import Judged
from control.status.states import IncidentStatus, Severity, Source, Status, WindowStatus
from control.status.timeline import Segment, Totals
from control.status.view import Affected, IncidentView, Moved, Named, UpdateView, WindowView
from control.stores.postgres import Connection, Database

INCIDENT_DAYS, WINDOW_DAYS = 366, 90
MOST = 500
"""So many incidents, and so many windows, are held at most: the newest."""

_MOVED = msgspec.json.Decoder(tuple[Moved, ...])


class Revision(msgspec.Struct, frozen=True):
    """Where the truth stands. Either number grows with each change of its part."""

    checks: int
    told: int
    checked_at: datetime | None


class ComponentRow(msgspec.Struct, frozen=True, kw_only=True):
    """A component as it is stored. ``released_at``: when something that outranked its checks ended
    last."""

    definition: Definition
    number: int
    judged: Judged
    causes: tuple[str, ...]
    created_at: datetime
    released_at: datetime | None = None


class ChecksPart(msgspec.Struct, frozen=True):
    """Components, what is said of each beside its checks, and their days, by number."""

    components: tuple[ComponentRow, ...]
    said: Mapping[int, tuple[Segment, ...]]
    days: Mapping[int, tuple[tuple[date, Totals], ...]]


class ToldPart(msgspec.Struct, frozen=True):
    """Incidents, newest first, and windows, by their start."""

    incidents: tuple[IncidentView, ...]
    windows: tuple[WindowView, ...]


class StatusReader:
    """Reads in the pool's connections. Every method raises :class:`StoreUnavailable`."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def revision(self) -> Revision:
        """Where the truth stands."""
        async with self._database.acquire() as connection:
            return await revision(connection)

    async def checks(self, now: datetime) -> ChecksPart:
        """Components and how they were."""
        queries = sql.queries("status_read")
        async with self._database.acquire() as connection:
            rows = await components(connection, now)
            said: dict[int, list[Segment]] = defaultdict(list)
            for row in await connection.fetch(queries["said"], now):
                said[row["component"]].append(segment(row))
            days: dict[int, list[tuple[date, Totals]]] = defaultdict(list)
            for component, day, *parts in await connection.fetch(
                queries["days"], now.astimezone(UTC).date()
            ):
                days[component].append((day, Totals(*parts)))
        return ChecksPart(
            rows,
            {number: tuple(each) for number, each in said.items()},
            {number: tuple(each) for number, each in days.items()},
        )

    async def told(self, now: datetime) -> ToldPart:
        """What was published."""
        queries = sql.queries("status_read")
        async with self._database.acquire() as connection:
            since = now - timedelta(days=INCIDENT_DAYS)
            rows = await connection.fetch(queries["incidents"], since, MOST)
            incidents = await _incidents(connection, rows)
            since = now - timedelta(days=WINDOW_DAYS)
            rows = await connection.fetch(queries["windows"], since, MOST)
            return ToldPart(incidents, await windows_of(connection, rows))

    async def incident(self, id_: str, *, draft: bool = False) -> IncidentView | None:
        """One incident, however old; with ``draft``, also one that is not published yet."""
        async with self._database.acquire() as connection:
            return await incident(connection, id_, draft=draft)

    async def incidents_of(self, year: int, month: int) -> tuple[IncidentView, ...]:
        """The incidents that started in a month (UTC), newest first."""
        start = datetime(year, month, 1, tzinfo=UTC)
        end = (start + timedelta(days=31)).replace(day=1)
        query = sql.queries("status_read")["incidents_between"]
        async with self._database.acquire() as connection:
            return await _incidents(connection, await connection.fetch(query, start, end))

    async def drafts(self) -> tuple[IncidentView, ...]:
        """Incidents that nobody has published yet, newest first: not for the public."""
        query = sql.queries("status_read")["drafts"]
        async with self._database.acquire() as connection:
            return await _incidents(connection, await connection.fetch(query, MOST))

    async def window(self, id_: str) -> WindowView | None:
        """One window, however old."""
        async with self._database.acquire() as connection:
            return await window(connection, id_)


async def revision(connection: Connection) -> Revision:
    """Where the truth stands."""
    row = await connection.fetchrow(sql.queries("status_read")["revision"])
    return Revision(*row) if row is not None else Revision(0, 0, None)


async def components(connection: Connection, now: datetime) -> tuple[ComponentRow, ...]:
    """The components that are not retired, in their order."""
    rows = await connection.fetch(sql.queries("status_read")["components"], now)
    return tuple(_component(row) for row in rows)


async def incident(connection: Connection, id_: str, *, draft: bool = False) -> IncidentView | None:
    """One incident, as this connection sees it."""
    rows = await connection.fetch(sql.queries("status_read")["incident"], id_, draft)
    return next(iter(await _incidents(connection, rows)), None)


async def window(connection: Connection, id_: str) -> WindowView | None:
    """One window, as this connection sees it."""
    rows = await connection.fetch(sql.queries("status_read")["window"], id_)
    return next(iter(await windows_of(connection, rows)), None)


async def windows_of(
    connection: Connection, rows: Sequence[asyncpg.Record]
) -> tuple[WindowView, ...]:
    """The windows of rows that have ``recurrence``."""
    ids = [row["id"] for row in rows]
    named: dict[str, list[Named]] = defaultdict(list)
    if ids:
        query = sql.queries("status_read")["window_components"]
        for win, id_, name in await connection.fetch(query, ids):
            named[win].append(Named(id_, name))
    return tuple(_window(row, tuple(named[row["id"]])) for row in rows)


def segment(row: asyncpg.Record) -> Segment:
    """A segment of a row that has its bounds as ``start`` and ``end``."""
    return Segment(Source(row["source"]), Status(row["status"]), row["start"], row["end"])


async def _incidents(
    connection: Connection, rows: Sequence[asyncpg.Record]
) -> tuple[IncidentView, ...]:
    ids, queries = [row["id"] for row in rows], sql.queries("status_read")
    said: dict[str, list[UpdateView]] = defaultdict(list)
    affected: dict[str, list[Affected]] = defaultdict(list)
    if ids:
        for row in await connection.fetch(queries["updates"], ids):
            said[row["incident"]].append(_update(row))
        for incident_, id_, name, impact in await connection.fetch(queries["affected"], ids):
            affected[incident_].append(Affected(id_, name, Status(impact)))
    return tuple(_incident(row, said[row["id"]], affected[row["id"]]) for row in rows)


def _component(row: asyncpg.Record) -> ComponentRow:
    return ComponentRow(
        definition=Definition(
            id=row["id"],
            name=row["name"],
            description=row["description"],
            position=row["position"],
            checks=tuple(CheckRef.parse(each) for each in row["checks"]),
            follows_flag=row["follows_flag"],
        ),
        number=row["number"],
        judged=Judged(
            Status(row["status"]) if row["status"] else None,
            row["since"],
            row["checked_at"],
            Status(row["pending"]) if row["pending"] else None,
            row["pending_since"],
            row["pending_count"],
        ),
        causes=tuple(row["causes"]),
        created_at=row["created_at"],
        released_at=row["released_at"],
    )


def _update(row: asyncpg.Record) -> UpdateView:
    return UpdateView(
        id=row["id"],
        status=IncidentStatus(row["status"]),
        message=row["message"],
        at=row["at"],
        estimated_resolution=row["estimated_resolution"],
        next_update_at=row["next_update"],
        affected=_MOVED.decode(row["affected"]),
    )


def _incident(
    row: asyncpg.Record, updates: Sequence[UpdateView], affected: Sequence[Affected]
) -> IncidentView:
    return IncidentView(
        id=row["id"],
        title=row["title"],
        description=row["description"],
        severity=Severity(row["severity"]),
        status=IncidentStatus(row["status"]),
        started_at=row["started_at"],
        created_at=row["created_at"],
        updated_at=row["updated_at"],
        monitoring_at=_monitoring_at(updates),
        resolved_at=row["resolved_at"],
        estimated_resolution=row["estimated_resolution"],
        next_update_at=row["next_update"],
        root_cause=row["root_cause"],
        resolution=row["resolution"],
        automatic=row["cause"] is not None,
        components=tuple(affected),
        updates=tuple(updates),
        draft=row["draft"],
    )


def _monitoring_at(updates: Sequence[UpdateView]) -> datetime | None:
    """When it was first said that a fix is watched, since it was last said that there is none."""
    found: datetime | None = None
    for update in updates:
        if update.status is IncidentStatus.MONITORING:
            found = found or update.at
        elif update.status is not IncidentStatus.RESOLVED:
            found = None
    return found


def _window(row: asyncpg.Record, components: tuple[Named, ...]) -> WindowView:
    return WindowView(
        id=row["id"],
        title=row["title"],
        description=row["description"],
        status=WindowStatus(row["status"]),
        scheduled_start=row["scheduled_start"],
        scheduled_end=row["scheduled_end"],
        started_at=row["started_at"],
        ended_at=row["ended_at"],
        raise_bridge=row["raise_bridge"],
        missed=row["missed"],
        series=row["series"],
        rrule=row["recurrence"],
        sequence=row["sequence"],
        created_at=row["created_at"],
        updated_at=row["updated_at"],
        components=components,
    )
