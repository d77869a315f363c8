"""The templates, and what they are written with: how times, days and shares are put into words."""

import base64
import hashlib
from collections.abc import Iterable
from datetime import UTC, date, datetime
from functools import cache
from importlib import resources
from types import MappingProxyType
from typing import Any
from urllib.parse import quote

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from control.clock import iso
from control.status.view import ComponentView
from service.statuspage import bars, prose
from service.statuspage.palette import LOOKS, SEVERITIES, STAGES

_STATIC = resources.files("service.statuspage") / "static"
_MINUS = "\N{EN DASH}"


def _inline(name: str) -> Markup:
    """A file of ours, on as few lines as it needs."""
    text = (_STATIC / name).read_text("utf-8")
    return Markup("\n".join(line.strip() for line in text.splitlines()))  # noqa: S704 - our own


STYLE = _inline("status.css")
SCRIPT = _inline("refresh.js")
FORM_STYLE = _inline("form.css")
"""Of pages that ask something."""


def _hash(text: str) -> str:
    return f"'sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}'"


def policy(frame_ancestors: str = "'none'", styles: Iterable[str] = ()) -> str:
    """The Content-Security-Policy of a page: our style and our script by their hashes, and
    ``styles`` that a page has beside them."""
    hashes = " ".join(map(_hash, (STYLE, *styles)))
    return "; ".join((
        "default-src 'none'", f"style-src {hashes}", f"script-src {_hash(SCRIPT)}",
        "connect-src 'self'", "img-src data:", "base-uri 'none'", "form-action 'self'",
        f"frame-ancestors {frame_ancestors}",
    ))  # fmt: skip


def utc(moment: datetime) -> str:
    """``27 Nov 2026, 20:31 UTC``."""
    moment = moment.astimezone(UTC)
    return f"{moment.day} {moment:%b %Y, %H:%M} UTC"


def percent(share: float | None) -> str:
    """``99.98 % uptime``; never rounded up."""
    if share is None:
        return "No record yet"
    floored = int(share * 100) / 100
    return f"{floored:g} % uptime"


def dates(row: bars.Row) -> str:
    """``27 Nov 2026``, or ``1 – 27 Nov 2026 (27 days)``."""
    last = f"{row.last.day} {row.last:%b %Y}"
    if row.days == 1:
        return last
    first = f"{row.first.day} {row.first:%b}"
    if (row.first.year, row.first.month) == (row.last.year, row.last.month):
        first = str(row.first.day)
    elif row.first.year != row.last.year:
        first = f"{first} {row.first.year}"
    return f"{first} {_MINUS} {last} ({row.days} days)"


def picture(component: ComponentView) -> str:
    """What the bars of a component show, for who does not see them."""
    days = bars.trouble(component.days)
    found = "none with trouble" if not days else f"{days} with trouble"
    share = percent(component.uptime_90)
    return f"{component.name}, the last {len(component.days)} days: {found}. {share}."


def month(day: date) -> str:
    """``2026-11``."""
    return f"{day:%Y-%m}"


def month_name(day: date) -> str:
    """``November 2026``."""
    return f"{day:%B %Y}"


def since(later: datetime, earlier: datetime) -> str:
    """How long it was from ``earlier`` to ``later``."""
    return bars.span((later - earlier).total_seconds())


@cache
def environment() -> Environment:
    """Everything is cleaned and escaped but what was made safe before."""
    made = Environment(
        loader=PackageLoader("service.statuspage", "templates"),
        autoescape=True,
        trim_blocks=True,
        lstrip_blocks=True,
        undefined=StrictUndefined,
        finalize=lambda told: prose.clean(told) if type(told) is str else told,
    )
    made.filters |= {
        "days": bars.days, "drawn": bars.drawn, "dates": dates, "iso": iso, "month": month,
        "month_name": month_name, "percent": percent, "picture": picture, "plain": prose.plain,
        "prose": prose.rendered, "rows": bars.rows, "shortened": prose.shortened, "since": since,
        "utc": utc,
    }  # fmt: skip
    made.globals |= {
        "looks": MappingProxyType(LOOKS), "severities": MappingProxyType(SEVERITIES),
        "stages": MappingProxyType(STAGES), "style": STYLE, "script": SCRIPT,
        "form_style": FORM_STYLE,
    }  # fmt: skip
    return made


def render(name: str, **told: Any) -> str:
    """The page that the template ``name`` makes of ``told``."""
    return environment().get_template(name).render(told)


@cache
def icon(look: str) -> str:
    """The page's icon as a ``data:`` address: a tile in the colour of the state, with its shape."""
    svg = (_STATIC / "icon" / f"{look}.svg").read_text("utf-8").strip()
    return "data:image/svg+xml," + quote(svg, safe=" =:/'(),;-.")
