"""What happens to every request: an id, a log line, headers, and errors as problems.

From the outside in: :func:`probes_first`, :func:`correlate`, :func:`explain`, the gate
(:mod:`service.gate`), then whoever guards the route (see :mod:`service.auth`), then the handler.
"""

import asyncio
import re
import time

import structlog
from aiohttp import web
from aiohttp.typedefs import Handler

from control import ids, logs
from service import problems
from service.appkeys import PROBLEM, REQUEST_ID

_LOG = logs.get(__name__)
CLIENT_LEFT = 499
"""What the log says of a request whose caller went away; nobody receives it."""

_PROBES = re.compile(r"/(health|ready|api/system/health|api/v1/(health|status))(/.*)?")
"""Asked every second or so; a line for each good answer would bury the others."""

_DIRECT = frozenset({"/health", "/health/", "/ready", "/ready/"})
_SECURITY = {
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    "Referrer-Policy": "no-referrer",
    "Content-Security-Policy": "default-src 'none'; frame-ancestors 'none'",
    "Cross-Origin-Resource-Policy": "same-origin",
}
"""On every answer; a page that needs more sets its own policy."""


@web.middleware
async def probes_first(request: web.Request, handler: Handler) -> web.StreamResponse:
    """Answer the plain probes past all that follows: they need nothing of it, and leave no line.

    What changes in them is logged by the health engine, once.
    """
    resource = request.match_info.route.resource
    if resource is None or resource.canonical not in _DIRECT or request.query_string:
        return await handler(request)
    request[REQUEST_ID] = _request_id(request)
    return await request.match_info.handler(request)


@web.middleware
async def correlate(request: web.Request, handler: Handler) -> web.StreamResponse:
    """Give the request its id, bind it to the log context, and log one line when it is over."""
    request_id = request[REQUEST_ID] = _request_id(request)
    began = time.perf_counter()
    status = 500
    with structlog.contextvars.bound_contextvars(request_id=request_id):
        try:
            response = await handler(request)
            status = response.status
        except asyncio.CancelledError:
            status = CLIENT_LEFT
            raise
        else:
            return response
        finally:
            _log_line(request, status, time.perf_counter() - began)


@web.middleware
async def explain(request: web.Request, handler: Handler) -> web.StreamResponse:
    """Turn every error into a problem; what nobody foresaw is logged with its traceback."""
    try:
        return await handler(request)
    except ConnectionError:
        return web.Response(status=CLIENT_LEFT)
    except Exception as error:
        return problem_of(request, error).response(request[REQUEST_ID])


def problem_of(request: web.Request, error: Exception) -> problems.Problem:
    """What ``error`` means to the caller; the log line of the request will name it."""
    problem = problems.of(error)
    if problem is None:
        _LOG.error("unforeseen error", route=_route(request), exc_info=True)
        problem = problems.internal()
    request[PROBLEM] = problem
    return problem


async def add_headers(request: web.Request, response: web.StreamResponse) -> None:
    """The headers that every answer carries, event streams included."""
    if request_id := request.get(REQUEST_ID):
        response.headers["X-Request-ID"] = request_id
    response.headers["Server"] = "drawbridge"
    for name, value in _SECURITY.items():
        response.headers.setdefault(name, value)


def _request_id(request: web.Request) -> str:
    headers = request.headers
    return ids.correlation_id(headers.get("X-Request-ID"), headers.get("X-Correlation-ID"))


def _log_line(request: web.Request, status: int, took_s: float) -> None:
    """One line a request, and no query: it may hold secrets."""
    route = _route(request)
    said: dict[str, object] = {}
    if problem := request.get(PROBLEM):
        said = {"problem": problem.type.name, "detail": problem.detail}
    log = _LOG.debug if status < 400 and _PROBES.fullmatch(route) else _LOG.info
    ms = round(took_s * 1000, 2)
    log("request", method=request.method, route=route, status=status, ms=ms, **said)


def _route(request: web.Request) -> str:
    """The template of the route, so that logs can be counted by it and hold no ids."""
    resource = request.match_info.route.resource
    return resource.canonical if resource is not None else "unmatched"


MIDDLEWARES = (probes_first, correlate, explain)
"""In the order in which a request meets them."""
