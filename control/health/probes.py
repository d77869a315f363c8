"""``/health`` and ``/ready``, for the service and for the worker. Served from memory alone."""

import asyncio
from collections.abc import Callable
from dataclasses import dataclass
from http import HTTPStatus

import msgspec
from aiohttp import web

from control import __version__
from control.clock import Clock, iso
from control.health.check import Importance, Snapshot, State
from control.health.dependencies import READY
from control.health.engine import Engine

_HEADERS = {"Cache-Control": "no-store", "Content-Type": "application/json"}


@dataclass(frozen=True)
class _Answer:
    """An answer of ``/ready`` and what it was made from; good until a result in it turns stale."""

    snapshot: Snapshot
    shutting_down: bool
    stale: bool
    good_until: float
    status: HTTPStatus
    body: bytes


class Probes:
    """What load balancers and orchestrators ask."""

    def __init__(self, engine: Engine, *, clock: Clock, version: str = __version__) -> None:
        self.shutting_down = asyncio.Event()
        """Set it at SIGTERM: ``/ready`` says 503 from then on."""
        self._engine = engine
        self._clock = clock
        self._version = version
        self.control_stale: Callable[[], bool] = lambda: False
        """Whether this instance has lost touch with the control plane. The body of ``/ready`` says
        so; its status does not depend on it."""
        self._started = clock.monotonic()
        self._answer: _Answer | None = None

    def add_to(self, application: web.Application) -> None:
        """Add the routes, each with and without the trailing slash, for GET and HEAD."""
        for path, handler in (("/health", self.health), ("/ready", self.ready)):
            application.router.add_get(path, handler)
            application.router.add_get(path + "/", handler)

    async def health(self, _request: web.Request) -> web.Response:
        """Liveness: 200 as long as this process serves, whatever its dependencies do."""
        body = {
            "status": "ok",
            "timestamp": iso(self._clock.now()),
            "version": self._version,
            "uptime_seconds": round(self._clock.monotonic() - self._started, 3),
        }
        return web.Response(body=msgspec.json.encode(body), headers=_HEADERS)

    async def ready(self, _request: web.Request) -> web.Response:
        """Readiness: 200, or 503 while a required dependency is down and from SIGTERM on."""
        answer = self._answer
        if (
            answer is None
            or answer.snapshot is not self._engine.snapshot
            or answer.shutting_down is not self.shutting_down.is_set()
            or answer.stale is not self.control_stale()
            or self._clock.monotonic() >= answer.good_until
        ):
            answer = self._answer = self._encode()
        return web.Response(status=answer.status, body=answer.body, headers=_HEADERS)

    def _encode(self) -> _Answer:
        snapshot, now = self._engine.snapshot, self._clock.monotonic()
        results = snapshot.tagged(READY)
        words = {result.name: result.word_at(now) for result in results}
        ready = all(
            result.state_at(now) is State.OK
            for result in results
            if result.importance is Importance.REQUIRED
        )
        shutting_down, control_stale = self.shutting_down.is_set(), self.control_stale()
        told: dict[str, object] = {"dependencies": words}
        if control_stale:
            told["control_state"] = "stale"
        status, body = HTTPStatus.SERVICE_UNAVAILABLE, _refusal(told)
        if shutting_down:
            body = _refusal(told, reason="shutting_down")
        elif ready:
            status, body = HTTPStatus.OK, {"status": "ready", **told}
        stale = (result.stale_from for result in results if result.stale_from > now)
        return _Answer(
            snapshot,
            shutting_down,
            control_stale,
            min(stale, default=float("inf")),
            status,
            msgspec.json.encode(body),
        )


def _refusal(told: dict[str, object], **why: str) -> dict[str, object]:
    return {"detail": {**why, **told}}
