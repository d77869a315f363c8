"""What a notice says, in words: as an e-mail, as an SMS, and as the event of a webhook.

The same delivery is always put in the same words, so that what is sent again is the same message.
"""

import re
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import cache
from typing import TYPE_CHECKING, Any

import msgspec

from control.subscribers.notice import CONFIRM, Notice
from control.subscribers.tokens import CONFIRM_WITHIN
from worker.notify import short
from worker.notify.delivery import Delivery

if TYPE_CHECKING:
    from jinja2 import Environment

LONGEST_SUBJECT = 150
_CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028\u2029]+")
_HEADLINES = {
    "maintenance.scheduled": "Maintenance scheduled",
    "maintenance.changed": "Maintenance changed",
    "maintenance.started": "Maintenance has begun",
    "maintenance.completed": "Maintenance completed",
    "maintenance.cancelled": "Maintenance cancelled",
}


@dataclass(frozen=True)
class Letter:
    """An e-mail without its envelope."""

    subject: str
    text: str
    html: str


class Letters:
    """``site`` is the title of the status page."""

    def __init__(self, site: str) -> None:
        self._site = one_line(site)

    def letter(self, delivery: Delivery) -> Letter:
        """The delivery as an e-mail."""
        notice = delivery.notice
        if notice.kind == CONFIRM:
            name, subject = "confirm", f"Confirm your subscription to {self._site}"
        else:
            name, subject = "notice", f"[{self._site}] {headline(notice)}: {one_line(notice.title)}"
        told = self._told(delivery)
        return Letter(
            _shortened(subject, LONGEST_SUBJECT),
            _environment().get_template(f"{name}.txt").render(told),
            _environment().get_template(f"{name}.html").render(told),
        )

    def sms(self, delivery: Delivery) -> str:
        """The delivery as an SMS of a few segments at most; links are never cut."""
        notice, links = delivery.notice, delivery.links
        if notice.kind == CONFIRM:
            said = f"{self._site}: confirm that you want status messages. Not you? Ignore this."
            return short.fit(said, links.confirm)
        said = f"{self._site}: {headline(notice)}: {one_line(notice.title)}"
        if notice.message:
            said += f". {one_line(notice.message)}"
        return short.fit(said, f"{links.page} Stop: {links.manage}")

    def event(self, delivery: Delivery) -> bytes:
        """The delivery as the body of a webhook, JSON."""
        notice, links = delivery.notice, delivery.links
        data: dict[str, Any]
        if notice.kind == CONFIRM:
            data = {
                "confirm_url": links.api_confirm,
                "page_url": links.confirm,
                "expires_at": delivery.at + CONFIRM_WITHIN,
            }
        else:
            data = {
                **msgspec.to_builtins(notice, builtin_types=(datetime,)),
                "url": links.page,
                "manage_url": links.manage,
                "unsubscribe_url": links.unsubscribe,
            }
            data.pop("kind"), data.pop("path", None)
        return msgspec.json.encode({"type": notice.kind, "timestamp": delivery.at, "data": data})

    def _told(self, delivery: Delivery) -> dict[str, Any]:
        notice = delivery.notice
        return {
            "site": self._site,
            "headline": headline(notice),
            "title": one_line(notice.title),
            "paragraphs": paragraphs(notice.message),
            "notice": notice,
            "planned": notice.kind.startswith("maintenance."),
            "components": [
                f"{one_line(each.name)}: {each.status.replace('_', ' ')}"
                if each.status
                else one_line(each.name)
                for each in notice.components
            ],
            "links": delivery.links,
            "expires_at": delivery.at + CONFIRM_WITHIN,
        }


def headline(notice: Notice) -> str:
    """What happened, in a word or two."""
    return _HEADLINES.get(notice.kind) or notice.status.replace("_", " ").capitalize()


def one_line(text: str) -> str:
    """``text`` without anything that could end a line."""
    return _CONTROL.sub(" ", text).strip()


def paragraphs(text: str) -> list[str]:
    """The paragraphs of ``text``, without other control characters than ends of lines."""
    lines = [_CONTROL.sub(" ", line).rstrip() for line in text.splitlines()]
    return [each for each in re.split(r"\n{2,}", "\n".join(lines).strip()) if each]


def moment(at: datetime) -> str:
    """``27 Nov 2026, 20:31 UTC``."""
    at = at.astimezone(UTC)
    return f"{at.day} {at:%b %Y, %H:%M} UTC"


def _shortened(text: str, most: int) -> str:
    return text if len(text) <= most else text[: most - 1].rstrip() + "…"


@cache
def _environment() -> "Environment":
    # Not at the top: most workers never have anything to tell.
    from jinja2 import (  # noqa: PLC0415
        Environment,
        PackageLoader,
        StrictUndefined,
        select_autoescape,
    )

    made = Environment(
        loader=PackageLoader("worker.notify", "templates"),
        autoescape=select_autoescape(["html"]),
        trim_blocks=True,
        lstrip_blocks=True,
        undefined=StrictUndefined,
    )
    made.filters["moment"] = moment
    return made
