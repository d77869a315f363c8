"""The Postman collection asks what the service serves: every route of its folders, no other."""

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from control.clock import SystemClock
from control.config import ServiceSection
from control.health.engine import Engine
from control.health.probes import Probes
from control.metrics.registry import Metrics
from service import routes

FILE = Path(__file__).parents[2] / "deploy" / "postman" / "drawbridge.postman_collection.json"
COLLECTION: dict[str, Any] = json.loads(FILE.read_text())
VARIABLES = {each["key"]: each["value"] for each in COLLECTION["variable"]}


def requests() -> Iterator[tuple[str, dict[str, Any]]]:
    for folder in COLLECTION["item"]:
        for item in folder["item"]:
            yield folder["name"], item


def address(request: dict[str, Any]) -> str:
    """The path of a request as a template of the route table."""
    path = "/" + "/".join(request["url"]["path"])
    path = path.replace("{{appStatusBase}}", VARIABLES["appStatusBase"])
    return re.sub(r"\{\{(\w+)\}\}", r"{\1}", path)


def test_it_has_every_route_of_its_folders() -> None:
    clock = SystemClock()
    probes = Probes(Engine((), clock=clock), clock=clock)
    table = routes.table(probes, Metrics("service"), ServiceSection().app_status_base)
    served = {
        (route.tag, route.method, route.path)
        for route in table
        if route.tag in ("App Status", "Control")
    }
    asked = [(tag, item["request"]["method"], address(item["request"])) for tag, item in requests()]
    assert len(asked) == len(set(asked)) == 14
    assert set(asked) == served


@pytest.mark.parametrize("item", [item for _, item in requests()], ids=lambda item: item["name"])
def test_each_request_has_tests_and_known_variables(item: dict[str, Any]) -> None:
    (script,) = [event["script"] for event in item["event"] if event["listen"] == "test"]
    assert "pm.test(" in "\n".join(script["exec"])
    url = item["request"]["url"]
    assert url["raw"].startswith("{{baseUrl}}/")
    assert url["raw"].partition("?")[0] == "{{baseUrl}}/" + "/".join(url["path"])
    used = set(re.findall(r"\{\{([^$}]+)\}\}", json.dumps(item)))
    assert used <= VARIABLES.keys()
    if body := item["request"].get("body"):
        json.loads(body["raw"])


def test_it_is_of_the_version_that_tools_read_and_holds_no_token() -> None:
    assert COLLECTION["info"]["schema"].endswith("/v2.1.0/collection.json")
    assert VARIABLES["token"] == ""
    assert VARIABLES.keys() >= {"baseUrl", "token"}
