"""Time, passed in so that tests can hold it still."""

import time
from datetime import UTC, datetime
from typing import Protocol


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
