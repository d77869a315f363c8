"""When a periodic kind runs: every so often, or by a cron expression in a time zone."""

from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime
from functools import cached_property
from typing import Literal, get_args

import msgspec

from control.clock import from_ms, seconds
from control.errors import ConfigError

Misfire = Literal["skip", "once", "all"]
"""What becomes of times that nobody was there for: nothing, one run for the last of them, or one
for each, of the last :data:`MOST` of them."""

MOST = 100
LATE_MS = 15_000
"""A run that comes no later than this is not missed."""

_STRIDE = 5_000
_SHORTEST_S = 1.0


@dataclass(frozen=True)
class Schedule:
    """Either ``every_ms`` or ``cron``. An interval is counted from 1970, so that every worker knows
    the times without asking; a cron expression is of local time: what falls into the hour that is
    skipped in spring runs once after it, and once in the hour that comes twice in autumn."""

    every_ms: int | None = None
    cron: str | None = None
    timezone: str = "UTC"
    misfire: Misfire = "once"

    @cached_property
    def definition(self) -> str:
        """The whole of it as JSON, to be told apart from others and read by people."""
        when: dict[str, object] = {"cron": self.cron, "timezone": self.timezone}
        if self.every_ms is not None:
            when = {"every_s": self.every_ms / 1000}
        return msgspec.json.encode({**when, "misfire": self.misfire}).decode()

    def after(self, ms: int) -> int:
        """The first time after ``ms``. Times are milliseconds since 1970."""
        if self.every_ms is not None:
            return (ms // self.every_ms + 1) * self.every_ms
        return next(at for at in self._local(ms) if at > ms)

    def until(self, due: int, now: int) -> tuple[list[int], int]:
        """The times from ``due`` to ``now``, the last :data:`MOST` of them, and the one after."""
        found: deque[int] = deque(maxlen=MOST)
        first, steps = due, 0
        while due <= now:
            found.append(due)
            due, steps = self.after(due), steps + 1
            if steps % _STRIDE == 0:  # a long absence: those before the last ones do not matter
                usual = (due - first) // steps
                due = max(due, self.after(now - 2 * MOST * usual))
        return list(found), due

    def runs(self, times: list[int], now: int) -> list[int]:
        """Which of the ``times`` up to ``now`` are run for, as the misfire policy says."""
        if self.misfire == "skip":
            return [at for at in times[-1:] if now - at <= LATE_MS]
        return times[-1:] if self.misfire == "once" else times

    def _local(self, ms: int) -> Iterator[int]:
        # Not at the top: every process of a CPU-bound job would import it.
        from zoneinfo import ZoneInfo  # noqa: PLC0415

        from cronsim import CronSim  # noqa: PLC0415

        for at in CronSim(self.cron or "", from_ms(ms).astimezone(ZoneInfo(self.timezone))):
            yield round(at.timestamp() * 1000)


def declared(
    name: str,
    *,
    every: str | None,
    cron: str | None,
    timezone: str | None,
    misfire: str | None,
) -> Schedule | None:
    """The schedule that a declaration of the kind ``name`` asks for, if it does.

    Raises :class:`ConfigError`.
    """
    if every is None and cron is None:
        if timezone is not None or misfire is not None:
            raise ConfigError(f"job kind {name!r}: timezone and misfire need every=… or cron=…")
        return None
    if every is not None and cron is not None:
        raise ConfigError(f"job kind {name!r}: takes every=… or cron=…, not both")
    if misfire not in (None, *get_args(Misfire)):
        raise ConfigError(f"job kind {name!r}: misfire must be skip, once or all")
    policy: Misfire = misfire or "once"  # type: ignore[assignment]
    if every is not None:
        return Schedule(every_ms=_every_ms(name, every, timezone), misfire=policy)
    made = Schedule(cron=cron, timezone=timezone or "UTC", misfire=policy)
    try:
        made.after(round(datetime.now().timestamp() * 1000))
    except StopIteration:
        raise ConfigError(
            f"job kind {name!r}: cron={cron!r} names no time that ever comes"
        ) from None
    except (ValueError, OSError, LookupError) as error:
        raise ConfigError(f"job kind {name!r}: timezone={timezone!r}: {error}") from None
    except Exception as error:  # cronsim's own
        raise ConfigError(f"job kind {name!r}: cron={cron!r}: {error}") from None
    return made


def _every_ms(name: str, every: str, timezone: str | None) -> int:
    if timezone is not None:
        raise ConfigError(f"job kind {name!r}: an interval has no timezone; use cron=…")
    try:
        span_s = seconds(every)
    except ValueError as error:
        raise ConfigError(f"job kind {name!r}: every={error}") from None
    if span_s < _SHORTEST_S:
        raise ConfigError(f"job kind {name!r}: every={every!r} is shorter than a second")
    return round(span_s * 1000)
