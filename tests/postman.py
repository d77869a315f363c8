"""Add to the Postman collection what it lacks: `python -m tests.postman` after a new route.

What is there is left as it is, so a request may be made better by hand.
"""

import json
import re
from pathlib import Path
from typing import Any

from control.clock import SystemClock
from control.config import ServiceSection
from control.health.engine import Engine
from control.health.probes import Probes
from control.metrics.registry import Metrics
from service import problems as p
from service import routes
from service.auth import Access
from service.examples import BODIES
from service.routing import JSON, Route

FILE = Path(__file__).parents[1] / "deploy" / "postman" / "drawbridge.postman_collection.json"
VARIABLES = {
    "run_id": "",
    "kind": "optimize",
    "check": "redis",
    "file": "start.js",
    "name": "not-found",
    "subscription_token": "",
    "subscriber_id": "",
    "incident": "01M8F000000000000000000000",
    "window": "01M8F000000000000000000000",
    "month": "2026-11",
    "component": "api",
    "series": "01M8F000000000000000000000",
}
"""Of paths; a submission sets ``run_id``."""


def table() -> tuple[Route, ...]:
    """Every route of the service."""
    clock = SystemClock()
    probes = Probes(Engine((), clock=clock), clock=clock)
    return routes.table(probes, Metrics("service"), ServiceSection().app_status_base)


def address(request: dict[str, Any], variables: dict[str, str]) -> str:
    """The path of a request as a template of the route table."""
    path = "/" + "/".join(request["url"]["path"])
    path = path.replace("{{appStatusBase}}", variables["appStatusBase"])
    return re.sub(r"\{\{(\w+)\}\}", r"{\1}", path)


def item(route: Route) -> dict[str, Any]:
    """A request for ``route``, which checks that its answer is one that is documented."""
    parts = re.sub(r"\{(\w+)\}", r"{{\1}}", route.path).removeprefix("/").split("/")
    expected = sorted({*route.answers, *(kind.status for kind in route.refusals), 503})
    script = [
        'pm.test("answers as documented", function () {',
        f"    pm.expect(pm.response.code).to.be.oneOf({expected});",
        "});",
    ]
    bodies = BODIES if route.body else {}
    body = bodies.get(route.path.replace("{kind}", "optimize"), {}).get(JSON)
    if body is not None and p.KEY_REUSED in route.refusals and "batch" not in route.path:
        script += [
            "if (pm.response.code < 300) {",
            '    pm.collectionVariables.set("run_id", pm.response.json().run_id);',
            "}",
        ]
    request: dict[str, Any] = {"method": route.method, "header": []}
    if route.access is Access.PUBLIC:
        request["auth"] = {"type": "noauth"}
    if body is not None:
        request["header"] = [{"key": "Content-Type", "value": "application/json"}]
        if "Idempotency-Key" in route.headers:
            request["header"].insert(0, {"key": "Idempotency-Key", "value": "{{$guid}}"})
        request["body"] = {"mode": "raw", "raw": json.dumps(body, indent=2)}
    raw = "/".join(("{{baseUrl}}", *parts))
    request["url"] = {"raw": raw, "host": ["{{baseUrl}}"], "path": parts}
    request["description"] = route.description or f"{route.summary}."
    told = {"listen": "test", "script": {"type": "text/javascript", "exec": script}}
    return {"name": route.summary, "event": [told], "request": request, "response": []}


def main() -> None:
    """Add the requests, and the variables that they use."""
    collection = json.loads(FILE.read_text())
    collection["info"] |= {
        "name": "Drawbridge",
        "description": "Every route. Set baseUrl and token (an operator's) first.",
    }
    variables = {each["key"]: each["value"] for each in collection["variable"]}
    collection["variable"] += [
        {"key": key, "value": value} for key, value in VARIABLES.items() if key not in variables
    ]
    folders = {folder["name"]: folder["item"] for folder in collection["item"]}
    known = {
        (each["request"]["method"], address(each["request"], variables))
        for items in folders.values()
        for each in items
    }
    for route in table():
        if (route.method, route.path) not in known:
            if route.tag not in folders:
                folders[route.tag] = []
                collection["item"].append({"name": route.tag, "item": folders[route.tag]})
            folders[route.tag].append(item(route))
    FILE.write_text(json.dumps(collection, indent=2) + "\n")


if __name__ == "__main__":
    main()
