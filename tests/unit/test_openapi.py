"""The OpenAPI document is a valid one, whatever kinds there are, and tells of every header."""

from typing import Any

import msgspec
import pytest
from jsonschema import Draft202012Validator
from openapi_spec_validator import OpenAPIV31SpecValidator

from control.config import ServiceSection
from service import gate, openapi
from service.examples import BODIES, LP, MPS
from tests.postman import table
from worker.jobs import kinds


def made(*modules: str) -> dict[str, Any]:
    served, base = table(), ServiceSection().app_status_base
    open_paths = gate.excluded((route.path for route in served), base)
    text = openapi.document(served, kinds.load(modules), open_paths)
    document: dict[str, Any] = msgspec.json.decode(text)
    return document


@pytest.mark.parametrize("modules", [(), ("tests.models.user_kinds",)])
def test_it_is_valid(modules: tuple[str, ...]) -> None:
    OpenAPIV31SpecValidator(made(*modules)).validate()


def operations(document: dict[str, Any]) -> list[tuple[str, dict[str, Any]]]:
    return [
        (f"{method} {path}", operation)
        for path, methods in document["paths"].items()
        for method, operation in methods.items()
    ]


def test_each_operation_has_a_name_of_its_own_and_tells_of_errors_and_headers() -> None:
    found = operations(made("tests.models.user_kinds"))
    names = [operation["operationId"] for _, operation in found]
    assert len(names) == len(set(names)) > 60
    for where, operation in found:
        assert "500" in operation["responses"], where
        for status, answer in operation["responses"].items():
            assert "X-Request-ID" in answer["headers"], where
            if status in ("429", "503") and "application/problem+json" in answer["content"]:
                assert "Retry-After" in answer["headers"], where


def test_each_operation_with_a_body_tells_how_it_may_be_refused() -> None:
    found = operations(made("tests.models.user_kinds"))
    with_body = [each for each in found if "requestBody" in each[1]]
    assert len(with_body) > 30
    for where, operation in with_body:
        assert operation["responses"].keys() >= {"400", "408", "413", "415"}, where
        pages = where.startswith("post /status/")
        media = "text/html" if pages else "application/problem+json"
        for status in ("400", "408", "413", "415"):
            assert operation["responses"][status]["content"].keys() == {media}, where


def test_app_status_routes_that_change_tell_of_if_match() -> None:
    base, paths = ServiceSection().app_status_base, made()["paths"]
    for path, method in (
        ("toggle-app-maintenance-status", "post"),
        ("toggle-app-data-ingestion-status", "post"),
        ("reset-app-data-ingestion-status", "put"),
    ):
        operation = paths[f"{base}/{path}"][method]
        assert "ETag" in operation["responses"]["412"]["headers"]
        assert "If-Match" in {each.get("name") for each in operation["parameters"]}


def test_examples_are_what_the_schemas_ask_for() -> None:
    document = made()
    found = []
    for where, operation in operations(document):
        for media, told in operation.get("requestBody", {}).get("content", {}).items():
            if "example" in told:
                found.append((where.partition(" ")[2], media))
                schema = {**told["schema"], "components": document["components"]}
                Draft202012Validator(schema).validate(told["example"])
    assert sorted(found) == sorted((path, each) for path in BODIES for each in BODIES[path])


@pytest.mark.parametrize(("form", "content"), [("lp", LP), ("mps", MPS)])
def test_examples_of_models_can_be_read(form: str, content: str) -> None:
    kind = kinds.load(()).get("optimize")
    assert kind is not None
    assert kind.validated({"problem": {"format": form, "content": content}})
