"""Subscriptions to the status page, for programs; and the list of them, for administrators."""

from datetime import datetime
from typing import Annotated, Literal, TypeVar

import msgspec
from aiohttp import web
from msgspec import UNSET, Meta, UnsetType

from control import ids, logs
from control.subscribers.channel import Channel
from control.subscribers.roster import Subscriber
from service import auth, body, inputs
from service.appkeys import CLIENTS, CONFIG, ROSTER, SUBSCRIPTIONS
from service.handlers.jobs import answer
from service.problems import NOT_FOUND, Problem
from service.routing import JSON

T = TypeVar("T")
MAX_BODY = 16 << 10
_MOST_COMPONENTS = 200
_LOG = logs.get(__name__)

Chosen = Annotated[
    list[Annotated[str, Meta(max_length=63)]], Meta(max_length=_MOST_COMPONENTS, description=(
        "ids of components; empty: all, those to come included"
    ))
]  # fmt: skip
State = Literal["pending", "active", "quarantined", "ended"]


class SubscriptionRequest(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Who wants to be told, and of what."""

    channel: Channel
    address: Annotated[str, Meta(min_length=3, max_length=2048)]
    components: Chosen = []


class SubscriptionAsked(msgspec.Struct, frozen=True):
    """The request was taken. ``secret``, of a webhook, is shown this once."""

    status: Literal["pending"]
    channel: Channel
    message: str
    expires_at: datetime
    secret: str | UnsetType = UNSET


class SubscriptionChange(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What to be told of from now on."""

    components: Chosen


class Subscription(msgspec.Struct, frozen=True):
    """A subscription, as who has its link sees it; of the address only what tells it apart."""

    channel: Channel
    address: str
    components: list[str]
    status: State
    detail: str | None
    created_at: datetime
    confirmed_at: datetime | None
    manage_url: str | UnsetType = UNSET


class SubscriberView(msgspec.Struct, frozen=True):
    """A subscription, as administrators see it. ``failures``: messages in a row that failed."""

    id: str
    channel: Channel
    address: str
    components: list[str]
    status: State
    failures: int
    detail: str | None
    created_at: datetime
    confirmed_at: datetime | None


class SubscriberList(msgspec.Struct, frozen=True):
    """A page of them, newest first; ``cursor`` fetches the next one, null at the end."""

    subscribers: list[SubscriberView]
    cursor: str | None


class SubscribersQuery(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Which to list; ``address``, whole, needs ``channel``."""

    channel: Channel | None = None
    status: State | None = None
    address: Annotated[str, Meta(max_length=2048)] | None = None
    limit: Annotated[int, Meta(ge=1, le=200)] = 50
    cursor: str | None = None


MESSAGES = {
    Channel.EMAIL: "If this address can be reached, a message is on its way to it. Open the link "
    "in it to confirm.",
    Channel.SMS: "If this number can be reached, a message is on its way to it. Open the link in "
    "it to confirm.",
    Channel.WEBHOOK: "An event `subscription.confirm` is on its way to this address. POST to its "
    "`confirm_url`, or open its `page_url`, to confirm.",
}


async def subscribe(request: web.Request) -> web.Response:
    """Take a request; the same answer for every address."""
    wanted = await _read(request, SubscriptionRequest)
    asked = await request.app[SUBSCRIPTIONS].ask(
        wanted.channel, wanted.address, _unique(wanted.components), request.app[CLIENTS].of(request)
    )
    told = SubscriptionAsked(
        "pending", asked.channel, MESSAGES[asked.channel], asked.expires_at, asked.secret or UNSET
    )
    return answer(told, status=202)


async def confirm(request: web.Request) -> web.Response:
    """Confirm a request; the body does not matter."""
    await drained(request)
    found = await request.app[SUBSCRIPTIONS].confirm(token_of(request))
    return _answer(request, found)


async def read(request: web.Request) -> web.Response:
    """The subscription of a link."""
    found = await request.app[SUBSCRIPTIONS].get(token_of(request), "manage", "confirm")
    return _answer(request, found)


async def change(request: web.Request) -> web.Response:
    """Choose other components."""
    wanted = await _read(request, SubscriptionChange)
    found = await request.app[SUBSCRIPTIONS].change(token_of(request), _unique(wanted.components))
    return _answer(request, found)


async def end(request: web.Request) -> web.Response:
    """End the subscription of a link; it and its address are forgotten."""
    await request.app[SUBSCRIPTIONS].end(token_of(request))
    return web.Response(status=204, headers={"Cache-Control": "no-store"})


async def listing(request: web.Request) -> web.Response:
    """Who subscribes."""
    wanted = inputs.query(request, SubscribersQuery)
    found, cursor = await request.app[ROSTER].page(
        limit=wanted.limit, cursor=wanted.cursor, channel=wanted.channel, state=wanted.status,
        address=wanted.address,
    )  # fmt: skip
    views = [
        SubscriberView(
            each.id, each.channel, each.masked, list(each.components), _state(each), each.failures,
            each.detail, each.created_at, each.confirmed_at,
        )
        for each in found
    ]  # fmt: skip
    return answer(SubscriberList(views, cursor))


async def remove(request: web.Request) -> web.Response:
    """Remove a subscriber, whoever it is."""
    subscriber = request.match_info["subscriber_id"]
    if not ids.is_id(subscriber) or not await request.app[ROSTER].remove(subscriber):
        raise Problem(NOT_FOUND, "There is no such subscriber.")
    _LOG.info("[AUDIT] subscriber removed", actor=auth.caller(request), subscriber=subscriber)
    return web.Response(status=204, headers={"Cache-Control": "no-store"})


def token_of(request: web.Request) -> str:
    """The token in the path."""
    return request.match_info["subscription_token"]


async def drained(request: web.Request) -> None:
    """Read a body that means nothing, within limits."""
    if request.can_read_body and request.content_length != 0:
        await body.read(request, max_body=min(MAX_BODY, request.app[CONFIG].max_body))


async def _read(request: web.Request, kind: type[T]) -> T:
    body.media_type(request, (JSON,))
    inputs.query(request, inputs.NoQuery)
    max_body = min(MAX_BODY, request.app[CONFIG].max_body)
    return body.json(await body.read(request, max_body=max_body), kind)


def _answer(request: web.Request, found: Subscriber | None) -> web.Response:
    """The subscription; what is gone is as if it had never been. Raises :class:`Problem` 404."""
    if found is None:
        raise Problem(NOT_FOUND, "There is no such subscription: it ended, or nobody confirmed it.")
    manage = request.app[SUBSCRIPTIONS].addresses(found).manage
    told = Subscription(
        found.channel, found.masked, list(found.components), _state(found), found.detail,
        found.created_at, found.confirmed_at, UNSET if found.state == "pending" else manage,
    )  # fmt: skip
    return answer(told)


def _state(found: Subscriber) -> State:
    state: State = msgspec.convert(found.state, State)
    return state


def _unique(names: list[str]) -> list[str]:
    return list(dict.fromkeys(names))
