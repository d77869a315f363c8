"""What happens to every request: an id, a log line, headers, and errors as problems.

From the outside in: :class:`Arrivals`, where probes have their answer already, :func:`explain`, the
gate (:mod:`service.gate`), then whoever guards the route (see :mod:`service.auth`), then the
handler.
"""

import asyncio
import time
from typing import TYPE_CHECKING

import structlog
from aiohttp import web
from aiohttp.typedefs import Handler
from multidict import CIMultiDict

from control import ids, logs
from control.health.probes import HEADERS, Probes
from service import inputs, problems
from service.appkeys import HEALTH, PROBLEM, REQUEST_ID, RUN_ID, STATUS_SITE, TRACEPARENT
from service.traffic import Traffic, route_of

if TYPE_CHECKING:
    from control.tracing.spans import Tracing

_LOG = logs.get(__name__)
CLIENT_LEFT = 499
"""What the log says of a request whose caller went away; nobody receives it."""

_PROBES = (
    "/health",
    "/ready",
    "/metrics",
    "/api/system/health",
    "/api/v1/health",
    "/api/v1/status",
)
"""Asked every second or so; a line for each good answer would bury the others."""

_READING = frozenset({"GET", "HEAD"})
_POLICY = "Content-Security-Policy"
_READERS = "Cross-Origin-Resource-Policy"
_ALWAYS = CIMultiDict({
    "Server": "drawbridge",
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    "Referrer-Policy": "no-referrer",
    _READERS: "same-origin",
    _POLICY: "default-src 'none'; frame-ancestors 'none'",
})  # fmt: skip
"""On every answer; a page that needs more sets its own policy, and what pages of others may show
says so."""

_UNREADABLE = {
    400: problems.MALFORMED,
    408: problems.TOO_SLOW,
    431: problems.HEAD_TOO_LARGE,
    500: problems.INTERNAL,
}
_OF_PROBES = CIMultiDict({**HEADERS, **_ALWAYS})


class Arrivals:
    """Where every request comes in, and is counted in ``traffic`` when it has its answer."""

    def __init__(self, traffic: Traffic, probes: Probes) -> None:
        self._count = traffic.count
        self._probes = {"/health": probes.living, "/ready": probes.standing}
        self._probes |= {path + "/": probe for path, probe in self._probes.items()}

    def at_once(self, request: web.BaseRequest) -> web.Response | None:
        """Answer the plain probes before all else: they need nothing of it, and leave no line.

        What changes in them is logged by the health engine, once.
        """
        probe = self._probes.get(request.raw_path)
        if probe is None or request.method not in _READING or "Expect" in request.headers:
            return None
        began = time.perf_counter()
        status, body = probe()
        response = web.Response(status=status, body=body, headers=_OF_PROBES)
        response.headers["X-Request-ID"] = _request_id(request)
        self._count(request.raw_path, request.method, status, time.perf_counter() - began)
        return response

    def refuse(self, status: int, why: str) -> web.Response:
        """The answer to what could not be read, which meets nothing else of this module."""
        request_id = ids.new_id()
        kind = _UNREADABLE.get(status, problems.OTHER)
        response = problems.Problem(kind, why, status=status).response(request_id)
        response.headers.update(_ALWAYS)
        response.headers["X-Request-ID"] = request_id
        self._count("unmatched", "other", status, None)
        return response

    @web.middleware
    async def correlate(self, request: web.Request, handler: Handler) -> web.StreamResponse:
        """Give the request its id, bind it to the log context, and log one line when it is over."""
        request_id = request[REQUEST_ID] = _request_id(request)
        began = time.perf_counter()
        status, whole = 500, False
        bound = structlog.contextvars.bind_contextvars(request_id=request_id)
        try:
            response = await handler(request)
            status, whole = response.status, isinstance(response, web.Response)
        except asyncio.CancelledError:
            status = CLIENT_LEFT
            raise
        else:
            return response
        finally:
            took_s, route = time.perf_counter() - began, route_of(request)
            self._count(route, request.method, status, took_s if whole else None)
            _log_line(request, route, status, took_s)
            structlog.contextvars.reset_contextvars(**bound)


class Traces:
    """A span for each request; there only where the configuration wants them."""

    def __init__(self, tracing: "Tracing") -> None:
        self._tracing = tracing

    @web.middleware
    async def trace(self, request: web.Request, handler: Handler) -> web.StreamResponse:
        """Handle the request in a span that its jobs' spans will be below."""
        route = route_of(request)
        span = self._tracing.begin(
            f"{request.method} {route}",
            "SERVER",
            inputs.traceparent(request),
            http__route=route,
            http__request__method=request.method,
            drawbridge__request_id=request[REQUEST_ID],
        )
        request[TRACEPARENT] = span.traceparent
        status = CLIENT_LEFT
        try:
            response = await handler(request)
            status = response.status
            return response
        finally:
            failed = str(status) if status >= 500 else None
            span.end(failed, http__response__status_code=status)


@web.middleware
async def explain(request: web.Request, handler: Handler) -> web.StreamResponse:
    """Turn every error into a problem; what nobody foresaw is logged with its traceback."""
    try:
        return await handler(request)
    except ConnectionError:
        return web.Response(status=CLIENT_LEFT)
    except Exception as error:
        if isinstance(error, web.HTTPNotFound) and _is_page(request):
            return request.app[STATUS_SITE].missing().to(request)
        return problem_of(request, error).response(request[REQUEST_ID])


def _is_page(request: web.Request) -> bool:
    """Whether somebody looks for a page of the status, who would be shown JSON otherwise."""
    below = request.path.startswith("/status/")
    return below and "text/html" in request.headers.get("Accept", "")


def problem_of(request: web.Request, error: Exception) -> problems.Problem:
    """What ``error`` means to the caller; the log line of the request will name it.

    A dependency that it names is probed at once.
    """
    problem = problems.of(error)
    if problem is None:
        _LOG.error("unforeseen error", route=route_of(request), exc_info=True)
        problem = problems.internal()
    if away := problem.members.get("dependency"):
        request.app[HEALTH].suspect(str(away))
    request[PROBLEM] = problem
    return problem


async def add_headers(request: web.Request, response: web.StreamResponse) -> None:
    """The headers that every answer carries, event streams included."""
    headers = response.headers
    policy, readers = headers.get(_POLICY), headers.get(_READERS)
    headers.update(_ALWAYS)
    if policy is not None:
        headers[_POLICY] = policy
        if "frame-ancestors *" in policy:
            del headers["X-Frame-Options"]
    if readers is not None:
        headers[_READERS] = readers
    if request_id := request.get(REQUEST_ID):
        headers["X-Request-ID"] = request_id


def _request_id(request: web.BaseRequest) -> str:
    headers = request.headers
    return ids.correlation_id(headers.get("X-Request-ID"), headers.get("X-Correlation-ID"))


def _log_line(request: web.Request, route: str, status: int, took_s: float) -> None:
    """One line a request, and no query: it may hold secrets."""
    said: dict[str, object] = {}
    run_id = request.get(RUN_ID) or request.match_info.get("run_id", "")
    if ids.is_id(run_id):
        said["run_id"] = run_id
    if problem := request.get(PROBLEM):
        said |= {"problem": problem.type.name, "detail": problem.detail}
    log = _LOG.debug if status < 400 and route.startswith(_PROBES) else _LOG.info
    log(
        "request",
        method=request.method,
        route=route,
        status=status,
        ms=round(took_s * 1000, 2),
        **said,
    )
