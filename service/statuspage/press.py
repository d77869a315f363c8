"""Prints each page and feed once for each edition of what is known, and keeps it.

The ETag is of the content alone, so that it is the same in every replica, and stays while nothing
changes that is told. What depends on the time of day (an overdue update) is looked at again every
few seconds.
"""

import gzip
import hashlib
import re
from collections import OrderedDict
from collections.abc import Callable, Hashable
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from aiohttp import web

from control.clock import Clock
from control.status.view import StatusView
from service.statuspage.standing import Board, Knowledge, Standing, stand

AGAIN_S = 5.0
"""A print is as good as new for so long, if nothing is news."""

_SOON_S = 1.0
"""For so long even where something small has changed, such as the minutes of an outage."""

RETRY_AFTER_S = "30"
"""Of a page that cannot be made now."""

_KEPT = 128
_TAGS = re.compile(r'(?:W/)?"([^"]*)"')
_GZIP = re.compile(r"\s*(?:gzip|\*)\s*(?:;\s*q=(?!0(?:\.0*)?\s*$).*)?", re.IGNORECASE)
_SHARED = "public, max-age=0, s-maxage=5, must-revalidate"
"""Browsers ask each time, and mostly hear 304; a shared cache takes the crowd of an outage."""


@dataclass(frozen=True)
class Printed:
    """A document as it is sent."""

    body: bytes
    compressed: bytes
    tag: str
    content_type: str
    policy: str | None = None
    """Its Content-Security-Policy, where it is a page."""
    status: int = 200

    def to(self, request: web.Request) -> web.Response:
        """The answer to ``request``: the document, or 304 where the caller has it."""
        zipped = _takes_gzip(request.headers.get("Accept-Encoding", ""))
        headers = {
            "ETag": f'"{self.tag}{"-gzip" if zipped else ""}"',
            "Cache-Control": _SHARED if self.status == 200 else "no-store",
            "Vary": "Accept-Encoding",
        }
        if self.status == 503:
            headers["Retry-After"] = RETRY_AFTER_S
        if self.policy is None:  # what others may show in pages of their own
            headers |= ELSEWHERE
        else:
            headers["Content-Security-Policy"] = self.policy
        if self.status == 200 and self._is_known(request.headers.get("If-None-Match", "")):
            return web.Response(status=304, headers=headers)
        headers["Content-Type"] = self.content_type
        if zipped:
            headers["Content-Encoding"] = "gzip"
        body = self.compressed if zipped else self.body
        return web.Response(status=self.status, body=body, headers=headers)

    def _is_known(self, wanted: str) -> bool:
        """RFC 9110, 13.1.2: any of the tags, compared weakly, or ``*``."""
        tags = {found.removesuffix("-gzip") for found in _TAGS.findall(wanted)}
        return wanted.strip() == "*" or self.tag in tags


ELSEWHERE = {
    "Access-Control-Allow-Origin": "*",
    "Access-Control-Expose-Headers": "ETag",
    "Cross-Origin-Resource-Policy": "cross-origin",
}
"""Lets pages of others read an answer, or show it."""


def printed(
    text: str | bytes, content_type: str, *, policy: str | None = None, status: int = 200
) -> Printed:
    """``text`` as it is sent."""
    body = text.encode() if isinstance(text, str) else text
    told = hashlib.sha256(content_type.encode() + b"\0" + body)
    tag = told.hexdigest()[:32]
    return Printed(body, gzip.compress(body, 6, mtime=0), tag, content_type, policy, status)


Make = Callable[[Standing, datetime], Printed]


@dataclass(frozen=True)
class _Kept:
    """A print, and what it was made from."""

    printed: Printed
    edition: tuple[Any, ...]
    view: StatusView
    at: float


class Press:
    """Prints from what ``board`` shows."""

    def __init__(self, board: Board, clock: Clock) -> None:
        self._board = board
        self._clock = clock
        self._kept: OrderedDict[Hashable, _Kept] = OrderedDict()

    @property
    def standing(self) -> Standing:
        """How things stand."""
        return stand(self._board)

    def print(self, key: Hashable, make: Make) -> Printed:
        """The document ``key``, made by ``make`` where what was kept is not as good."""
        standing, view, at = self.standing, self._board.view, self._clock.monotonic()
        edition = _edition(standing)
        kept = self._kept.get(key)
        if kept is not None and kept.edition == edition:
            age_s = at - kept.at
            if age_s < _SOON_S or (age_s < AGAIN_S and _same(kept.view, view)):
                return kept.printed
        made = make(standing, self._clock.now())
        if kept is not None and kept.printed.tag == made.tag:
            made = kept.printed
        self._kept[key] = _Kept(made, edition, view, at)
        self._kept.move_to_end(key)
        while len(self._kept) > _KEPT:
            self._kept.popitem(last=False)
        return made


def _same(before: StatusView, after: StatusView) -> bool:
    """Whether all parts are the same objects; only ``as_of`` moves by itself."""
    return (
        before.components is after.components
        and before.incidents is after.incidents
        and before.windows is after.windows
    )


def _edition(standing: Standing) -> tuple[Any, ...]:
    """What nobody may be told late."""
    dated = None if standing.knowledge is Knowledge.FRESH else standing.as_of
    statuses = tuple(each.status for each in standing.components)
    return (standing.overall, standing.knowledge, dated, standing.last_updated, standing.bridge,
            statuses)  # fmt: skip


def _takes_gzip(accepted: str) -> bool:
    return any(_GZIP.fullmatch(each) for each in accepted.split(","))
