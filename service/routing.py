"""What a route is: enough to serve it, to guard it, and to describe it."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from http import HTTPStatus
from types import MappingProxyType
from typing import Any

from aiohttp import web
from aiohttp.typedefs import Handler

from service import auth, body
from service.auth import Access
from service.problem_type import ProblemType

JSON = "application/json"


@dataclass(frozen=True)
class Answer:
    """A good answer: what it means, and the type of its body for each media type."""

    meaning: str
    content: Mapping[str, Any] = field(default_factory=dict)
    headers: Mapping[str, str] = field(default_factory=dict)
    """Names of headers worth telling of, and what they hold."""


@dataclass(frozen=True)
class Route:
    """One method of one path, its handler, who may use it, and what OpenAPI says of it.

    ``body`` maps media types to types; the type may be a :class:`Payload`. ``refusals`` are the
    problems that it may answer with beside those that any route may.
    """

    method: str
    path: str
    handler: Handler
    access: Access
    tag: str
    summary: str
    answers: Mapping[int, Answer]
    description: str = ""
    query: type | None = None
    headers: Mapping[str, str] = field(default_factory=dict)
    body: Mapping[str, Any] = field(default_factory=dict)
    refusals: tuple[ProblemType, ...] = ()
    body_optional: bool = False
    slash: bool = False
    """Whether the path is known with and without a trailing slash."""
    around: Callable[[Handler], Handler] | None = None
    """What the guarded handler is wrapped in, where its errors have a form of their own."""

    @property
    def paths(self) -> tuple[str, ...]:
        """The path in all its spellings."""
        other = self.path.rstrip("/") if self.path.endswith("/") else self.path + "/"
        return (self.path, other) if self.slash else (self.path,)


def ok(kind: Any, meaning: str = "", *, status: int = 200, **headers: str) -> Mapping[int, Answer]:
    """The answers of a route that has but one, in JSON. ``headers`` have ``_`` for ``-``."""
    told = {name.replace("_", "-"): holds for name, holds in headers.items()}
    phrase = meaning or HTTPStatus(status).phrase
    return MappingProxyType({status: Answer(phrase, {JSON: kind}, told)})


def install(app: web.Application, routes: tuple[Route, ...]) -> None:
    """Serve ``routes``, each guarded as it says; GET answers HEAD too, but for event streams."""
    for route in routes:
        handler = auth.guarded(route.access, route.handler)
        if route.around is not None:
            handler = route.around(handler)
        streams = any("text/event-stream" in each.content for each in route.answers.values())
        methods = ("GET", "HEAD") if route.method == "GET" and not streams else (route.method,)
        for path in route.paths:
            resource = app.router.add_resource(path)
            for method in methods:
                resource.add_route(method, handler, expect_handler=body.expect_later)
