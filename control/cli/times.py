"""Times as people write them on the command line, and as it tells them."""

import re
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import TypeVar

import click

from control.clock import SystemClock, seconds

T = TypeVar("T")

_BARE = re.compile(r"\d{1,6}(?:\.\d{1,3})?", re.ASCII)


def moment(text: str) -> datetime:
    """The moment that an RFC 3339 text names, with its zone. Raises :class:`ValueError`."""
    try:
        found = datetime.fromisoformat(text.strip())
    except ValueError:
        found = None
    if found is None or found.tzinfo is None or ":" not in text:
        raise ValueError(f"{text!r} is not a time with a zone such as 2026-11-21T22:30:00Z")
    return found


def moment_or_ago(text: str) -> datetime:
    """A moment, or a span before now. Raises :class:`ValueError`."""
    try:
        return SystemClock().now() - timedelta(seconds=seconds(text))
    except ValueError:
        return moment(text)


def span_or_seconds(text: str) -> float:
    """The seconds of a span, or of a plain number of seconds. Raises :class:`ValueError`."""
    return seconds(f"{text}s" if _BARE.fullmatch(text.strip()) else text)


def option(
    read: Callable[[str], T],
) -> Callable[[click.Context, click.Parameter, str | None], T | None]:
    """The callback of an option whose text ``read`` turns into its value."""

    def callback(_ctx: click.Context, _parameter: click.Parameter, text: str | None) -> T | None:
        try:
            return None if text is None else read(text)
        except ValueError as error:
            raise click.BadParameter(str(error)) from None

    return callback


def span(length_s: float) -> str:
    """A length of time in its two largest units: ``2 h 5 min``, ``40 s``."""
    left = round(length_s)
    named = []
    for unit, size in (("d", 86_400), ("h", 3600), ("min", 60), ("s", 1)):
        count, left = divmod(left, size)
        if count:
            named.append(f"{count} {unit}")
    return " ".join(named[:2]) or "0 s"


def stamp(at: datetime) -> str:
    """A moment to the second: ``2026-11-21 22:30:00 UTC``."""
    return f"{at.astimezone(UTC):%Y-%m-%d %H:%M:%S} UTC"


def when(at: datetime, now: datetime) -> str:
    """A moment and how far it is: ``2026-11-21 22:30:00 UTC (in 20 min)``."""
    away_s = (at - now).total_seconds()
    far = f"in {span(away_s)}" if away_s > 0 else f"{span(-away_s)} ago"
    return f"{stamp(at)} ({far})"
