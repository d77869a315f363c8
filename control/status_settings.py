"""Settings of the status page."""

import re
from dataclasses import dataclass

from control.settings import one_of, setting, url

_ID = re.compile(r"[a-z0-9][a-z0-9-]{0,62}")
_ENTRY = re.compile(rf"({_ID.pattern})(?::([^=:]{{1,100}}))?=(\S.*)", re.DOTALL)


def is_id(text: str) -> bool:
    """Whether a component may have this id."""
    return _ID.fullmatch(text) is not None


def entries(text: str) -> list[tuple[str, str, str]]:
    """``(id, name, checks)`` of each component, divided by semicolons. Raises ValueError."""
    found: list[tuple[str, str, str]] = []
    for entry in filter(None, (part.strip() for part in text.split(";"))):
        form = _ENTRY.fullmatch(entry)
        if form is None:
            raise ValueError(
                "must be such as payments:Payments=external:stripe@partial_outage,redis; graph=-, "
                f"not {entry!r}"
            )
        found.append((form[1], (form[2] or "").strip(), form[3].strip()))
    return found


def _components(text: str) -> str:
    entries(text)
    return text


@dataclass(frozen=True)
class StatusSection:
    """What the status page tells of."""

    components: str = setting(
        "DRAWBRIDGE_STATUS_COMPONENTS",
        "",
        "components beside the default ones, and which health checks feed them: "
        "payments:Payments=external:stripe@partial_outage,redis; graph=- (divided by semicolons)",
        _components,
    )
    incidents: str = setting(
        "DRAWBRIDGE_STATUS_INCIDENTS",
        "draft",
        "what confirmed failures open: draft (for administrators to publish), published, or off",
        one_of("draft", "published", "off"),
    )


def _page_title(text: str) -> str:
    if len(text) > 100:
        raise ValueError("must have at most 100 characters")
    return text


_web_url = url("https", "http")


def _page_url(text: str) -> str:
    return _web_url(text).rstrip("/")


@dataclass(frozen=True)
class StatusPageSection:
    """Where the status page is, and whose it is."""

    title: str = setting(
        "DRAWBRIDGE_STATUS_TITLE", "Drawbridge", "whose status the page tells", _page_title
    )
    url: str = setting(
        "DRAWBRIDGE_STATUS_URL",
        "",
        "where the public finds this service, such as https://status.example.com, for addresses in "
        "feeds and messages; empty: where each caller found it",
        _page_url,
    )
