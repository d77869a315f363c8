"""``/health`` and ``/ready``, for the service and for the worker. Served from memory alone."""

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from http import HTTPStatus

import msgspec
from aiohttp import web

from control import __version__
from control.clock import Clock, iso
from control.health.check import Importance, Snapshot, State
from control.health.dependencies import READY
from control.health.engine import Engine
from control.health.report import report

_NO = frozenset({"no", "false", "0", "off"})
_SHUTTING_DOWN = "shutting_down"
HEADERS = {"Cache-Control": "no-store", "Content-Type": "application/json"}
"""Of every answer to a probe."""


@dataclass(frozen=True)
class _Answer:
    """An answer of ``/ready`` and what it was made from; good until a result in it turns stale."""

    snapshot: Snapshot
    shutting_down: bool
    stale: bool
    good_until: float
    status: HTTPStatus
    words: dict[str, str]
    body: bytes

    def response(self) -> web.Response:
        """The answer, for one caller."""
        return web.Response(status=self.status, body=self.body, headers=HEADERS)


class Probes:
    """What load balancers and orchestrators ask."""

    def __init__(self, engine: Engine, *, clock: Clock, version: str = __version__) -> None:
        self.shutting_down = asyncio.Event()
        """Set it at SIGTERM: ``/ready`` says 503 from then on."""
        self._engine = engine
        self._clock = clock
        self.version = version
        self.control_stale: Callable[[], bool] = lambda: False
        """Whether this instance has lost touch with the control plane. The body of ``/ready`` says
        so; its status does not depend on it."""
        self.may_see_all: Callable[[web.Request], Awaitable[bool]] = _nobody
        """Who is shown more than states. Asked only where a caller wants to see more."""
        self._started = clock.monotonic()
        self._answer: _Answer | None = None

    def add_to(self, application: web.Application) -> None:
        """Add the routes, each with and without the trailing slash, for GET and HEAD."""
        for path, handler in (
            ("/health", self.health),
            ("/ready", self.ready),
            ("/ready/{check}", self.ready_of),
        ):
            application.router.add_get(path, handler)
            application.router.add_get(path + "/", handler)

    @property
    def uptime_s(self) -> float:
        """Seconds since the start, to the millisecond."""
        return round(self._clock.monotonic() - self._started, 3)

    def readiness(self) -> tuple[bool, dict[str, str]]:
        """What ``/ready`` says: whether this process can do its work, and a word on each check."""
        answer = self._current()
        return answer.status is HTTPStatus.OK, answer.words

    def living(self) -> tuple[int, bytes]:
        """What ``/health`` answers: status and body."""
        return 200, self.alive()

    def standing(self) -> tuple[int, bytes]:
        """What a plain ``/ready`` answers: status and body."""
        answer = self._current()
        return int(answer.status), answer.body

    def alive(self) -> bytes:
        """The body of ``/health``. May be called from another thread."""
        body = {
            "status": "ok",
            "timestamp": iso(self._clock.now()),
            "version": self.version,
            "uptime_seconds": self.uptime_s,
        }
        return msgspec.json.encode(body)

    async def health(self, _request: web.Request) -> web.Response:
        """Liveness: 200 as long as this process serves, whatever its dependencies do."""
        return web.Response(body=self.alive(), headers=HEADERS)

    async def ready(self, request: web.Request) -> web.Response:
        """Readiness: 200, or 503 while a required dependency is down and from SIGTERM on.

        ``?exclude=neo4j`` (again and again, or divided by commas) leaves checks out of the answer;
        ``?verbose`` adds every check as ``/health/detailed`` has it.
        """
        answer = self._current()
        if request.query_string:
            verbose = request.query.get("verbose", "no").lower() not in _NO
            full = verbose and await self.may_see_all(request)
            texts = request.query.getall("exclude", [])
            excluded = frozenset(name for text in texts for name in text.split(","))
            answer = self._encode(excluded=excluded, verbose=verbose, full=full)
        return answer.response()

    async def ready_of(self, request: web.Request) -> web.Response:
        """One check in the form of ``/ready``, whatever its importance; 404 for an unknown one.
        From SIGTERM on it is 503 as well."""
        name = request.match_info["check"]
        result = self._engine.snapshot.results.get(name)
        if result is None:
            raise web.HTTPNotFound
        now = self._clock.monotonic()
        told: dict[str, object] = {"dependencies": {name: result.word_at(now)}}
        status, body = HTTPStatus.SERVICE_UNAVAILABLE, _refusal(told)
        if self.shutting_down.is_set():
            body = _refusal(told, reason=_SHUTTING_DOWN)
        elif result.state_at(now) is State.OK:
            status, body = HTTPStatus.OK, {"status": "ready", **told}
        return web.Response(status=status, body=msgspec.json.encode(body), headers=HEADERS)

    def _current(self) -> _Answer:
        answer = self._answer
        if (
            answer is None
            or answer.snapshot is not self._engine.snapshot
            or answer.shutting_down is not self.shutting_down.is_set()
            or answer.stale is not self.control_stale()
            or self._clock.monotonic() >= answer.good_until
        ):
            answer = self._answer = self._encode()
        return answer

    def _encode(
        self,
        *,
        excluded: frozenset[str] = frozenset(),
        verbose: bool = False,
        full: bool = False,
    ) -> _Answer:
        snapshot, now = self._engine.snapshot, self._clock.monotonic()
        results = [result for result in snapshot.tagged(READY) if result.name not in excluded]
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
        if verbose:
            told["checks"] = {
                result.name: report(result, now, full=full) for result in snapshot.results.values()
            }
        status, body = HTTPStatus.SERVICE_UNAVAILABLE, _refusal(told)
        if shutting_down:
            body = _refusal(told, reason=_SHUTTING_DOWN)
        elif ready:
            status, body = HTTPStatus.OK, {"status": "ready", **told}
        stale = (result.stale_from for result in results if result.stale_from > now)
        return _Answer(
            snapshot,
            shutting_down,
            control_stale,
            min(stale, default=float("inf")),
            status,
            words,
            msgspec.json.encode(body),
        )


async def _nobody(_request: web.Request) -> bool:
    return False


def _refusal(told: dict[str, object], **why: str) -> dict[str, object]:
    return {"detail": {**why, **told}}
