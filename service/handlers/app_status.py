"""The six app-status routes. Their answers, errors included, share one envelope.

Reading them asks nothing but this instance's memory, so they answer whatever store is away.
"""

from collections.abc import Mapping
from typing import Any

import msgspec
from aiohttp import web
from aiohttp.typedefs import Handler, Middleware

from control.clock import iso
from control.flags.commands import Verb
from control.flags.document import INGESTION, MAINTENANCE, Flag
from control.flags.outcome import Outcome, Verdict
from control.health.check import State
from service import changes, gate, middleware
from service.appkeys import CLOCK, HEALTH, PLANE, PROBES
from service.handlers.jobs import answer

STALE = "control_state_stale"
_STORES = {"database": "database_unavailable", "redis": "redis_unavailable"}


class Health(msgspec.Struct, frozen=True):
    """Why the application is not healthy; ``detail`` says more for each reason."""

    reasons: list[str] = []
    detail: dict[str, str] = {}


class MaintenanceStatus(msgspec.Struct, frozen=True):
    """Whether the bridge is up."""

    is_maintenance: bool


class IngestionStatus(msgspec.Struct, frozen=True):
    """Whether data are being ingested."""

    app_data_ingestion_status: bool


class HealthEnvelope(msgspec.Struct, frozen=True):
    """How the application is."""

    success: bool
    message: str
    data: Health


class MaintenanceEnvelope(msgspec.Struct, frozen=True):
    """Maintenance is on or off."""

    success: bool
    message: str
    data: MaintenanceStatus


class IngestionEnvelope(msgspec.Struct, frozen=True):
    """Ingestion is on or off."""

    success: bool
    message: str
    data: IngestionStatus


class ErrorEnvelope(msgspec.Struct, frozen=True):
    """What went wrong; ``data`` depends on what it was."""

    success: bool
    message: str
    data: dict[str, Any]


class HealthCheckStatusException(Exception):
    """The answer is 503: not healthy, or under maintenance.

    ``data`` is the envelope's; ``retry_after_s`` goes into the header, where it is known.
    """

    def __init__(
        self,
        message: str | None = None,
        data: Mapping[str, Any] | None = None,
        *,
        retry_after_s: int | None = None,
    ) -> None:
        self.message = message or "The application is not healthy."
        self.data = dict(data or {})
        self.headers = {} if retry_after_s is None else {"Retry-After": str(retry_after_s)}
        super().__init__(self.message)


def enveloped(handler: Handler) -> Handler:
    """``handler``, with every error that it ends in put into the envelope."""

    async def wrapped(request: web.Request) -> web.StreamResponse:
        try:
            return await handler(request)
        except HealthCheckStatusException as error:
            return _refusal(503, error.message, error.data, error.headers)
        except ConnectionError:
            raise
        except Exception as error:
            problem = middleware.problem_of(request, error)
            return _refusal(problem.status, problem.detail, problem.members, problem.headers)

    return wrapped


def strays(base: str) -> Middleware:
    """A middleware: what is below ``base`` and fits no route is refused in the envelope too.

    What fits one has its own form, for ``base`` may lead to where others are, such as ``/api/v1``.
    """
    below = base + "/"

    @web.middleware
    async def check(request: web.Request, handler: Handler) -> web.StreamResponse:
        if request.match_info.route.resource is None and request.path.startswith(below):
            handler = enveloped(handler)
        return await handler(request)

    return check


async def health(request: web.Request) -> web.Response:
    """Healthy, or every reason why not."""
    detail = _reasons(request.app)
    if detail:
        flag = request.app[PLANE].replica.raised
        raise HealthCheckStatusException(
            data={"reasons": list(detail), "detail": detail},
            retry_after_s=_retry_after_s(request, flag) if flag else None,
        )
    return answer(HealthEnvelope(True, "The application is healthy.", Health()))


async def maintenance(request: web.Request) -> web.Response:
    """503 while maintenance is on."""
    _require_known(request)
    flag = request.app[PLANE].replica.raised
    if flag is not None:
        raise HealthCheckStatusException(
            _maintenance_words(flag),
            {"is_maintenance": True},
            retry_after_s=_retry_after_s(request, flag),
        )
    return answer(MaintenanceEnvelope(True, "Maintenance is off.", MaintenanceStatus(False)))


async def toggle_maintenance(request: web.Request) -> web.Response:
    """Raise or lower the bridge."""
    outcome = await _changed(request, "toggle", MAINTENANCE)
    status = MaintenanceStatus(outcome.document.is_active(MAINTENANCE))
    word = "on" if status.is_maintenance else "off"
    if outcome.verdict is Verdict.DEBOUNCED:
        return _too_soon(outcome, f"Maintenance is {word}", status)
    return answer(MaintenanceEnvelope(True, f"Maintenance is now {word}.", status))


async def ingestion(request: web.Request) -> web.Response:
    """Whether ingestion is marked as running."""
    _require_known(request)
    return _ingestion(request.app[PLANE].replica.document.is_active(INGESTION), "is")


async def toggle_ingestion(request: web.Request) -> web.Response:
    """Flip the mark; nothing is started or stopped."""
    return await _ingestion_changed(request, "toggle")


async def reset_ingestion(request: web.Request) -> web.Response:
    """Force the mark off."""
    return await _ingestion_changed(request, "reset")


async def _ingestion_changed(request: web.Request, verb: Verb) -> web.Response:
    outcome = await _changed(request, verb, INGESTION)
    active = outcome.document.is_active(INGESTION)
    if outcome.verdict is Verdict.DEBOUNCED:
        word = "on" if active else "off"
        return _too_soon(outcome, f"Data ingestion is {word}", IngestionStatus(active))
    return _ingestion(active, "is now")


def _ingestion(active: bool, verb: str) -> web.Response:
    message = f"Data ingestion {verb} {'on' if active else 'off'}."
    return answer(IngestionEnvelope(True, message, IngestionStatus(active)))


async def _changed(request: web.Request, verb: Verb, flag: str) -> Outcome:
    """What became of the change: done or debounced; anything else raises."""
    outcome = await changes.send(request, verb, flag)
    if outcome.verdict is not Verdict.DEBOUNCED:
        changes.require_done(outcome, request, flag)
    return outcome


def _too_soon(outcome: Outcome, now: str, status: msgspec.Struct) -> web.Response:
    retry_s = changes.retry_after_s(outcome)
    message = f"{now}, and was changed a moment ago; try again in {retry_s} s."
    data = msgspec.structs.asdict(status)
    return _refusal(429, message, data, {"Retry-After": str(retry_s)})


def _refusal(
    status: int, message: str, data: Mapping[str, Any], headers: Mapping[str, str]
) -> web.Response:
    return answer(ErrorEnvelope(False, message, dict(data)), status, **headers)


def _reasons(app: web.Application) -> dict[str, str]:
    """Every reason why the application is not healthy, and a word on each."""
    replica, now = app[PLANE].replica, app[CLOCK].monotonic()
    found: dict[str, str] = {}
    if replica.raised is not None:
        found["maintenance"] = _maintenance_words(replica.raised)
    for store, reason in _STORES.items():
        result = app[HEALTH].snapshot.results[store]
        if result.state_at(now) is not State.OK:
            found[reason] = result.word_at(now)
    if replica.stale:
        age_s = replica.staleness_s
        found[STALE] = "not known yet" if age_s is None else f"last proved {age_s:.1f} s ago"
    if app[PROBES].shutting_down.is_set():
        found["shutting_down"] = "this instance is about to stop"
    return found


def _require_known(request: web.Request) -> None:
    if not request.app[PLANE].replica.known.is_set():
        raise HealthCheckStatusException(
            "The flags are not known yet.", {"reasons": [STALE]}, retry_after_s=1
        )


def _maintenance_words(flag: Flag) -> str:
    why = f": {flag.reason}" if flag.reason else ""
    until = f" (until {iso(flag.until)})" if flag.until else ""
    return f"Maintenance is on{why}{until}."


def _retry_after_s(request: web.Request, flag: Flag) -> int:
    return gate.retry_after_s(flag.until, request.app[CLOCK].now())
