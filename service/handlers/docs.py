"""The API's description: the OpenAPI document, Swagger UI offline, and the types of problems."""

from importlib import resources

from aiohttp import web

from service.appkeys import OPENAPI
from service.problems import NOT_FOUND, TYPES, Problem

_PAGE_POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self' 'unsafe-inline'; "
    "img-src 'self' data:; connect-src 'self'; frame-ancestors 'none'"
)
_TYPES = {
    "swagger-ui.css": "text/css",
    "swagger-ui-bundle.js": "text/javascript",
    "start.js": "text/javascript",
    "favicon-32x32.png": "image/png",
}
"""The files of the page; nothing else of the folder is served."""

_FILES = resources.files("service") / "static" / "docs"


async def openapi(request: web.Request) -> web.Response:
    """The OpenAPI document."""
    return web.Response(body=request.app[OPENAPI], content_type="application/json")


async def page(_request: web.Request) -> web.Response:
    """Swagger UI over the OpenAPI document."""
    return web.Response(
        body=(_FILES / "index.html").read_bytes(),
        content_type="text/html",
        charset="utf-8",
        headers={"Content-Security-Policy": _PAGE_POLICY},
    )


async def asset(request: web.Request) -> web.Response:
    """A file of that page."""
    name = request.match_info["file"]
    if name not in _TYPES:
        raise Problem(NOT_FOUND, "The documentation has no such file.")
    return web.Response(
        body=(_FILES / name).read_bytes(),
        content_type=_TYPES[name],
        headers={"Cache-Control": "public, max-age=3600"},
    )


async def problem(request: web.Request) -> web.Response:
    """What a type of problem means."""
    found = TYPES.get(request.match_info["name"])
    if found is None:
        raise Problem(NOT_FOUND, "There is no such type of problem.")
    return web.Response(text=f"{found.title} ({found.status})\n\n{found.meaning}\n")
