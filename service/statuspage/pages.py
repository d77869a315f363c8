"""The pages: the present, an incident, a maintenance window, a month."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date, datetime, timedelta

from control.status.states import Status, WindowStatus
from control.status.view import IncidentView, WindowView
from service.statuspage import templates
from service.statuspage.palette import LOOKS, SEVERITIES
from service.statuspage.standing import Knowledge, Standing

PAST = timedelta(days=14)
"""How far back the front page tells of incidents."""

_NAMED = 3
_MOST_PAST = 10


@dataclass(frozen=True)
class Site:
    """Whose page it is. ``url`` is where the public finds it, without a slash at its end."""

    title: str
    url: str


def status_page(site: Site, standing: Standing, now: datetime) -> str:
    """The front page."""
    return templates.render(
        "status.html",
        site=site,
        standing=standing,
        now=now,
        icon=icon(standing.overall),
        headline=headline(standing),
        sublines=_sublines(standing),
        past=[
            each
            for each in standing.incidents
            if each.resolved_at is not None and each.resolved_at > now - PAST
        ][:_MOST_PAST],
    )


def incident_page(site: Site, incident: IncidentView, now: datetime) -> str:
    """What is known of one incident, at its permanent address."""
    look = SEVERITIES[incident.severity].name if incident.resolved_at is None else "ok"
    return templates.render(
        "incident.html", site=site, incident=incident, now=now, icon=templates.icon(look)
    )


def window_page(site: Site, window: WindowView, now: datetime) -> str:
    """What is known of one maintenance window."""
    return templates.render(
        "window.html", site=site, window=window, now=now, icon=templates.icon("planned")
    )


@dataclass(frozen=True)
class Month:
    """A month of the history. ``stale``: the records cannot be read, so there may be more."""

    first: date
    incidents: Sequence[IncidentView]
    windows: Sequence[WindowView] | None
    """``None``: not told of a month as old as this."""
    stale: bool = False


def history_page(site: Site, told: Month, now: datetime) -> str:
    """One month: what happened, what was done."""
    earlier = (told.first - timedelta(days=1)).replace(day=1)
    later = (told.first + timedelta(days=32)).replace(day=1)
    return templates.render(
        "history.html",
        site=site,
        first=told.first,
        incidents=told.incidents,
        windows=None
        if told.windows is None
        else [each for each in told.windows if each.status is not WindowStatus.CANCELLED],
        stale=told.stale,
        earlier=earlier if earlier.year >= 2020 else None,
        later=later if later <= now.date() else None,
        now=now,
        icon=templates.icon("none"),
    )


def widget_page(site: Site, standing: Standing) -> str:
    """The present in a box."""
    return templates.render(
        "widget.html", site=site, standing=standing, icon=icon(standing.overall),
        headline=headline(standing), sublines=_sublines(standing),
    )  # fmt: skip


def missing_page(site: Site) -> str:
    """There is no such thing."""
    return _excuse(site, "There is no such page", "It may never have been, or have been a draft.")


def unreadable_page(site: Site) -> str:
    """It cannot be looked up now."""
    return _excuse(
        site, "We cannot read our records at the moment", "Please try again in a few minutes."
    )


def _excuse(site: Site, title: str, text: str) -> str:
    return templates.render(
        "excuse.html", site=site, title=title, text=text, icon=templates.icon("none")
    )


def headline(standing: Standing) -> str:
    """The one sentence that everything comes down to."""
    if standing.overall is Status.UNKNOWN and (
        standing.local or standing.knowledge is Knowledge.FRESH
    ):
        return "Not everything is known"
    return LOOKS[standing.overall].headline


def icon(status: Status) -> str:
    """The icon of the page while it stands so."""
    return templates.icon(LOOKS[status].name)


def _sublines(standing: Standing) -> list[str]:
    """Which components are not well, by how they are; a sentence on what is otherwise."""
    lines = []
    for status in sorted(Status, key=lambda each: each.rank, reverse=True):
        names = [each.name for each in standing.components if each.status is status]
        if names and status is not Status.OPERATIONAL:
            label = LOOKS[status].label
            if len(names) == len(standing.components) > 1:
                lines.append(f"{label}: every component.")
            else:
                lines.append(f"{label}: {_listed(names)}.")
    if not lines and standing.overall is Status.OPERATIONAL:
        lines.append("Everything that we watch works.")
    elif not lines and standing.components:
        lines.append("Our checks of all components pass.")
    return lines


def _listed(names: list[str]) -> str:
    if len(names) > _NAMED + 1:
        return f"{', '.join(names[:_NAMED])} and {len(names) - _NAMED} more"
    return " and ".join(filter(None, (", ".join(names[:-1]), names[-1])))
