"""Subscriptions to the status page, for people: forms that work without JavaScript.

What changes something is a POST: links in messages are opened by programs too.
"""

from urllib.parse import parse_qs

from aiohttp import web
from aiohttp.typedefs import Handler

from control.errors import InvalidInput, StoreUnavailable
from control.subscribers.channel import Channel
from control.subscribers.links import PAGES
from control.subscribers.roster import Component
from control.subscribers.tokens import BadToken
from service import body, middleware
from service.appkeys import CLIENTS, CONFIG, STATUS_TITLE, SUBSCRIPTIONS
from service.handlers.subscriptions import MAX_BODY, drained, token_of
from service.statuspage import subscribing
from service.statuspage.pages import Site
from service.statuspage.subscribing import POLICY, Given

FORM = "application/x-www-form-urlencoded"
_MOST_FIELDS = 500
_HEADERS = {
    "Content-Security-Policy": POLICY,
    "Cache-Control": "no-store",
    "X-Robots-Tag": "noindex",
}


def paged(handler: Handler) -> Handler:
    """``handler``, with every error that it ends in shown as a page."""

    async def wrapped(request: web.Request) -> web.StreamResponse:
        try:
            return await handler(request)
        except BadToken:
            return _page(subscribing.unknown_page(_site(request)), 404)
        except (ConnectionError, web.HTTPException):
            raise
        except Exception as error:
            problem = middleware.problem_of(request, error)
            why = problem.detail
            if isinstance(error, StoreUnavailable):
                why = "This cannot be looked up or kept right now. Try again in a minute."
            text = subscribing.closed_page(_site(request), why)
            return _page(text, problem.status, **problem.headers)

    return wrapped


async def form(request: web.Request) -> web.Response:
    """The form, to be filled in."""
    return await _form(request, Given())


async def subscribe(request: web.Request) -> web.Response:
    """The form, filled in; shown again where something in it is wrong."""
    fields = await _fields(request)
    given = Given(_one(fields, "channel"), _one(fields, "address"), _chosen(fields))
    try:
        _require_choice(fields)
        asked = await request.app[SUBSCRIPTIONS].ask(
            _channel(given.channel), given.address, given.components,
            request.app[CLIENTS].of(request),
        )  # fmt: skip
    except InvalidInput as error:
        return await _form(request, given, _sentence(error), 422)
    return _page(subscribing.asked_page(_site(request), asked.channel, asked.secret), 202)


async def confirm(request: web.Request) -> web.Response:
    """A button that confirms."""
    token = token_of(request)
    found = await request.app[SUBSCRIPTIONS].get(token, "confirm")
    if found is None:
        raise BadToken
    return _page(subscribing.confirm_page(_site(request), token, found))


async def confirmed(request: web.Request) -> web.Response:
    """The button was pressed."""
    await drained(request)
    subscriptions = request.app[SUBSCRIPTIONS]
    found = await subscriptions.confirm(token_of(request))
    if found is None:
        raise BadToken
    manage = subscriptions.addresses(found).manage
    path = PAGES + manage.partition(PAGES)[2]  # on this host, whichever name it goes by
    return _page(subscribing.confirmed_page(_site(request), found, path))


async def manage(request: web.Request) -> web.Response:
    """What a subscription is about."""
    return await _managed(request)


async def change(request: web.Request) -> web.Response:
    """What it is about from now on."""
    fields = await _fields(request)
    try:
        _require_choice(fields)
        found = await request.app[SUBSCRIPTIONS].change(token_of(request), _chosen(fields))
    except InvalidInput as error:
        return await _managed(request, error=_sentence(error))
    if found is None:
        raise BadToken
    return await _managed(request, saved=True)


async def end(request: web.Request) -> web.Response:
    """A button that ends it."""
    request.app[SUBSCRIPTIONS].check(token_of(request))
    return _page(subscribing.end_page(_site(request), token_of(request)))


async def ended(request: web.Request) -> web.Response:
    """The button was pressed, or a mail program asks by one click (RFC 8058): whatever the body."""
    await drained(request)
    await request.app[SUBSCRIPTIONS].end(token_of(request))
    return _page(subscribing.ended_page(_site(request)))


async def _form(
    request: web.Request, given: Given, error: str = "", status: int = 200
) -> web.Response:
    offered = request.app[SUBSCRIPTIONS].offered
    if not offered:  # no 503: under maintenance that would look like the raised bridge
        return _page(subscribing.closed_page(_site(request), "Nobody can subscribe here yet."), 404)
    known = await _components(request)
    text = subscribing.subscribe_page(_site(request), offered, known, given, error)
    return _page(text, status)


async def _managed(request: web.Request, *, saved: bool = False, error: str = "") -> web.Response:
    found = await request.app[SUBSCRIPTIONS].get(token_of(request), "manage")
    if found is None or found.state == "pending":
        raise BadToken
    text = subscribing.manage_page(
        _site(request), token_of(request), found, await _components(request),
        saved=saved, error=error,
    )  # fmt: skip
    return _page(text, 422 if error else 200)


async def _components(request: web.Request) -> list[Component]:
    return await request.app[SUBSCRIPTIONS].components()


async def _fields(request: web.Request) -> dict[str, list[str]]:
    """What the form says. Raises :class:`Problem`."""
    body.media_type(request, (FORM,))
    sent = await body.read(request, max_body=min(MAX_BODY, request.app[CONFIG].max_body))
    try:
        return parse_qs(body.text(sent), keep_blank_values=True, max_num_fields=_MOST_FIELDS)
    except ValueError:
        raise InvalidInput("has too many fields", "body") from None


def _one(fields: dict[str, list[str]], name: str) -> str:
    return fields.get(name, [""])[-1]


def _chosen(fields: dict[str, list[str]]) -> tuple[str, ...]:
    some = _one(fields, "scope") == "some"
    return tuple(dict.fromkeys(fields.get("component", ()))) if some else ()


def _require_choice(fields: dict[str, list[str]]) -> None:
    if _one(fields, "scope") == "some" and not fields.get("component"):
        raise InvalidInput("Choose at least one of them")


def _channel(name: str) -> Channel:
    try:
        return Channel(name)
    except ValueError:
        raise InvalidInput("Choose how you want to be told") from None


def _sentence(error: InvalidInput) -> str:
    """What is wrong, as people are told it."""
    said = str(error).removeprefix(f"{error.where}: ")
    return f"The {error.where} {said}." if error.where else f"{said}."


def _site(request: web.Request) -> Site:
    return Site(request.app[STATUS_TITLE], "")


def _page(text: str, status: int = 200, **headers: str) -> web.Response:
    return web.Response(
        text=text, status=status, content_type="text/html", charset="utf-8",
        headers={**headers, **_HEADERS},
    )  # fmt: skip
