"""The routes of subscriptions to the status page: part of the table in :mod:`service.routes`."""

from collections.abc import Mapping
from types import MappingProxyType

from aiohttp.typedefs import Handler

from service import problems as p
from service.auth import Access
from service.body import REFUSALS
from service.handlers import subscription_pages, subscriptions
from service.routing import JSON, Answer, Route, ok
from service.schemas import Text


def table() -> tuple[Route, ...]:
    """For programs, for people, and for administrators."""
    return (*_for_programs(), *_for_people())


_SUBSCRIBE = (
    "The owner of the address is asked to confirm; until then nothing is sent. The answer is the "
    "same whether the address is known or not. A webhook gets events as Standard Webhooks has "
    "them, signed with a `secret` that the answer shows once."
)
_ENDED = MappingProxyType({204: Answer("It has ended, and its address is forgotten")})


def _for_programs() -> tuple[Route, ...]:
    s, tag, anyone, admin = subscriptions, "Subscriptions", Access.PUBLIC, Access.ADMINISTRATOR
    root, one = "/api/status/subscriptions", "/api/status/subscriptions/{subscription_token}"
    unread = (p.INVALID, p.UNAVAILABLE)
    unknown = (p.NOT_FOUND, p.UNAVAILABLE)
    return (
        Route("POST", root, s.subscribe, anyone, tag, "Ask to be told of incidents and maintenance",
              ok(s.SubscriptionAsked, "Taken; its owner has to confirm it", status=202), _SUBSCRIBE,
              body={JSON: s.SubscriptionRequest}, refusals=(*unread, p.TOO_OFTEN)),
        Route("POST", one + "/confirm", s.confirm, anyone, tag, "Confirm a subscription",
              ok(s.Subscription), "With the token of a message that asked for it.",
              refusals=(*unknown, *REFUSALS)),
        Route("GET", one, s.read, anyone, tag, "A subscription", ok(s.Subscription),
              refusals=unknown),
        Route("PATCH", one, s.change, anyone, tag, "Change what a subscription is about",
              ok(s.Subscription), "One that ended, or is in quarantine, goes on.",
              body={JSON: s.SubscriptionChange}, refusals=(*unread, p.NOT_FOUND)),
        Route("DELETE", one, s.end, anyone, tag, "End a subscription", _ENDED, refusals=unknown),
        Route("GET", "/api/status/subscribers", s.listing, admin, tag, "Who subscribes",
              ok(s.SubscriberList), "Newest first; of addresses only what tells them apart.",
              s.SubscribersQuery, refusals=(p.FORBIDDEN, p.INVALID)),
        Route("DELETE", "/api/status/subscribers/{subscriber_id}", s.remove, admin, tag,
              "Remove a subscriber", _ENDED, refusals=(p.FORBIDDEN, p.NOT_FOUND)),
    )  # fmt: skip


def _for_people() -> tuple[Route, ...]:
    h = subscription_pages
    one = "/status/subscriptions/{subscription_token}"
    filled, nothing = {h.FORM: Text}, {h.FORM: Text, "multipart/form-data": Text}
    return (
        _page("GET", "/status/subscribe", h.form, "A form to subscribe with"),
        _page("POST", "/status/subscribe", h.subscribe, "The form, filled in", filled, good=202),
        _page("GET", one, h.manage, "A form that changes a subscription"),
        _page("POST", one, h.change, "The form, filled in", filled),
        _page("GET", one + "/confirm", h.confirm, "A button that confirms a subscription"),
        _page("POST", one + "/confirm", h.confirmed, "The button, pressed", nothing),
        _page("GET", one + "/unsubscribe", h.end, "A button that ends a subscription"),
        _page("POST", one + "/unsubscribe", h.ended,
              "The button, pressed; or one click in a mail program (RFC 8058)", nothing),
    )  # fmt: skip


def _page(
    method: str,
    path: str,
    handler: Handler,
    summary: str,
    body: Mapping[str, type] = MappingProxyType({}),
    *,
    good: int = 200,
) -> Route:
    html = {"text/html": Text}
    refused = (*(kind.status for kind in REFUSALS if body), 404, 422, 429, 500, 503)
    shown = {good: "A page"} | dict.fromkeys(refused, "A page that says so")
    return Route(
        method, path, handler, Access.PUBLIC, "Subscriptions", summary,
        {status: Answer(meaning, html) for status, meaning in shown.items()}, body=body,
        body_optional=True, slash=True, around=subscription_pages.paged,
    )  # fmt: skip
