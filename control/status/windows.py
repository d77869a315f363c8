"""Maintenance windows, and what they have to do with the bridge: pure rules.

A window raises the bridge once, at its start. It lowers what a window has raised, and nothing else:
whoever raises the bridge by hand, or takes it over by setting it anew, lowers it by hand; where it
was lowered by hand within a window, it stays down.
"""

from collections.abc import Iterable, Sequence
from datetime import datetime, timedelta
from typing import Literal

import msgspec

from control.errors import InvalidInput
from control.flags.document import Flag
from control.status import recurrence, texts
from control.status.states import WindowStatus

LONGEST = timedelta(days=31)
BEGUN = timedelta(minutes=5)
"""A window may be made that began so long ago: it begins at once."""

_ACTOR = "window:"

Edge = Literal["start", "end", "miss"]
"""What a window's time calls for; ``miss``: it is over, and nobody was there when it began."""


class NewWindow(msgspec.Struct, frozen=True, kw_only=True):
    """A window that is to be made; with ``recurrence`` (an RRULE) it is the first of many."""

    title: str
    description: str
    start: datetime
    end: datetime
    components: Sequence[str]
    raise_bridge: bool = False
    recurrence: str | None = None
    timezone: str = "UTC"


class WindowChange(msgspec.Struct, frozen=True, kw_only=True):
    """What is to be different of a window; ``None``: as it is."""

    title: str | None = None
    description: str | None = None
    start: datetime | None = None
    end: datetime | None = None
    components: Sequence[str] | None = None
    raise_bridge: bool | None = None


class Live(msgspec.Struct, frozen=True):
    """A window in progress that is to hold the bridge up."""

    id: str
    title: str
    end: datetime


class Wish(msgspec.Struct, frozen=True):
    """How ``app_maintenance`` is to be set."""

    active: bool
    actor: str
    reason: str
    until: datetime | None = None


def checked_new(new: NewWindow, now: datetime) -> NewWindow:
    """``new``, every field looked at. Raises :class:`InvalidInput` that names the field."""
    if new.start < now - BEGUN:
        raise InvalidInput("is past", "scheduled_start")
    times(new.start, new.end, now)
    recurrence.zone(new.timezone)  # of a single window too: nobody else would notice the slip
    return msgspec.structs.replace(
        new,
        title=texts.title(new.title),
        description=texts.text(new.description, "description", needed=False),
    )


def times(start: datetime, end: datetime, now: datetime) -> None:
    """Raises :class:`InvalidInput` where a window cannot have these."""
    texts.future(end, now, "scheduled_end")
    if end <= start:
        raise InvalidInput("must be later than scheduled_start", "scheduled_end")
    if end - start > LONGEST:
        raise InvalidInput(f"makes it longer than {LONGEST.days} days", "scheduled_end")


def edge(status: WindowStatus, start: datetime, end: datetime, now: datetime) -> Edge | None:
    """What is to be done with a window now."""
    if status is WindowStatus.SCHEDULED:
        if end <= now:
            return "miss"
        return "start" if start <= now else None
    return "end" if status is WindowStatus.IN_PROGRESS and end <= now else None


def actor(id_: str) -> str:
    """Who changes the flag when a window does."""
    return f"{_ACTOR}{id_}"


def is_ours(flag: Flag) -> bool:
    """Whether the bridge is up and a window raised it."""
    return flag.is_active and (flag.changed_by or "").startswith(_ACTOR)


def raising(flag: Flag, window: Live) -> Wish | None:
    """What a window wishes at its start; ``None``: nothing, the bridge is up for longer already
    or belongs to somebody."""
    if flag.is_active and not is_ours(flag):
        return None
    if is_ours(flag) and flag.until is not None and flag.until >= window.end:
        return None
    return Wish(True, actor(window.id), window.title, window.end)


def tidying(flag: Flag, live: Iterable[Live]) -> Wish | None:
    """What is to become of a bridge that a window raised: it stays up until the last one ends."""
    if not is_ours(flag):
        return None
    last = max(live, key=lambda window: window.end, default=None)
    if last is None:
        return Wish(False, flag.changed_by or _ACTOR, "the maintenance window has ended")
    if flag.until == last.end:
        return None
    return Wish(True, actor(last.id), last.title, last.end)
