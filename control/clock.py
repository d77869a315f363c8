"""Time, passed in so that tests can hold it still; and how it is written."""

import re
import time
from datetime import UTC, datetime
from typing import Protocol

_UNITS = {"s": 1, "m": 60, "h": 3600, "d": 86_400, "w": 604_800}
_LONGEST_S = 366 * 86_400
_PART = re.compile(r"(\d{1,6}(?:\.\d{1,3})?)([smhdw])", re.ASCII)


class Clock(Protocol):
    """What a component may know of time."""

    def now(self) -> datetime:
        """The wall clock, aware and in UTC; for people and for records."""
        ...

    def monotonic(self) -> float:
        """Seconds that never go back; for deadlines and durations."""
        ...


# Time that goes on while the machine sleeps: a replica that was suspended must know that its
# knowledge is old. Linux counts sleep in this clock only, macOS in its monotonic one.
_AWAKE_OR_NOT = getattr(time, "CLOCK_BOOTTIME", time.CLOCK_MONOTONIC)


class SystemClock:
    """The machine's own clock."""

    def now(self) -> datetime:
        return datetime.now(UTC)

    def monotonic(self) -> float:
        return time.clock_gettime(_AWAKE_OR_NOT)


def iso(moment: datetime) -> str:
    """ISO 8601 in UTC with milliseconds and a ``Z``: ``2026-11-21T03:04:05.678Z``."""
    return moment.astimezone(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def from_ms(milliseconds: int) -> datetime:
    """A UTC moment from milliseconds since 1970, as the Redis scripts store them."""
    return datetime.fromtimestamp(milliseconds / 1000, UTC)


def seconds(text: str) -> float:
    """The seconds of a span such as ``20m`` or ``1h30m``. Raises :class:`ValueError`."""
    written = text.strip().lower()
    parts = _PART.findall(written)
    if not parts or "".join(map("".join, parts)) != written:
        raise ValueError(f"{text!r} is not a span of time such as 90s, 20m or 1h30m")
    total = sum(float(number) * _UNITS[unit] for number, unit in parts)
    if not 0 < total <= _LONGEST_S:
        raise ValueError(f"{text!r} is not longer than nothing and at most a year")
    return total
