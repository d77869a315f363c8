"""Ninety days as bars, and as the rows of the table behind them."""

from dataclasses import dataclass
from datetime import date
from functools import lru_cache

import msgspec
from markupsafe import Markup

from control.status.states import Status
from control.status.view import ComponentView, DayEntry
from service.statuspage.palette import LOOKS, Look

STEP, WIDTH, HEIGHT = 5.0, 3.6, 36.0
"""Of one day, in units of the picture."""

_GAP = 4.0
_PATH = Markup('<path class="{}" d="{}"><title>{}</title></path>')
_WORDLESS = {Status.OPERATIONAL: "no trouble", Status.UNKNOWN: "no record"}
_SECONDS = {"d": 86_400, "h": 3_600, "min": 60}


@dataclass(frozen=True)
class Bar:
    """One day: where it stands, how it looks, and what it says."""

    look: str
    path: str
    says: str


@dataclass(frozen=True)
class Row:
    """Days in a row of which there is the same to tell."""

    first: date
    last: date
    look: Look
    says: str

    @property
    def days(self) -> int:
        """How many they are."""
        return (self.last - self.first).days + 1


def days(component: ComponentView) -> tuple[DayEntry, ...]:
    """Its days; today is at least as bad as the present, which may be news of this minute."""
    if not component.days or component.status is Status.UNKNOWN:
        return component.days
    today = component.days[-1]
    if component.status.rank <= today.status.rank:
        return component.days
    return (*component.days[:-1], msgspec.structs.replace(today, status=component.status))


def bars(days: tuple[DayEntry, ...]) -> list[Bar]:
    """The bars, oldest first."""
    return [_bar(index, day) for index, day in enumerate(days)]


def _bar(index: int, day: DayEntry) -> Bar:
    return Bar(LOOKS[day.status].name, _path(index, day.status), f"{_date(day.date)}: {says(day)}")


@lru_cache(maxsize=256)
def drawn(days: tuple[DayEntry, ...]) -> Markup:
    """The bars as SVG, each with what it says. Made once for the same days: they are most of a
    page, and only the last one changes before midnight."""
    return Markup("").join(_drawn(index, day) for index, day in enumerate(days))


@lru_cache(maxsize=8192)
def _drawn(index: int, day: DayEntry) -> Markup:
    bar = _bar(index, day)
    return _PATH.format(bar.look, bar.path, bar.says)


@lru_cache(maxsize=256)
def rows(days: tuple[DayEntry, ...]) -> list[Row]:
    """The table, newest first."""
    made: list[Row] = []
    for day in reversed(days):
        told = says(day)
        if made and made[-1].says == told:
            made[-1] = Row(day.date, made[-1].last, made[-1].look, told)
        else:
            made.append(Row(day.date, day.date, LOOKS[day.status], told))
    return made


def says(day: DayEntry) -> str:
    """What a day was like, in words: `Major outage: 12 min; degraded: 2 h 5 min`."""
    parts = [
        f"{word} {span(seconds)}"
        for word, seconds in (
            ("major outage", day.major_s),
            ("partial outage", day.partial_s),
            ("degraded", day.degraded_s),
            ("maintenance", day.maintenance_s),
        )
        if seconds >= 1
    ]
    if not parts:
        return _WORDLESS.get(day.status) or LOOKS[day.status].label.lower()
    return ", ".join(parts)


def trouble(days: tuple[DayEntry, ...]) -> int:
    """On how many days something was wrong; maintenance is not."""
    return sum(1 for day in days if day.major_s + day.partial_s + day.degraded_s >= 1)


def span(seconds: float) -> str:
    """`2 d 3 h`, `1 h 5 min`, `12 min`; never less than a minute."""
    left = max(60, int(seconds))
    parts: list[str] = []
    for unit, size in _SECONDS.items():
        count, left = divmod(left, size)
        if count:
            parts.append(f"{count} {unit}")
    return " ".join(parts[:2])


def _path(index: int, status: Status) -> str:
    x, tall = index * STEP, round(LOOKS[status].height * HEIGHT, 1)
    top = HEIGHT - tall
    if status is Status.UNDER_MAINTENANCE:  # two pieces, where the others are one
        half = (tall - _GAP) / 2
        return _box(x, top, half) + _box(x, HEIGHT - half, half)
    return _box(x, top, tall)


def _box(x: float, y: float, tall: float) -> str:
    return f"M{x:g} {y:g}h{WIDTH:g}v{tall:g}h-{WIDTH:g}z"


def _date(day: date) -> str:
    return f"{day.day} {day:%b}"
