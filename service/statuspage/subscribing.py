"""The pages on which people subscribe, confirm, change and end their subscriptions."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from control.subscribers.channel import Channel
from control.subscribers.links import PAGES, SUBSCRIBE
from control.subscribers.roster import Component, Subscriber
from service.statuspage import templates
from service.statuspage.pages import Site

_LABELS = {
    Channel.EMAIL: ("E-mail", "ada@example.org"),
    Channel.SMS: ("SMS", "+49 151 23456789"),
    Channel.WEBHOOK: ("Webhook", "https://example.org/hook"),
}
POLICY = templates.policy(styles=(templates.FORM_STYLE,))


@dataclass(frozen=True)
class Given:
    """What was filled in, to be shown again."""

    channel: str = ""
    address: str = ""
    components: tuple[str, ...] = ()


def subscribe_page(
    site: Site,
    offered: Sequence[Channel],
    known: Sequence[Component],
    given: Given,
    error: str = "",
) -> str:
    """The form; ``offered`` are the channels to choose from, ``known`` the components."""
    if given.channel not in offered:
        given = Given(offered[0], given.address, given.components)
    return _rendered(
        "subscribe.html", site, f"Subscribe to {site.title}",
        offered=[(channel, *_LABELS[channel]) for channel in offered], known=known, given=given,
        error=error,
    )  # fmt: skip


def asked_page(site: Site, channel: Channel, secret: str | None) -> str:
    """It was asked for; now it has to be confirmed."""
    if channel is Channel.WEBHOOK:
        title = "Now confirm it"
        told = [
            "An event subscription.confirm is on its way there. POST to its confirm_url, or open "
            "its page_url here, within two days; until then nothing else is sent."
        ]
    else:
        title = "Now look at your messages"
        told = [
            "If this address can be reached, a message is on its way to it. Open the link in it to "
            "confirm, within two days; until then nothing else is sent."
        ]
    return _sheet(site, title, told, secret=secret)


def confirm_page(site: Site, token: str, subscriber: Subscriber) -> str:
    """Asks for one click: programs that look at the links of messages do not press buttons."""
    told = [f"Shall {subscriber.masked} be told of incidents and maintenance?"]
    return _sheet(
        site, "Confirm your subscription", told, button="Confirm",
        action=f"{PAGES}/{token}/confirm",
    )  # fmt: skip


def confirmed_page(site: Site, subscriber: Subscriber, manage: str) -> str:
    """Done."""
    told = [
        f"{subscriber.masked} will be told of incidents and maintenance.",
        "Each message has a link with which this can be changed or ended.",
    ]
    return _sheet(site, "You are subscribed", told, manage=manage)


def manage_page(
    site: Site,
    token: str,
    subscriber: Subscriber,
    known: Sequence[Component],
    *,
    saved: bool = False,
    error: str = "",
) -> str:
    """What a subscription is about, to be changed or ended."""
    return _rendered(
        "subscription.html", site, "Your subscription", subscriber=subscriber, known=known,
        label=_LABELS[subscriber.channel][0], action=f"{PAGES}/{token}", saved=saved, error=error,
        given=Given(components=subscriber.components),
    )  # fmt: skip


def end_page(site: Site, token: str) -> str:
    """Asks for one click, as :func:`confirm_page` does."""
    told = ["Nothing more will be sent, and the address is forgotten."]
    action = f"{PAGES}/{token}/unsubscribe"
    return _sheet(site, "Unsubscribe", told, button="Unsubscribe", action=action)


def ended_page(site: Site) -> str:
    """Done."""
    return _sheet(site, "You are unsubscribed", ["Nothing more will be sent."])


def unknown_page(site: Site) -> str:
    """The link is of no use."""
    told = [
        "The link is not valid, or not any more: it expired, or the subscription has ended.",
    ]
    return _sheet(site, "There is no such subscription", told)


def closed_page(site: Site, why: str) -> str:
    """Nobody can subscribe now."""
    return _sheet(site, "Not now", [why])


def _sheet(site: Site, title: str, paragraphs: Sequence[str], **more: Any) -> str:
    parts = {"button": "", "action": SUBSCRIBE, "secret": None, "manage": ""}
    return _rendered("sheet.html", site, title, paragraphs=paragraphs, **{**parts, **more})


def _rendered(template: str, site: Site, title: str, **told: Any) -> str:
    return templates.render(template, site=site, title=title, icon=templates.icon("none"), **told)
