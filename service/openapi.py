"""The OpenAPI 3.1 document, made from the route table and the types of the bodies themselves."""

import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import replace
from http import HTTPStatus
from typing import Annotated, Any

import msgspec

from control import __version__
from service import body, problems
from service.auth import Access
from service.examples import BODIES
from service.handlers.kinds import form
from service.problem_type import ProblemType
from service.routing import Route
from service.schemas import KindForm, Payload, ProblemDocument
from service.submission import MOST_AT_ONCE, with_terms
from worker.jobs.kinds import Kind, Kinds

_BATCH = msgspec.Meta(min_length=1, max_length=MOST_AT_ONCE)
_PARAMETER = re.compile(r"\{(\w+)\}")
_REF = "#/components/schemas/{name}"
_PATH_PARAMETERS = {
    "flag": {
        "description": "app_maintenance, app_data_ingestion, or another that is declared",
        "schema": {"type": "string"},
    },
    "run_id": {
        "description": "The id that the submission was answered with",
        "schema": {"type": "string", "pattern": "^[0-7][0-9A-HJKMNP-TV-Z]{25}$"},
    },
}
_EVERYWHERE = (problems.INTERNAL, problems.HEAD_TOO_LARGE)
_GUARDED = (
    *(problems.UNAUTHORISED, problems.FORBIDDEN),
    *(problems.TOO_OFTEN, problems.UNAVAILABLE),
)
_GATED = (problems.BRIDGE_UP, problems.CONTROL_STATE_STALE)
_SECURITY: Mapping[Access, list[dict[str, list[str]]]] = {
    Access.PUBLIC: [],
    Access.JOBS: [{"token": []}, {}],
}
_REQUEST_ID = {
    "name": "X-Request-ID",
    "in": "header",
    "description": "1 to 128 printable characters, returned and logged, and carried with a job; "
    "without it one is made. `X-Correlation-ID` is the same.",
    "schema": {"type": "string", "minLength": 1, "maxLength": 128, "pattern": "^[ -~]+$"},
}
_HEADER = {"X-Request-ID": "the request's id: the one that came with it, or a new one"}


def document(routes: Iterable[Route], kinds: Kinds, open_paths: frozenset[str]) -> bytes:
    """The document as JSON. ``open_paths`` are those that a raised bridge does not hold up."""
    routes = tuple(own for route in routes for own in _for_each_kind(route, kinds))
    schemas = _Schemas(routes, kinds)
    paths: dict[str, dict[str, Any]] = {}
    for route in routes:
        paths.setdefault(route.path, {})[route.method.lower()] = _operation(
            route, schemas, gated=route.path not in open_paths
        )
    tags = list(dict.fromkeys(route.tag for route in routes))
    return msgspec.json.encode({
        "openapi": "3.1.0",
        "info": {
            "title": "Drawbridge",
            "version": __version__,
            "description": "Run long computations as jobs, and raise the bridge over all of them.",
            "license": {"name": "MIT", "identifier": "MIT"},
        },
        "servers": [{"url": "/"}],
        "tags": [{"name": tag} for tag in tags],
        "paths": paths,
        "components": {
            "schemas": schemas.components,
            "parameters": {"request_id": _REQUEST_ID},
            "securitySchemes": {"token": {"type": "http", "scheme": "bearer"}},
        },
    })  # fmt: skip


def _for_each_kind(route: Route, kinds: Kinds) -> Iterator[Route]:
    """The route, or where its path names a kind, one for each: they differ in their bodies, and
    ``/jobs/{kind}`` would be the same path as ``/jobs/{run_id}``."""
    if "{kind}" not in route.path:
        yield route
        return
    for kind in kinds:
        bodies = {media: _body_of(kind, stated) for media, stated in route.body.items()}
        path = route.path.replace("{kind}", kind.name)
        yield replace(
            route, path=path, body=bodies, summary=f"{route.summary} of the kind {kind.name}"
        )


def _body_of(kind: Kind, stated: Any) -> Any:
    if not isinstance(stated, KindForm):
        return stated
    return Annotated[list[form(kind)], _BATCH] if stated.many else form(kind)  # type: ignore[misc]


class _Schemas:
    """The schema of every type that a route names, by a reference into the components."""

    def __init__(self, routes: tuple[Route, ...], kinds: Kinds) -> None:
        self._kinds = kinds
        types = [self._actual(kind) for route in routes for kind in _types(route)]
        types = list(dict.fromkeys(types))
        schemas, self.components = msgspec.json.schema_components(types, ref_template=_REF)
        self._schemas: dict[Any, dict[str, Any]] = dict(zip(types, schemas, strict=True))

    def of(self, kind: Any) -> dict[str, Any]:
        """The schema of ``kind``."""
        return self._schemas[self._actual(kind)]

    def _actual(self, kind: Any) -> Any:
        if not isinstance(kind, Payload):
            return kind
        found = self._kinds.get(kind.kind)
        if found is None:
            raise RuntimeError(f"a route submits the unknown kind {kind.kind!r}")
        return with_terms(found)


def _types(route: Route) -> Iterator[Any]:
    yield ProblemDocument
    if route.query is not None:
        yield route.query
    yield from route.body.values()
    for each in route.answers.values():
        yield from each.content.values()


def _operation(route: Route, schemas: _Schemas, *, gated: bool) -> dict[str, Any]:
    operation: dict[str, Any] = {
        "tags": [route.tag],
        "summary": route.summary,
        "operationId": _operation_id(route),
        "parameters": [
            *_path(route),
            *_query(route, schemas),
            *_headers(route),
            {"$ref": "#/components/parameters/request_id"},
        ],
        "responses": _responses(route, schemas, gated=gated),
        "security": _SECURITY.get(route.access, [{"token": []}]),
    }
    if route.description:
        operation["description"] = route.description
    if route.body:
        operation["requestBody"] = {
            "required": not route.body_optional,
            "content": _exemplified(_content(route.body, schemas), BODIES.get(route.path, {})),
        }
    return operation


def _operation_id(route: Route) -> str:
    words = re.findall(r"[\w.:-]+" if route.path.startswith("/jobs/") else r"\w+", route.path)
    return "_".join((route.method.lower(), *words)).replace("openapi_json", "openapi")


def _path(route: Route) -> Iterator[dict[str, Any]]:
    for name in _PARAMETER.findall(route.path):
        known = _PATH_PARAMETERS.get(name, {"schema": {"type": "string"}})
        yield {"name": name, "in": "path", "required": True, **known}


def _query(route: Route, schemas: _Schemas) -> Iterator[dict[str, Any]]:
    if route.query is None:
        return
    reference = schemas.of(route.query)["$ref"].rpartition("/")[2]
    described = schemas.components[reference]
    for name, schema in described["properties"].items():
        yield {"name": name, "in": "query", "schema": schema}


def _headers(route: Route) -> Iterator[dict[str, Any]]:
    for name, meaning in route.headers.items():
        yield {"name": name, "in": "header", "description": meaning, "schema": {"type": "string"}}


def _responses(route: Route, schemas: _Schemas, *, gated: bool) -> dict[str, Any]:
    responses: dict[str, Any] = {
        str(status): {
            "description": each.meaning,
            "headers": _told({**_HEADER, **each.headers}),
            **({"content": _content(each.content, schemas)} if each.content else {}),
        }
        for status, each in route.answers.items()
    }
    by_status: dict[str, list[ProblemType]] = {}
    general = _EVERYWHERE if route.access is Access.PUBLIC else (*_GUARDED, *_EVERYWHERE)
    for applies, kinds_of in (
        (bool(route.body), body.REFUSALS),
        (gated, _GATED),
    ):
        general = (*general, *kinds_of) if applies else general
    for kind in dict.fromkeys((*route.refusals, *general)):
        by_status.setdefault(str(kind.status), []).append(kind)
    for status, kinds in sorted(by_status.items()):
        if status not in responses:
            responses[status] = _problem(status, kinds, schemas)
    return responses


def _problem(status: str, kinds: list[ProblemType], schemas: _Schemas) -> dict[str, Any]:
    told = " ".join(f"`{kind.uri}`: {kind.title}. {kind.meaning}" for kind in kinds)
    headers = dict(_HEADER)
    if status in ("429", "503"):
        headers["Retry-After"] = "seconds until the request may be sent again"
    if status == "401":
        headers["WWW-Authenticate"] = "how to authenticate"
    return {
        "description": told or HTTPStatus(int(status)).phrase,
        "headers": _told(headers),
        "content": {problems.CONTENT_TYPE: {"schema": schemas.of(ProblemDocument)}},
    }


def _content(types: Mapping[str, Any], schemas: _Schemas) -> dict[str, Any]:
    return {media: {"schema": schemas.of(kind)} for media, kind in types.items()}


def _exemplified(content: dict[str, Any], examples: Mapping[str, Any]) -> dict[str, Any]:
    return {
        media: {**told, "example": examples[media]} if media in examples else told
        for media, told in content.items()
    }


def _told(headers: Mapping[str, str]) -> dict[str, Any]:
    return {
        name: {"description": meaning, "schema": {"type": "string"}}
        for name, meaning in headers.items()
    }
