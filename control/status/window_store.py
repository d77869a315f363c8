"""Maintenance windows in PostgreSQL: made, changed, ended; recurring ones are made ahead."""

from datetime import datetime, timedelta

import msgspec

from control import ids, sql
from control.clock import Clock
from control.errors import InvalidInput
from control.status import lanes, reader, recurrence, texts, windows
from control.status.errors import Illegal, Unknown
from control.status.publishing import Event, Kind, Publication, Publisher
from control.status.states import WindowStatus
from control.status.view import WindowView
from control.status.windows import NewWindow, WindowChange
from control.stores.postgres import Connection

AHEAD = 10
"""So many windows of a series are made ahead."""

MOST_MADE = 1000
"""So many times of a series are looked at in one go."""

OLDEST = timedelta(days=90)
"""Windows that passed longer ago, while nobody was there, are not even entered."""


class Windows:
    """Makes windows and ends them early. What their times call for is done by
    :class:`control.status.edges.Edges`; let it settle after each of these.

    Every method raises :class:`StoreUnavailable`, :class:`control.errors.InvalidInput` naming the
    field that is wrong, :class:`Unknown`, and :class:`Illegal` where a window stands otherwise.
    """

    def __init__(self, publisher: Publisher, clock: Clock) -> None:
        self._publisher = publisher
        self._clock = clock

    async def create(self, new: NewWindow, by: str) -> WindowView:
        """Make one; of a recurring one the first is returned."""
        now = self._clock.now()
        new = windows.checked_new(new, now)
        rule = new.recurrence
        if rule is not None:
            rule = recurrence.checked(rule, new.start, new.timezone)
            new = msgspec.structs.replace(new, recurrence=rule)
        async with self._publisher.publication() as publication:
            if rule is None:
                id_ = await _insert(publication.connection, new, None, now, by)
            else:
                id_ = await _make_series(publication.connection, new, now, by)
            return await announced(publication, id_, "maintenance.scheduled", now)

    async def change(self, id_: str, change: WindowChange, by: str) -> WindowView:
        """Let a window that has not ended be different; ``by`` is who wants it so."""
        del by  # the event and the log of the request know
        now = self._clock.now()
        async with self._publisher.publication() as publication:
            before = await _locked(publication.connection, id_)
            _require(before, WindowStatus.SCHEDULED, WindowStatus.IN_PROGRESS)
            await _change(publication.connection, before, change, now)
            return await announced(publication, id_, "maintenance.changed", now)

    async def extend(self, id_: str, by: timedelta) -> WindowView:
        """Let a window end later."""
        now = self._clock.now()
        async with self._publisher.publication() as publication:
            before = await _locked(publication.connection, id_)
            _require(before, WindowStatus.SCHEDULED, WindowStatus.IN_PROGRESS)
            change = WindowChange(end=before.scheduled_end + by)
            await _change(publication.connection, before, change, now)
            return await announced(publication, id_, "maintenance.changed", now)

    async def finish(self, id_: str) -> WindowView:
        """End a window in progress now."""
        now = self._clock.now()
        async with self._publisher.publication() as publication:
            before = await _locked(publication.connection, id_)
            _require(before, WindowStatus.IN_PROGRESS)
            return await end(publication, id_, now)

    async def cancel(self, id_: str) -> WindowView:
        """Call off a window that has not begun."""
        now = self._clock.now()
        async with self._publisher.publication() as publication:
            before = await _locked(publication.connection, id_)
            _require(before, WindowStatus.SCHEDULED)
            return await _cancel(publication, id_, now)

    async def cancel_series(self, id_: str) -> list[WindowView]:
        """Call off all windows of a series that have not begun, and make no more."""
        now, queries = self._clock.now(), sql.queries("status_windows")
        async with self._publisher.publication() as publication:
            connection = publication.connection
            if await connection.execute(queries["end_series"], id_, now) != "UPDATE 1":
                raise Unknown("series", id_)
            rows = await connection.fetch(queries["series_windows"], id_)
            return [await _cancel(publication, row["id"], now) for row in rows]


async def start(publication: Publication, id_: str, now: datetime) -> WindowView:
    """A window begins."""
    await publication.connection.execute(sql.queries("status_windows")["start"], id_, now)
    await lanes.sync(publication.connection, now)
    return await announced(publication, id_, "maintenance.started", now)


async def end(publication: Publication, id_: str, now: datetime) -> WindowView:
    """A window in progress is over."""
    await publication.connection.execute(sql.queries("status_windows")["end"], id_, now)
    await lanes.sync(publication.connection, now)
    return await announced(publication, id_, "maintenance.completed", now)


async def miss(publication: Publication, id_: str, now: datetime) -> None:
    """A window has passed while nobody was there: that is entered, and nobody is told."""
    await publication.connection.execute(sql.queries("status_windows")["miss"], id_, now)


async def make_ahead(connection: Connection, now: datetime) -> int:
    """Make what each series lacks, those that passed meanwhile too; how many. In a transaction."""
    queries = sql.queries("status_windows")
    return sum([
        await _make(connection, series["id"], now)
        for series in await connection.fetch(queries["series"], None)
    ])  # fmt: skip


async def announced(publication: Publication, id_: str, kind: Kind, now: datetime) -> WindowView:
    """Tell of a window as it stands now."""
    found = await reader.window(publication.connection, id_)
    if found is None:
        raise Unknown("window", id_)
    await publication.announce(Event(kind=kind, at=now, subject=found))
    return found


async def _locked(connection: Connection, id_: str) -> WindowView:
    await connection.fetch(sql.queries("status_windows")["lock"], id_)
    found = await reader.window(connection, id_)
    if found is None:
        raise Unknown("window", id_)
    return found


def _require(window: WindowView, *statuses: WindowStatus) -> None:
    if window.status not in statuses:
        wanted = " or ".join(statuses).replace("_", " ")
        shown = window.status.replace("_", " ")
        raise Illegal(f"The window is {shown}; this needs one that is {wanted}.", window.status)


async def _change(
    connection: Connection, before: WindowView, change: WindowChange, now: datetime
) -> None:
    queries = sql.queries("status_windows")
    begins, ends = change.start or before.scheduled_start, change.end or before.scheduled_end
    if before.status is WindowStatus.IN_PROGRESS:
        if begins != before.scheduled_start:
            raise InvalidInput("has passed", "scheduled_start")
        if change.raise_bridge not in (None, before.raise_bridge):
            raise InvalidInput("is decided at the start", "raise_bridge")
    elif change.start is not None and begins < now - windows.BEGUN:
        raise InvalidInput("is past", "scheduled_start")
    windows.times(begins, ends, now)
    title = before.title if change.title is None else texts.title(change.title)
    description = before.description
    if change.description is not None:
        description = texts.text(change.description, "description", needed=False)
    raises = before.raise_bridge if change.raise_bridge is None else change.raise_bridge
    await connection.execute(
        queries["change"], before.id, title, description, begins, ends, raises, now
    )
    if change.components is not None:
        await connection.execute(queries["forget"], before.id)
        await connection.execute(queries["affect"], before.id, list(change.components))
        await lanes.sync(connection, now)


async def _cancel(publication: Publication, id_: str, now: datetime) -> WindowView:
    await publication.connection.execute(sql.queries("status_windows")["cancel"], id_, now)
    return await announced(publication, id_, "maintenance.cancelled", now)


async def _insert(
    connection: Connection, new: NewWindow, series: str | None, now: datetime, by: str
) -> str:
    """The id of a new window; ``""`` where the series has one at that time."""
    id_, queries = ids.new_id(), sql.queries("status_windows")
    done = await connection.execute(
        queries["insert"], id_, new.title, new.description, new.start, new.end, new.raise_bridge,
        series, now, by,
    )  # fmt: skip
    if done == "INSERT 0 0":
        return ""
    await connection.execute(queries["affect"], id_, list(new.components))
    return id_


async def _make_series(connection: Connection, new: NewWindow, now: datetime, by: str) -> str:
    """The id of the first window of a new series."""
    series, queries = ids.new_id(), sql.queries("status_windows")
    await connection.execute(
        queries["insert_series"], series, new.title, new.description, new.recurrence, new.timezone,
        new.start, int((new.end - new.start).total_seconds()), new.raise_bridge,
        list(new.components), now, by,
    )  # fmt: skip
    await _make(connection, series, now)
    rows = await connection.fetch(queries["series_windows"], series)
    first: str = rows[0]["id"]
    return first


async def _make(connection: Connection, id_: str, now: datetime) -> int:
    """Make the windows that a series lacks."""
    queries = sql.queries("status_windows")
    series = (await connection.fetch(queries["series"], id_))[0]
    lacking = AHEAD - int(await connection.fetchval(queries["ahead"], id_))
    if lacking <= 0:
        return 0
    length, made, count = timedelta(seconds=series["length_s"]), series["made_until"], 0
    for begins in recurrence.after(
        series["recurrence"], series["first_start"], series["timezone"], made, MOST_MADE
    ):
        if count >= lacking and begins + length > now:
            break
        made = begins
        if begins + length < now - OLDEST:
            continue
        new = NewWindow(
            title=series["title"],
            description=series["description"],
            start=begins,
            end=begins + length,
            components=series["components"],
            raise_bridge=series["raise_bridge"],
        )
        count += bool(await _insert(connection, new, id_, now, series["created_by"]))
    if made != series["made_until"]:
        await connection.execute(queries["made"], id_, made)
    return count
