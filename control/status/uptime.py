"""Uptime: the share of the time that counts in which a component was up.

``1 − (major + 0.3·partial) / (covered − maintenance − unknown)``: a partial outage weighs 0.3, a
degradation nothing; maintenance and what nobody knows do not count. It is floored, never rounded
up: 100 means that there was no outage at all.
"""

from collections.abc import Iterable
from datetime import date, timedelta

from control.status.timeline import Totals
from control.status.view import DayEntry

DAYS = 90


def percentage(totals: Totals) -> float | None:
    """The uptime in percent, to a thousandth; ``None`` where nothing counts."""
    counted = totals.covered_ms - totals.maintenance_ms - totals.unknown_ms
    if counted <= 0:
        return None
    # In whole numbers, lest a rounding error turn 99.9999 into 100.
    up = 10 * counted - 10 * totals.major_ms - 3 * totals.partial_ms
    return up * 100_000 // (10 * counted) / 1000


def over(days: Iterable[tuple[date, Totals]], today: date, length: int) -> float | None:
    """The uptime of the last ``length`` days, today among them."""
    first, sums = today - timedelta(days=length - 1), Totals()
    for day, totals in days:
        if first <= day <= today:
            sums += totals
    return percentage(sums)


def entries(days: Iterable[tuple[date, Totals]], today: date) -> tuple[DayEntry, ...]:
    """The last 90 days, oldest first; one of which nothing is known is unknown."""
    known = dict(days)
    return tuple(
        entry(day, known.get(day, _NOTHING))
        for day in (today - timedelta(days=ago) for ago in range(DAYS - 1, -1, -1))
    )


_NOTHING = Totals()


def entry(day: date, totals: Totals) -> DayEntry:
    """One day, as it is shown."""
    return DayEntry(
        date=day,
        status=totals.worst,
        covered_s=totals.covered_ms / 1000,
        degraded_s=totals.degraded_ms / 1000,
        partial_s=totals.partial_ms / 1000,
        major_s=totals.major_ms / 1000,
        maintenance_s=totals.maintenance_ms / 1000,
        unknown_s=totals.unknown_ms / 1000,
        uptime=percentage(totals),
    )
