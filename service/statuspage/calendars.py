"""Maintenance windows as a calendar (RFC 5545) that calendar programs subscribe to."""

from datetime import datetime, timedelta

import icalendar

from control.status.states import WindowStatus
from control.status.view import WindowView
from service.statuspage.pages import Site
from service.statuspage.prose import clean, plain
from service.statuspage.standing import Standing

CALENDAR = "text/calendar; charset=utf-8"

_REFRESH = timedelta(hours=1)


def calendar(site: Site, standing: Standing, _now: datetime) -> bytes:
    """Every window that is known, cancelled ones as cancelled, so that they leave calendars."""
    made = icalendar.Calendar()
    made.add("prodid", "-//Drawbridge//Maintenance//EN")
    made.add("version", "2.0")
    made.add("calscale", "GREGORIAN")
    made.add("method", "PUBLISH")
    name = clean(f"{site.title} maintenance")
    made.add("name", name)
    made.add("x-wr-calname", name)
    made.add("refresh-interval", _REFRESH, parameters={"VALUE": "DURATION"})
    made.add("x-published-ttl", "PT1H")
    for window in standing.windows:
        made.add_component(_event(site, window))
    written: bytes = made.to_ical()
    return written


def _event(site: Site, window: WindowView) -> icalendar.Event:
    event = icalendar.Event()
    event.add("uid", f"{window.id}@drawbridge")
    event.add("dtstamp", window.updated_at)
    event.add("created", window.created_at)
    event.add("last-modified", window.updated_at)
    event.add("sequence", window.sequence)
    event.add("dtstart", window.scheduled_start)
    event.add("dtend", window.scheduled_end)
    event.add("summary", clean(window.title))
    if window.description:
        event.add("description", plain(window.description))
    if window.components:
        event.add("categories", [clean(each.name) for each in window.components])
    event.add("url", f"{site.url}/status/maintenance/{window.id}")
    event.add("transp", "TRANSPARENT")  # nobody's own time is taken
    cancelled = window.status is WindowStatus.CANCELLED
    event.add("status", "CANCELLED" if cancelled else "CONFIRMED")
    return event
