"""The health routes beside ``/health`` and ``/ready``: pages, and who asks for which.

What each tells is decided in :mod:`service.health_pages`.
"""

import contextlib
from typing import Any

import msgspec
from aiohttp import web
from aiohttp.typedefs import Handler
from msgspec import UNSET

from control.health.check import Importance, Result, State
from control.health.dependencies import DATABASE, NEO4J, REDIS
from control.health.instance import OWN, RESOURCES
from control.health.report import EXTERNAL, Status, Verdict, overall, slowest_ms
from service import health_bodies as bodies
from service import negotiation
from service.appkeys import HEALTH_PAGES
from service.health_pages import Facts, Page
from service.problems import Problem

JSON = "application/json"
HEALTH_JSON = "application/health+json"
API_VERSION = "v1"
NAME = "drawbridge"


def detailed_page(facts: Facts) -> tuple[bool, Any]:
    """The whole and every check."""
    return facts.serves, bodies.Detailed(
        facts.overall, facts.timestamp, facts.version, facts.uptime_s, facts.slowest_ms,
        facts.reports(facts.results.values()),
    )  # fmt: skip


def health_json_page(facts: Facts) -> tuple[bool, Any]:
    """The same in the form of the internet draft ``draft-inadarei-api-health-check``."""
    return facts.serves, bodies.HealthJson(
        _PASS[facts.overall], API_VERSION, facts.version, NAME,
        f"Drawbridge ({facts.environment})",
        {f"{name}:responseTime": [_component(facts, r)] for name, r in facts.results.items()},
    )  # fmt: skip


def _component(facts: Facts, result: Result) -> bodies.Component:
    told = facts.report(result)
    measured = told.checked_at is not UNSET
    return bodies.Component(
        result.name,
        "datastore" if result.name in _STORES else "component",
        _PASS[Status(told.status)],
        told.response_time_ms if measured else UNSET,
        "ms" if measured else UNSET,
        told.checked_at,
        told.error,
    )


_STORES = frozenset({REDIS, NEO4J, DATABASE})
_PASS: dict[str, Any] = {
    Status.HEALTHY: "pass",
    Status.DEGRADED: "warn",
    Status.STARTING: "warn",
    Status.UNHEALTHY: "fail",
    Status.UNKNOWN: "fail",
}


def database_page(facts: Facts) -> tuple[bool, Any]:
    """PostgreSQL alone."""
    return _one(facts, DATABASE)


def redis_page(facts: Facts) -> tuple[bool, Any]:
    """Redis alone."""
    return _one(facts, REDIS)


def _one(facts: Facts, name: str) -> tuple[bool, Any]:
    result = facts.results[name]
    told = msgspec.structs.asdict(facts.report(result))
    return facts.well(result), bodies.OneCheck(**told, timestamp=facts.timestamp)


def external_page(facts: Facts) -> tuple[bool, Any]:
    """The services of others."""
    found = facts.tagged(EXTERNAL)
    slowest = slowest_ms(found) if facts.full else None
    good, verdict = _of_others(facts)
    return good, bodies.External(verdict, facts.timestamp, slowest, facts.reports(found))


def _of_others(facts: Facts) -> tuple[bool, Verdict]:
    """One that is down degrades; only where every one is down is there nothing left."""
    found = facts.tagged(EXTERNAL)
    if found and all(result.state_at(facts.monotonic) is State.DOWN for result in found):
        return False, "unhealthy"
    return True, overall(found, facts.monotonic)


def system_page(facts: Facts) -> tuple[bool, Any]:
    """The whole and every check, in the envelope."""
    told = bodies.Overview(
        facts.overall, facts.slowest_ms, facts.reports(facts.results.values())
    )  # fmt: skip
    return _enveloped(facts, facts.serves, told)


def system_detailed_page(facts: Facts) -> tuple[bool, Any]:
    """The same, and what runs here."""
    told = bodies.Overview(
        facts.overall, facts.slowest_ms, facts.reports(facts.results.values()), facts.version,
        facts.uptime_s,
    )  # fmt: skip
    return _enveloped(facts, facts.serves, told)


def system_simple_page(facts: Facts) -> tuple[bool, Any]:
    """The whole in one word."""
    return _enveloped(facts, facts.serves, bodies.Simple(facts.overall))


def system_readiness_page(facts: Facts) -> tuple[bool, Any]:
    """As ``/ready``."""
    return _enveloped(facts, facts.ready, bodies.Readiness(facts.ready, facts.dependencies))


def system_liveness_page(facts: Facts) -> tuple[bool, Any]:
    """As ``/health``."""
    return _enveloped(facts, True, bodies.Liveness(True, facts.uptime_s))


def system_startup_page(facts: Facts) -> tuple[bool, Any]:
    """A dependency that is down is no reason to start anew, so its first answer is enough."""
    required = (r for r in facts.results.values() if r.importance is Importance.REQUIRED)
    started = all(result.state is not State.STARTING for result in required)
    return _enveloped(facts, started, bodies.Startup(started))


def system_database_page(facts: Facts) -> tuple[bool, Any]:
    """PostgreSQL alone."""
    return _enveloped(facts, *_checked(facts, DATABASE))


def system_redis_page(facts: Facts) -> tuple[bool, Any]:
    """Redis alone."""
    return _enveloped(facts, *_checked(facts, REDIS))


def system_resources_page(facts: Facts) -> tuple[bool, Any]:
    """The machine's memory, processors, disk; never a reason to be unwell."""
    told = msgspec.structs.asdict(_checked(facts, RESOURCES)[1])
    learnt = told.pop("details") or {}
    return _enveloped(facts, True, bodies.Resources(**told, **learnt))


def _checked(facts: Facts, name: str) -> tuple[bool, Any]:
    result = facts.results[name]
    return facts.well(result), facts.report(result)


def system_external_page(facts: Facts) -> tuple[bool, Any]:
    """The services of others."""
    found = facts.tagged(EXTERNAL)
    good, verdict = _of_others(facts)
    slowest = slowest_ms(found) if facts.full else None
    return _enveloped(facts, good, bodies.Overview(verdict, slowest, facts.reports(found)))


def system_application_page(facts: Facts) -> tuple[bool, Any]:
    """This instance, and the checks of its own parts."""
    told = bodies.Application(
        NAME, facts.version, facts.environment, facts.uptime_s,
        facts.reports(facts.tagged(OWN)),
    )  # fmt: skip
    return _enveloped(facts, True, told)


def _enveloped(facts: Facts, good: bool, data: Any) -> tuple[bool, Any]:
    return good, bodies.Envelope(good, facts.timestamp, data)


def v1_page(facts: Facts) -> tuple[bool, Any]:
    """The whole and the database. Without its database this route is not well."""
    connected = facts.well(facts.results[DATABASE])
    verdict = facts.overall if connected else "unhealthy"
    good = verdict != "unhealthy"
    return good, bodies.Health(verdict, facts.timestamp, _connected(facts))


def v1_status_page(facts: Facts) -> tuple[bool, Any]:
    """The same and what runs here; always good news."""
    verdict = v1_page(facts)[1].status
    return True, bodies.ServiceStatus(
        verdict, facts.timestamp, _connected(facts), facts.version, API_VERSION,
        facts.environment, facts.uptime_s, _memory(facts),
    )  # fmt: skip


def _connected(facts: Facts) -> bodies.Connected:
    result = facts.results[DATABASE]
    told = facts.report(result)
    return bodies.Connected(
        "connected" if facts.well(result) else "disconnected",
        told.response_time_ms,
        "postgresql",
        told.error,
    )


def _memory(facts: Facts) -> bodies.UsedMemory:
    learnt: Any = facts.results[RESOURCES].details.get("process", {}) if facts.full else {}
    return bodies.UsedMemory(learnt.get("memory_mb"), learnt.get("memory_percent"))


def v1_ready_page(facts: Facts) -> tuple[bool, Any]:
    """As ``/ready``, in a word."""
    return facts.ready, bodies.IsReady(facts.ready, facts.timestamp)


def v1_live_page(facts: Facts) -> tuple[bool, Any]:
    """As ``/health``, in a word."""
    return True, bodies.IsAlive(True, facts.timestamp)


def of(page: Page) -> Handler:
    """A handler that answers with ``page``."""

    async def handler(request: web.Request) -> web.Response:
        return await request.app[HEALTH_PAGES].answer(request, page)

    return handler


async def detailed(request: web.Request) -> web.Response:
    """Every check; as ``application/health+json`` for whoever likes that better."""
    media = JSON
    with contextlib.suppress(Problem):  # a probe that asks for neither is better off with an answer
        media = negotiation.choose(request.headers.get("Accept"), (JSON, HEALTH_JSON))
    page = health_json_page if media == HEALTH_JSON else detailed_page
    response = await request.app[HEALTH_PAGES].answer(request, page, media)
    response.headers["Vary"] = "Accept"
    return response
