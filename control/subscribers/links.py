"""The addresses that messages to subscribers, and answers to them, name."""

from dataclasses import dataclass
from datetime import datetime

from control.subscribers.tokens import Tokens

SUBSCRIBE = "/status/subscribe"
PAGES = "/status/subscriptions"
API = "/api/status/subscriptions"


@dataclass(frozen=True)
class Addresses:
    """Those of one message. ``unsubscribe`` takes one click (RFC 8058); ``api`` and
    ``api_confirm`` are for programs."""

    page: str
    manage: str
    unsubscribe: str
    confirm: str
    api: str
    api_confirm: str


class Links:
    """``base`` is where the public finds the status page, such as ``https://status.example.org``."""

    def __init__(self, base: str, tokens: Tokens) -> None:
        self._base = base.rstrip("/")
        self._tokens = tokens

    @property
    def ready(self) -> bool:
        """Whether it is known where that is."""
        return bool(self._base)

    def of(self, subscriber: str, path: str, at: datetime) -> Addresses:
        """The addresses in a message about what has the page ``path``, sent ``at``."""
        manage = self._tokens.make("manage", subscriber, at)
        confirm = self._tokens.make("confirm", subscriber, at)
        return Addresses(
            page=self._base + path,
            manage=f"{self._base}{PAGES}/{manage}",
            unsubscribe=f"{self._base}{PAGES}/{manage}/unsubscribe",
            confirm=f"{self._base}{PAGES}/{confirm}/confirm",
            api=f"{self._base}{API}/{manage}",
            api_confirm=f"{self._base}{API}/{confirm}/confirm",
        )
