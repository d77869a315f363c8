"""RSS 2.0 and Atom (RFC 4287): every update as an item of its own, or an entry an incident."""

from collections.abc import Iterable, Iterator
from datetime import datetime, timedelta
from io import StringIO
from typing import Any

from feedgenerator import Atom1Feed, Rss201rev2Feed
from markupsafe import Markup

from control.status.view import IncidentView, WindowView
from service.statuspage import told
from service.statuspage.pages import Site
from service.statuspage.palette import SEVERITIES, STAGES
from service.statuspage.prose import clean, rendered
from service.statuspage.standing import Standing
from service.statuspage.templates import utc

RSS = "application/rss+xml; charset=utf-8"
ATOM = "application/atom+xml; charset=utf-8"

_MOST = 100
"""So many items a feed has of each kind at most: planned maintenance must not push out what
happened, nor a bad month what is planned."""


_Item = tuple[told.Said, IncidentView | WindowView, str, str]
"""What was said, of what, the folder of its page, and the name of its kind."""


class _Dated:
    """A feed without items is dated by what it tells of, not by when it was asked for."""

    empty_since: datetime
    items: list[Any]

    def latest_post_date(self) -> datetime:
        """When its newest item was published or changed."""
        dates = [each["updateddate"] or each["pubdate"] for each in self.items]
        return max(dates, default=self.empty_since)


class _Rss(_Dated, Rss201rev2Feed):  # type: ignore[misc]
    pass


class _Atom(_Dated, Atom1Feed):  # type: ignore[misc]
    pass


def updates_rss(site: Site, standing: Standing, _now: datetime) -> str:
    """Every update, newest first: what an item says never changes."""
    feed = _feed(_Rss, site, standing, "updates", "/api/status/rss")
    happened = [
        (each, incident, "incidents", "Incident")
        for incident in standing.incidents
        for each in told.of_incident(incident)
    ]
    maintained = [
        (each, window, "maintenance", "Maintenance")
        for window in _newsworthy(standing.windows)
        for each in told.of_window(window)
    ]
    items = _newest([*_newest(happened)[:_MOST], *_newest(maintained)[:_MOST]])
    for said, subject, folder, kind in items:
        feed.add_item(
            title=clean(f"{STAGES[said.status]}: {subject.title}"),
            link=f"{site.url}/status/{folder}/{subject.id}{said.anchor}",
            description=_told(said, subject),
            pubdate=said.at,
            unique_id=said.id.urn,
            unique_id_is_permalink=False,
            categories=[kind, *(clean(each.name) for each in said.affected)],
        )
    return _text(feed)


def _newest(items: Iterable[_Item]) -> list[_Item]:
    return sorted(items, key=lambda item: (item[0].at, item[0].id), reverse=True)


def _newsworthy(windows: Iterable[WindowView]) -> Iterator[WindowView]:
    """Those of ``windows``, by their start, that are news: of a series that is made ahead only the
    next one, and of what was called off at once only the one that had been announced so."""
    told_of = set()
    for window in windows:
        if window.series is not None and window.started_at is None:
            alike = (window.series, window.ended_at)
            if alike in told_of:
                continue
            told_of.add(alike)
        yield window


def history_rss(site: Site, standing: Standing, _now: datetime) -> str:
    """One item for each incident, newest first."""
    feed = _feed(_Rss, site, standing, "incidents", "/history.rss")
    _add_incidents(feed, site, standing.incidents)
    return _text(feed)


def history_atom(site: Site, standing: Standing, _now: datetime) -> str:
    """One entry for each incident, newest first."""
    feed = _feed(_Atom, site, standing, "incidents", "/history.atom")
    _add_incidents(feed, site, standing.incidents)
    return _text(feed)


def _feed(kind: type[Any], site: Site, standing: Standing, what: str, path: str) -> Any:
    feed = kind(
        title=clean(f"{site.title} status: {what}"),
        link=f"{site.url}/status",
        description=clean(f"What is said of {what} at {site.title}."),
        language="en",
        feed_url=site.url + path,
        feed_guid=site.url + path,
        author_name=clean(site.title),
        ttl="5",
    )
    feed.empty_since = standing.last_updated
    return feed


def _add_incidents(feed: Any, site: Site, incidents: Iterable[IncidentView]) -> None:
    for incident in list(incidents)[:_MOST]:
        said = reversed(told.of_incident(incident))
        content = Markup("").join(
            Markup("<p><strong>{}</strong>, {}</p>{}").format(
                STAGES[each.status], utc(each.at), rendered(each.text)
            )
            for each in said
        )
        feed.add_item(
            title=clean(f"{incident.title} ({STAGES[incident.status].lower()})"),
            link=f"{site.url}/status/incidents/{incident.id}",
            description=str(content),
            pubdate=incident.created_at,
            updateddate=max(incident.updated_at, incident.created_at),
            unique_id=told.uuid_of(incident.id).urn,
            unique_id_is_permalink=False,
            categories=[
                SEVERITIES[incident.severity].headline,
                *(clean(each.name) for each in incident.components),
            ],
        )


def _told(said: told.Said, subject: IncidentView | WindowView) -> str:
    parts = [rendered(said.text)]
    if isinstance(subject, WindowView) and said.status == "scheduled":
        length = subject.scheduled_end - subject.scheduled_start
        parts.append(
            Markup("<p>{} to {} ({} min).</p>").format(
                utc(subject.scheduled_start), utc(subject.scheduled_end),
                length // timedelta(minutes=1),
            )
        )  # fmt: skip
    return str(Markup("").join(parts))


def _text(feed: Any) -> str:
    out = StringIO()
    feed.write(out, "utf-8")
    return out.getvalue()
