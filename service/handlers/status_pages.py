"""What the public sees of the status: pages, feeds, the calendar, badges, JSON for other clients.

Nothing here waits for a store, but for incidents that are older than a year.
"""

import re
from datetime import date

from aiohttp import web
from aiohttp.typedefs import Handler

from service.appkeys import STATUS_SITE, STATUS_URL
from service.problems import NOT_FOUND, Problem
from service.statuspage import calendars, feeds, v2
from service.statuspage.site import Shape, Write

_MONTH = re.compile(r"(20\d\d)-(0[1-9]|1[0-2])")
_HOST = re.compile(r"[A-Za-z0-9._-]{1,253}(:\d{1,5})?|\[[0-9a-fA-F:.]{2,45}\](:\d{1,5})?")


async def front(request: web.Request) -> web.Response:
    """The status page."""
    return request.app[STATUS_SITE].front().to(request)


async def widget(request: web.Request) -> web.Response:
    """The present in a box."""
    return request.app[STATUS_SITE].widget().to(request)


async def incident(request: web.Request) -> web.Response:
    """The page of one incident."""
    found = await request.app[STATUS_SITE].incident(request.match_info["incident"])
    return found.to(request)


async def window(request: web.Request) -> web.Response:
    """The page of one maintenance window."""
    found = await request.app[STATUS_SITE].window(request.match_info["window"])
    return found.to(request)


async def this_month(request: web.Request) -> web.Response:
    """The history of this month."""
    return (await request.app[STATUS_SITE].month(None)).to(request)


async def month(request: web.Request) -> web.Response:
    """The history of one month; of another word, the page that says that there is none."""
    form = _MONTH.fullmatch(request.match_info["month"])
    first = date(int(form[1]), int(form[2]), 1) if form else date.min
    return (await request.app[STATUS_SITE].month(first)).to(request)


async def badge(request: web.Request) -> web.Response:
    """The whole as a badge."""
    return await component_badge(request)


async def component_badge(request: web.Request) -> web.Response:
    """One component as a badge."""
    found = request.app[STATUS_SITE].badge(request.match_info.get("component"))
    if found is None:
        raise Problem(NOT_FOUND, "There is no such component.")
    return found.to(request)


def feed(write: Write, media: str) -> Handler:
    """A handler that answers with a feed."""

    async def handler(request: web.Request) -> web.Response:
        return request.app[STATUS_SITE].feed(write, media, public_url(request)).to(request)

    return handler


def document(shape: Shape) -> Handler:
    """A handler that answers with JSON."""

    async def handler(request: web.Request) -> web.Response:
        return request.app[STATUS_SITE].json(shape, public_url(request)).to(request)

    return handler


updates_rss = feed(feeds.updates_rss, feeds.RSS)
history_rss = feed(feeds.history_rss, feeds.RSS)
history_atom = feed(feeds.history_atom, feeds.ATOM)
calendar = feed(calendars.calendar, calendars.CALENDAR)
summary = document(v2.summary)
status = document(v2.status)
components = document(v2.components)
incidents = document(v2.incidents)
unresolved = document(v2.unresolved)
maintenances = document(v2.maintenances)
upcoming = document(v2.upcoming)
active = document(v2.active)


def public_url(request: web.Request) -> str:
    """Where the public finds this: as configured, else as this caller did."""
    stated = request.app[STATUS_URL]
    if stated:
        return stated
    host = request.host if _HOST.fullmatch(request.host) else "localhost"
    return f"{request.scheme}://{host}"
