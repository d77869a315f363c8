"""Bodies as somebody might send them, by path and media type: for the API's description."""

from collections.abc import Mapping
from types import MappingProxyType
from typing import Any

from service.routing import JSON

LP = "Minimize\n cost: 2 x + 3 y\nSubject To\n need: x + y >= 4\nBounds\n x <= 3\nEnd\n"
MPS = """\
NAME          TINY
ROWS
 N  cost
 G  need
COLUMNS
    x         cost      2.0        need      1.0
    y         cost      3.0        need      1.0
RHS
    rhs       need      4.0
BOUNDS
 UP bnd       x         3.0
ENDATA
"""
_MODEL = {"problem": {"format": "lp", "content": LP}, "options": {"time_limit_s": 60}}
_SUBMISSION = {**_MODEL, "priority": "normal"}
_JOB = {"payload": _MODEL, "priority": "normal"}
_WHY = {"reason": "database upgrade", "until": "2026-11-21T04:00:00Z"}
_WINDOW = {
    "title": "Database upgrade", "scheduled_start": "2026-12-01T22:00:00Z",
    "scheduled_end": "2026-12-02T00:00:00Z", "affected_components": ["database"],
    "raise_bridge": True,
}  # fmt: skip

BODIES: Mapping[str, Mapping[str, Any]] = MappingProxyType({
    "/optimize": {JSON: _SUBMISSION, "application/x-lp": LP, "application/x-mps": MPS},
    "/jobs/optimize": {JSON: _JOB},
    "/jobs/optimize:batch": {JSON: [_JOB, _JOB]},
    "/control/flags/{flag}": {JSON: {"is_active": True, **_WHY}},
    "/control/flags/{flag}/toggle": {JSON: _WHY},
    "/control/flags/{flag}/reset": {JSON: {"reason": "the import has ended"}},
    "/api/status/incidents/create": {JSON: {
        "title": "Slow answers", "description": "We see *latency*.", "severity": "major",
        "affected_components": ["api", {"id": "database", "impact": "degraded"}],
    }},
    "/api/status/incidents/{incident}/updates": {JSON: {
        "message": "It is the cache.", "status": "identified",
    }},
    "/api/status/incidents/{incident}/resolve": {JSON: {
        "root_cause": "A cache was full.", "resolution": "It was emptied.",
    }},
    "/api/status/maintenance": {JSON: _WINDOW},
    "/api/status/maintenance/create": {JSON: _WINDOW},
    "/api/status/maintenance/{window}": {JSON: {"title": "Database upgrade, part two"}},
    "/api/status/maintenance/{window}/extend": {JSON: {"minutes": 30}},
    "/api/status/components": {JSON: {"name": "Shop", "checks": ["redis@partial_outage"]}},
    "/api/status/components/{component}": {JSON: {"description": "Where it is sold."}},
    "/api/status/components/{component}/override": {JSON: {
        "status": "degraded", "until": "2026-11-21T04:00:00Z",
    }},
    "/control/bypass": {JSON: {"ttl_s": 900, "reason": "smoke test behind the bridge"}},
    "/api/status/subscriptions": {
        JSON: {"channel": "email", "address": "ada@example.org", "components": []}
    },
    "/api/status/subscriptions/{subscription_token}": {JSON: {"components": ["api"]}},
})  # fmt: skip
"""Kinds are named in their paths, as OpenAPI has them."""
