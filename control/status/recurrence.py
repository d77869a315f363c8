"""Times that recur: an RRULE (RFC 5545), on the wall clock of a time zone."""

import itertools
import re
from collections.abc import Iterator
from datetime import UTC, datetime
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from control.errors import InvalidInput

MAX_RULE = 200
_ALWAYS = frozenset({"FREQ", "INTERVAL", "COUNT", "UNTIL", "WKST"})
_PARTS = {
    "DAILY": _ALWAYS,
    "WEEKLY": _ALWAYS | {"BYDAY"},
    "MONTHLY": _ALWAYS | {"BYDAY", "BYMONTHDAY", "BYSETPOS"},
    "YEARLY": _ALWAYS | {"BYDAY", "BYMONTHDAY", "BYSETPOS", "BYMONTH"},
}
"""What a rule may say, by its frequency. With more, one that never comes to pass would be searched
for seconds, day by day until the year 9999."""

_COUNTS = re.compile(r"[1-9]\d{0,2}")


def zone(name: str) -> ZoneInfo:
    """The time zone. Raises :class:`InvalidInput`."""
    try:
        return ZoneInfo(name)
    except (ZoneInfoNotFoundError, ValueError, OSError):
        raise InvalidInput("is no time zone such as Europe/Berlin", "timezone") from None


def checked(rule: str, first: datetime, timezone: str) -> str:
    """The rule, without a prefix and blanks. Raises :class:`InvalidInput` if it is none, or never
    comes to pass."""
    plain = rule.strip().upper().removeprefix("RRULE:")
    parts = dict(part.partition("=")[::2] for part in plain.split(";"))
    allowed = _PARTS.get(parts.get("FREQ", ""), frozenset())
    counts = (parts.get(name, "1") for name in ("INTERVAL", "COUNT"))
    if len(plain) > MAX_RULE or parts.keys() - allowed or not all(map(_COUNTS.fullmatch, counts)):
        raise InvalidInput(
            "must be an RRULE such as FREQ=DAILY, FREQ=WEEKLY;BYDAY=SU, FREQ=MONTHLY;BYDAY=1SU, "
            "FREQ=YEARLY;BYMONTH=6;BYMONTHDAY=1; INTERVAL and COUNT up to 999",
            "recurrence",
        )
    try:
        found = next(_occurrences(plain, first, timezone), None)
    except (ValueError, OverflowError) as error:
        raise InvalidInput(f"is no RRULE: {error}"[:200], "recurrence") from None
    if found is None:
        raise InvalidInput("never comes to pass", "recurrence")
    return plain


def after(
    rule: str, first: datetime, timezone: str, made_until: datetime | None, most: int
) -> list[datetime]:
    """The next ``most`` times later than ``made_until``, in UTC."""
    times = _occurrences(rule, first, timezone)
    if made_until is not None:
        times = itertools.dropwhile(lambda at: at <= made_until, times)
    return list(itertools.islice(times, most))


def _occurrences(rule: str, first: datetime, timezone: str) -> Iterator[datetime]:
    from dateutil.rrule import rrule, rrulestr  # noqa: PLC0415 - few have windows that recur

    # Without a zone here, so that the wall clock is kept across the change of the hour.
    local = first.astimezone(zone(timezone))
    begin, parts = local.replace(tzinfo=None), []
    for part in rule.split(";"):
        name, _, value = part.partition("=")
        if name == "UNTIL":
            value = _until(value, timezone)
        parts.append(f"{name}={value}")
    found = rrulestr(";".join(parts), dtstart=begin)
    if not isinstance(found, rrule):
        raise ValueError("it is a set of rules")  # noqa: TRY004 - as its other faults are
    for naive in found:
        yield naive.replace(tzinfo=local.tzinfo).astimezone(UTC)


def _until(value: str, timezone: str) -> str:
    """``UNTIL`` on the wall clock of the zone."""
    if not value.endswith("Z"):
        return value
    at = datetime.strptime(value, "%Y%m%dT%H%M%SZ").replace(tzinfo=UTC)
    return at.astimezone(zone(timezone)).strftime("%Y%m%dT%H%M%S")
