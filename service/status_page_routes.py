"""Routes of what the public sees of the status; a part of the table in :mod:`service.routes`."""

from aiohttp.typedefs import Handler

from service import problems as p
from service.auth import Access
from service.handlers import status_pages
from service.routing import JSON, Answer, Route
from service.schemas import Text
from service.statuspage import v2_bodies as v2
from service.statuspage.badges import SVG
from service.statuspage.calendars import CALENDAR
from service.statuspage.feeds import ATOM, RSS

_CACHED = {"ETag": "of the content: `If-None-Match` with it is answered 304 while it is the same"}


def table() -> tuple[Route, ...]:
    """What everybody sees: pages, feeds, badges, and JSON for clients of Statuspage."""
    return (*_pages(), *_statuspage_v2())


def _shown(media: str, meaning: str = "As it is now") -> dict[int, Answer]:
    """What is shown to everybody, or was shown before."""
    return {
        200: Answer(meaning, {media.partition(";")[0]: Text}, _CACHED),
        304: Answer("The caller has it", {}, _CACHED),
    }


def _pages() -> tuple[Route, ...]:
    h, tag, anyone = status_pages, "Status page", Access.PUBLIC
    page, html = _shown("text/html"), {"text/html": Text}
    found = {
        **page,
        404: Answer("A page that says that there is none", html),
        503: Answer("It is older than what is in memory, and PostgreSQL is away", html),
    }
    return (
        Route("GET", "/status", h.front, anyone, tag, "How things stand, for people", page,
              "Complete without JavaScript. From memory: it is there whatever store is away, and "
              "says what is not known.", slash=True),
        Route("GET", "/status/incidents/{incident}", h.incident, anyone, tag, "One incident",
              found, slash=True),
        Route("GET", "/status/maintenance/{window}", h.window, anyone, tag,
              "One maintenance window", found, slash=True),
        Route("GET", "/status/history", h.this_month, anyone, tag, "What happened this month",
              found, slash=True),
        Route("GET", "/status/history/{month}", h.month, anyone, tag,
              "What happened in a month, such as 2026-11", found, slash=True),
        Route("GET", "/status/widget", h.widget, anyone, tag, "The present in a box", page,
              "For an `iframe` in any page.", slash=True),
        Route("GET", "/status/maintenance.ics", h.calendar, anyone, tag,
              "Maintenance windows as a calendar", _shown(CALENDAR), refusals=(p.UNAVAILABLE,)),
        Route("GET", "/api/status/rss", h.updates_rss, anyone, tag, "Every update, as RSS 2.0",
              _shown(RSS), refusals=(p.UNAVAILABLE,), slash=True),
        Route("GET", "/history.rss", h.history_rss, anyone, tag, "Incidents, as RSS 2.0",
              _shown(RSS), refusals=(p.UNAVAILABLE,)),
        Route("GET", "/history.atom", h.history_atom, anyone, tag, "Incidents, as Atom",
              _shown(ATOM), refusals=(p.UNAVAILABLE,)),
        Route("GET", "/badge.svg", h.badge, anyone, tag, "The whole as a badge", _shown(SVG)),
        Route("GET", "/badge/{component}.svg", h.component_badge, anyone, tag,
              "One component as a badge", _shown(SVG), refusals=(p.NOT_FOUND,)),
    )  # fmt: skip


def _statuspage_v2() -> tuple[Route, ...]:
    h, tag = status_pages, "Statuspage v2"
    rows: tuple[tuple[str, Handler, type, str], ...] = (
        ("summary", h.summary, v2.Summary, "Everything that is open"),
        ("status", h.status, v2.StatusDocument, "The whole"),
        ("components", h.components, v2.Components, "Components"),
        ("incidents", h.incidents, v2.Incidents, "The newest incidents"),
        ("incidents/unresolved", h.unresolved, v2.Incidents, "Open incidents"),
        ("scheduled-maintenances", h.maintenances, v2.Maintenances, "The newest windows"),
        ("scheduled-maintenances/upcoming", h.upcoming, v2.Maintenances, "Windows to come"),
        ("scheduled-maintenances/active", h.active, v2.Maintenances, "Windows under way"),
    )
    return tuple(
        Route("GET", f"/api/v2/{name}.json", handler, Access.PUBLIC, tag, summary,
              {200: Answer("As it is now", {JSON: body}, _CACHED),
               304: Answer("The caller has it", {}, _CACHED)},
              "As Atlassian's Statuspage answers, for its clients. What nobody could look at is "
              "`degraded_performance`.", refusals=(p.UNAVAILABLE,))
        for name, handler, body, summary in rows
    )  # fmt: skip
