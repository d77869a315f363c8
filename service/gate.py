"""The raised bridge, at the API: who is let in, who waits, and when nothing is left inside.

A middleware, after errors became problems. It asks the document in memory only, so it costs next
to nothing while the bridge is down.
"""

import asyncio
import random
import re
from collections.abc import Iterable
from datetime import datetime
from typing import Any

import msgspec
from aiohttp import web
from aiohttp.typedefs import Handler

from control import logs
from control.clock import Clock, iso
from control.errors import BridgeUp, ControlStateStale
from control.flags.document import Document, Flag
from control.flags.presence import Presence
from control.flags.replica import Replica
from service import problems, sse
from service.bypass import HEADER, Bypass
from service.problems import Problem

APP_STATUS = "{app_status}"
"""Stands for the base path of the app-status routes, which is a setting."""

EXCLUDED_API = (
    APP_STATUS + "/app-health-status",
    APP_STATUS + "/app-maintenance-status",
    APP_STATUS + "/toggle-app-maintenance-status",
    APP_STATUS + "/app-data-ingestion-status",
    APP_STATUS + "/toggle-app-data-ingestion-status",
    APP_STATUS + "/reset-app-data-ingestion-status",
    "/health",
    "/ready",
    "/api/system/health",
    "/api/v1/health",
    "/api/v1/status",
    "/metrics",
    "/control",
    "/status",
    "/api/status",
    "/api/v2",
    "/history.rss",
    "/history.atom",
    "/badge.svg",
    "/badge",
    "/openapi.json",
    "/docs",
    "/problems",
)
"""What a raised bridge does not hold up: these paths, and those below them."""

UNKNOWN_S = 60
"""``Retry-After`` where nobody said how long it takes."""

JITTER = 0.2
"""Share by which ``Retry-After`` varies, so that callers do not come back all at once."""

_BYPASSED = web.RequestKey("bypassed", bool)
_SAFE = frozenset({"GET", "HEAD"})
_LOG = logs.get(__name__)


def excluded(paths: Iterable[str], app_status_base: str) -> frozenset[str]:
    """Those of ``paths`` (templates of routes) that stay open under maintenance."""
    known = _pattern(app_status_base)
    return frozenset(path for path in paths if known.fullmatch(path))


def refusal(flag: Flag | None, now: datetime) -> Problem:
    """What callers are told while the bridge is up. ``None``: the script knew before we did."""
    flag = flag or Flag(is_active=True)
    retry_s = retry_after_s(flag.until, now)
    why = f": {flag.reason}" if flag.reason else ""
    members = {
        "reason": flag.reason,
        "until": iso(flag.until) if flag.until else None,
        "mode": flag.mode,
        "retry_after_s": retry_s,
    }
    return Problem(
        problems.BRIDGE_UP, f"Maintenance is on{why}.", members, {"Retry-After": str(retry_s)}
    )


def retry_after_s(until: datetime | None, now: datetime) -> int:
    """Whole seconds, at least 1: the rest of the window, a fifth more or less."""
    rest_s = (until - now).total_seconds() if until is not None else 0.0
    varied = random.uniform(1 - JITTER, 1 + JITTER)  # noqa: S311 - not a secret
    return max(1, round((rest_s if rest_s > 0 else UNKNOWN_S) * varied))


class Gate:
    """Lets requests in by the flags as this instance knows them, and tells when all have left.

    ``open_paths`` are the templates of routes that it never holds up. What fits no route is held
    up like any other, unless its path, as it was sent, is one of :data:`EXCLUDED_API`: it will be
    answered 404 or 405 in any case.
    """

    def __init__(
        self,
        replica: Replica,
        presence: Presence,
        *,
        open_paths: frozenset[str],
        app_status_base: str,
        bypass: Bypass,
        clock: Clock,
    ) -> None:
        self._replica = replica
        self._presence = presence
        self._open_paths = open_paths
        self._excluded = _pattern(app_status_base)
        self._bypass = bypass
        self._clock = clock
        self._inside = {True: 0, False: 0}
        """Requests that were let in and still run: those that only read, and the others."""
        self._stopping = False
        self._told: tuple[str, int, bool] | None = None
        self._shut = asyncio.Event()
        """Set while the bridge is up for everybody."""
        replica.on_change(self._changed)
        self._changed(replica.document, replica.document)

    @web.middleware
    async def check(self, request: web.Request, handler: Handler) -> web.StreamResponse:
        """Let the request in, or raise the :class:`Problem` that it is answered with."""
        resource = request.match_info.route.resource
        if resource is not None:
            if resource.canonical in self._open_paths:
                return await handler(request)
        elif self._excluded.fullmatch(request.rel_url.raw_path):
            return await handler(request)
        safe = request.method in _SAFE
        raised = self._replica.raised
        if raised is not None and not (safe and raised.mode == "read_only"):
            return await self._raised(request, handler, raised)
        if not self._replica.admits():
            raise ControlStateStale("this instance does not know whether the bridge is up")
        self._inside[safe] += 1
        try:
            return await handler(request)
        except BridgeUp:  # a script of the job engine knew it first
            raise refusal(self._replica.raised, self._clock.now()) from None
        finally:
            self._inside[safe] -= 1
            if self._replica.raised is not None:
                self._tell()

    def ending(self, request: web.Request) -> list[sse.Ending]:
        """What ends an event stream: the bridge goes up, unless the caller passes it anyway."""
        return [] if request.get(_BYPASSED) else [self._last_event()]

    def stopping(self) -> None:
        """The process is about to stop; the fleet is told."""
        self._stopping = True
        self._tell()

    async def _raised(
        self, request: web.Request, handler: Handler, flag: Flag
    ) -> web.StreamResponse:
        """A request that the raised bridge holds up, unless it brings a good bypass.

        It is not counted: who brings one knows that the bridge is up.
        """
        token = request.headers.get(HEADER)
        bearer = self._bypass.bearer(token) if token is not None else None
        if bearer is None:
            raise refusal(flag, self._clock.now())
        request[_BYPASSED] = True
        resource = request.match_info.route.resource
        _LOG.info(
            "[AUDIT] bypass used",
            actor=bearer.actor,
            jti=bearer.jti,
            method=request.method,
            route=resource.canonical if resource is not None else "unmatched",
        )
        if not self._replica.admits():
            raise ControlStateStale("this instance does not know how the flags stand")
        try:
            return await handler(request)
        except BridgeUp:
            raise refusal(self._replica.raised, self._clock.now()) from None

    async def _last_event(self) -> sse.Message:
        await self._shut.wait()
        return sse.Message("maintenance", self._announcement())

    def _announcement(self) -> str:
        told = refusal(self._replica.raised, self._clock.now()).members
        wanted: dict[str, Any] = {name: told[name] for name in ("reason", "until", "retry_after_s")}
        return msgspec.json.encode(wanted).decode()

    def _changed(self, _before: Document, _after: Document) -> None:
        raised = self._replica.raised
        if raised is not None and raised.mode == "full":
            self._shut.set()
        else:
            self._shut.clear()
        self._tell()

    def _tell(self) -> None:
        """Report where this instance stands, if that has changed."""
        raised = self._replica.raised
        inside = 0
        if raised is not None:
            inside = self._inside[False] + (self._inside[True] if raised.mode == "full" else 0)
        quiesced = raised is not None and inside == 0
        phase = "serving" if raised is None else "raised" if quiesced else "draining"
        report = ("stopping" if self._stopping else phase, inside, quiesced)
        if report != self._told:
            self._told = report
            phase, inside, quiesced = report
            self._presence.report(phase=phase, running=inside, quiesced=quiesced)


def _pattern(app_status_base: str) -> re.Pattern[str]:
    """Fits the excluded paths: whole segments, nothing encoded, no segment that begins with a dot.

    ``/healthy``, ``/control/%2e%2e/jobs`` and ``/control/../jobs`` do not pass.
    """
    paths = (path.replace(APP_STATUS, app_status_base) for path in EXCLUDED_API)
    return re.compile(rf"(?:{'|'.join(map(re.escape, paths))})(?:/(?!\.)[^/%]+)*/?")
