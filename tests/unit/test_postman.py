"""The Postman collection asks what the service serves: every route, and no other."""

import json
import re
from collections.abc import Iterator
from typing import Any

import pytest

from tests.postman import FILE, address, table

COLLECTION: dict[str, Any] = json.loads(FILE.read_text())
VARIABLES = {each["key"]: each["value"] for each in COLLECTION["variable"]}


def requests() -> Iterator[tuple[str, dict[str, Any]]]:
    for folder in COLLECTION["item"]:
        for item in folder["item"]:
            yield folder["name"], item


def test_it_has_every_route() -> None:
    """Where this fails, `python -m tests.postman` adds what is missing."""
    served = {(route.tag, route.method, route.path) for route in table()}
    asked = [
        (tag, item["request"]["method"], address(item["request"], VARIABLES))
        for tag, item in requests()
    ]
    assert len(asked) == len(set(asked))
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
