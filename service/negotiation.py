"""Which representation a caller wants: the header ``Accept`` of RFC 9110, §12.5.1."""

import re
from collections.abc import Sequence

from service.problems import NOT_ACCEPTABLE, Problem

_Q = re.compile(r"[01](\.\d{0,3})?")


def choose(accept: str | None, offers: Sequence[str]) -> str:
    """The offer that the header likes best; the first of those that it likes alike.

    Raises :class:`Problem` 406 where it likes none.
    """
    ranges = [_parsed(part) for part in (accept or "*/*").split(",") if part.strip()]
    best = max(offers, key=lambda offer: _quality(offer, ranges))
    if ranges and _quality(best, ranges) == 0:
        raise Problem(
            NOT_ACCEPTABLE, f"There is only {' or '.join(offers)}.", {"available": list(offers)}
        )
    return best


def _quality(offer: str, ranges: Sequence[tuple[str, float]]) -> float:
    """What the most specific range that fits says; 0 where none fits."""
    main = offer.partition("/")[0]
    for name in (offer, f"{main}/*", "*/*"):
        found = [quality for media, quality in ranges if media == name]
        if found:
            return max(found)
    return 0.0


def _parsed(part: str) -> tuple[str, float]:
    """``text/csv;q=0.5`` as ``("text/csv", 0.5)``; a quality that is none counts as 1."""
    media, *parameters = (piece.strip().lower() for piece in part.split(";"))
    for parameter in parameters:
        name, _, value = parameter.partition("=")
        if name.strip() == "q" and _Q.fullmatch(value.strip()):
            return media, min(1.0, float(value))
    return media, 1.0
