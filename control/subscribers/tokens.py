"""Links that let their holder confirm, change or end one subscription: signed, and they expire.

A token is its purpose (one letter), the subscriber's id, the second it expires (8 hexadecimal
digits) and 128 bits of HMAC-SHA256 over these: short enough for an SMS. Made again of the same it
is the same, so that a message that is sent again is the same to the letter.
"""

import base64
import hmac
import re
from datetime import UTC, datetime, timedelta
from typing import Literal, NamedTuple

from control.clock import Clock
from control.errors import DrawbridgeError
from control.subscribers.vault import Vault

CONFIRM_WITHIN = timedelta(hours=48)
"""How long a request may be confirmed."""

MANAGE_WITHIN = timedelta(days=400)
"""How long a message can be unsubscribed from, after it was sent."""

Purpose = Literal["confirm", "manage"]
_LETTERS: dict[str, Purpose] = {"c": "confirm", "m": "manage"}
_SIGNATURE = 16
_TOKEN = re.compile(
    r"(?P<said>(?P<letter>[cm])(?P<id>[0-7][0-9A-HJKMNP-TV-Z]{25})(?P<expires>[0-9a-f]{8}))"
    r"(?P<signature>[A-Za-z0-9_-]{22})"
)


class BadToken(DrawbridgeError):
    """It is none of ours, or not any more."""

    def __init__(self) -> None:
        super().__init__("the link is not valid, or has expired")


class Named(NamedTuple):
    """Whose token it is, and what it is good for."""

    purpose: Purpose
    subscriber: str


class Tokens:
    """Makes and reads them."""

    def __init__(self, vault: Vault, clock: Clock) -> None:
        self._vault = vault
        self._clock = clock

    def make(self, purpose: Purpose, subscriber: str, since: datetime) -> str:
        """One that is good for its purpose's time after ``since``."""
        within = CONFIRM_WITHIN if purpose == "confirm" else MANAGE_WITHIN
        expires = int((since.astimezone(UTC) + within).timestamp())
        said = f"{purpose[0]}{subscriber}{expires:08x}"
        return said + _signature(self._vault.token_keys[0], said)

    def read(self, token: str, *purposes: Purpose) -> Named:
        """Whose it is, if it is for one of ``purposes``. Raises :class:`BadToken`."""
        match = _TOKEN.fullmatch(token)
        if match is None or not self._signed(match["said"], match["signature"]):
            raise BadToken
        purpose = _LETTERS[match["letter"]]
        if purpose not in purposes or int(match["expires"], 16) <= self._clock.now().timestamp():
            raise BadToken
        return Named(purpose, match["id"])

    def _signed(self, said: str, signature: str) -> bool:
        good = (_signature(key, said) for key in self._vault.token_keys)
        return any(hmac.compare_digest(signature, each) for each in good)


def _signature(key: bytes, said: str) -> str:
    digest = hmac.digest(key, said.encode(), "sha256")[:_SIGNATURE]
    return base64.urlsafe_b64encode(digest).decode().rstrip("=")
