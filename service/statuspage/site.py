"""Everything that is published: from memory, or from PostgreSQL where it is older."""

import re
from collections.abc import Awaitable, Callable, Hashable, Iterable, Sequence
from datetime import date, datetime, timedelta
from http import HTTPStatus
from typing import Protocol, TypeVar

import msgspec

from control.clock import Clock
from control.errors import StoreUnavailable
from control.status.reader import INCIDENT_DAYS, MOST, WINDOW_DAYS, StatusReader
from control.status.view import IncidentView
from service.statuspage import badges, pages, press, templates
from service.statuspage.pages import Month, Site
from service.statuspage.press import Press, Printed
from service.statuspage.standing import Board, Knowledge, Standing

HTML = "text/html; charset=utf-8"
JSON = "application/json"

Write = Callable[[Site, Standing, datetime], str | bytes]
Shape = Callable[[Site, Standing, datetime], object]

T = TypeVar("T")
N = TypeVar("N", bound="_Named")

_ENCODE = msgspec.json.Encoder().encode
_POLICY, _FRAMED = templates.policy(), templates.policy("*")
_FIRST_YEAR = 2020
_ID = re.compile(r"[0-7][0-9A-HJKMNP-TV-Z]{25}")


class _Named(Protocol):
    """Anything that has an id."""

    @property
    def id(self) -> str:
        """What it is known by."""
        ...


class StatusSite:
    """``board`` has the newest view; ``reader`` what is older than that."""

    def __init__(self, title: str, board: Board, reader: StatusReader, clock: Clock) -> None:
        self._title = title
        self._board = board
        self._reader = reader
        self._clock = clock
        self._press = Press(board, clock)
        self._here = Site(title, "")

    def front(self) -> Printed:
        """The status page. There is always one."""
        return self._page(
            "front", lambda now, standing: pages.status_page(self._here, standing, now)
        )

    def widget(self) -> Printed:
        """The present in a box, for frames in pages of others."""
        return self._press.print(
            "widget",
            lambda standing, _now: press.printed(
                pages.widget_page(self._here, standing), HTML, policy=_FRAMED
            ),
        )

    async def incident(self, id_: str) -> Printed:
        """The page of an incident, however old."""
        if _of(self._press.standing.incidents, id_) is None:
            return await self._older(self._reader.incident, pages.incident_page, id_)
        return self._page(
            ("incident", id_),
            lambda now, standing: pages.incident_page(
                self._here, _sure(standing.incidents, id_), now
            ),
        )

    async def window(self, id_: str) -> Printed:
        """The page of a maintenance window, however old."""
        if _of(self._press.standing.windows, id_) is None:
            return await self._older(self._reader.window, pages.window_page, id_)
        return self._page(
            ("window", id_),
            lambda now, standing: pages.window_page(self._here, _sure(standing.windows, id_), now),
        )

    async def month(self, first: date | None) -> Printed:
        """The history of the month that begins at ``first``; ``None``: of this one."""
        today = self._clock.now().date()
        first = first or today.replace(day=1)
        if not date(_FIRST_YEAR, 1, 1) <= first <= today:
            return self.missing()
        horizon = today - timedelta(days=INCIDENT_DAYS - 1)
        standing = self._press.standing
        if first >= horizon and len(standing.incidents) < MOST:
            return self._page(
                ("month", first),
                lambda now, standing: pages.history_page(
                    self._here, self._month(first, standing, standing.incidents), now
                ),
            )
        try:
            incidents = await self._reader.incidents_of(first.year, first.month)
        except StoreUnavailable:
            return self._once(pages.unreadable_page(self._here), HTTPStatus.SERVICE_UNAVAILABLE)
        told = self._month(first, standing, incidents)
        return self._once(pages.history_page(self._here, told, self._clock.now()))

    def feed(self, write: Write, media: str, url: str) -> Printed:
        """What ``write`` makes of the present, with addresses below ``url``.

        Raises :class:`StoreUnavailable` while nothing is known: an empty feed would be a lie.
        """
        site = Site(self._title, url)
        self._require_known()
        return self._press.print(
            (write, url),
            lambda standing, now: press.printed(write(site, standing, now), media),
        )

    def json(self, shape: Shape, url: str) -> Printed:
        """The same as JSON."""
        site = Site(self._title, url)
        self._require_known()
        return self._press.print(
            (shape, url),
            lambda standing, now: press.printed(_ENCODE(shape(site, standing, now)), JSON),
        )

    def badge(self, component: str | None = None) -> Printed | None:
        """A badge of the whole, or of one component; ``None`` where there is none such."""
        standing = self._press.standing
        if component is None:
            label, status = self._title, standing.overall
        else:
            found = _of(standing.components, component)
            if found is None:
                return None
            label, status = found.name, found.status
        return self._press.print(
            ("badge", component),
            lambda _standing, _now: press.printed(badges.badge(label, status), badges.SVG),
        )

    def missing(self) -> Printed:
        """The page that says that there is none."""
        return self._once(pages.missing_page(self._here), HTTPStatus.NOT_FOUND)

    def _page(self, key: Hashable, write: Callable[[datetime, Standing], str]) -> Printed:
        return self._press.print(
            key, lambda standing, now: press.printed(write(now, standing), HTML, policy=_POLICY)
        )

    def _once(self, text: str, status: HTTPStatus = HTTPStatus.OK) -> Printed:
        return press.printed(text, HTML, policy=_POLICY, status=status)

    async def _older(
        self,
        read: Callable[[str], Awaitable[T | None]],
        write: Callable[[Site, T, datetime], str],
        id_: str,
    ) -> Printed:
        """The page of what is older than the view, or too new for it."""
        try:
            found = await read(id_) if _ID.fullmatch(id_) else None
        except StoreUnavailable:
            return self._once(pages.unreadable_page(self._here), HTTPStatus.SERVICE_UNAVAILABLE)
        if found is None:
            return self.missing()
        return self._once(write(self._here, found, self._clock.now()))

    def _month(self, first: date, standing: Standing, incidents: Sequence[IncidentView]) -> Month:
        """What of these, and of the windows that are known, began in the month."""

        def within(moment: datetime) -> bool:
            return (moment.year, moment.month) == (first.year, first.month)

        windows = None
        if first >= self._clock.now().date() - timedelta(days=WINDOW_DAYS):
            windows = [each for each in standing.windows if within(each.scheduled_start)]
        return Month(
            first,
            [each for each in incidents if within(each.started_at)],
            windows,
            stale=standing.knowledge is not Knowledge.FRESH,
        )

    def _require_known(self) -> None:
        if self._press.standing.knowledge is Knowledge.NONE:
            raise StoreUnavailable("database", "nothing is known of the status yet")


def _of(named: Iterable[N], id_: str) -> N | None:
    return next((each for each in named if each.id == id_), None)


def _sure(named: Iterable[N], id_: str) -> N:
    return next(each for each in named if each.id == id_)
