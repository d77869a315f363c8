"""Signatures after Standard Webhooks (v1, HMAC-SHA256), which every receiver can check:
https://www.standardwebhooks.com."""

import base64
import binascii
import hmac
import secrets
from collections.abc import Sequence
from datetime import datetime

PREFIX = "whsec_"
_KEY_BYTES = range(24, 65)


def new_secret() -> str:
    """A fresh secret."""
    return PREFIX + base64.b64encode(secrets.token_bytes(32)).decode()


def key_of(secret: str) -> bytes:
    """The key in a secret ``whsec_<base64>``. Raises :class:`ValueError`, without the secret."""
    try:
        key = base64.b64decode(secret.removeprefix(PREFIX), validate=True)
    except binascii.Error:
        key = b""
    if not secret.startswith(PREFIX) or len(key) not in _KEY_BYTES:
        raise ValueError(f"must be {PREFIX} and the base64 of 24 to 64 random bytes")
    return key


class Signer:
    """Signs with every one of ``whsecs``, so that a new one can be introduced before the old one
    goes. Raises :class:`ValueError` for one that is none."""

    def __init__(self, whsecs: Sequence[str]) -> None:
        self._keys = [key_of(secret) for secret in whsecs]

    @property
    def ready(self) -> bool:
        """Whether there is a secret to sign with."""
        return bool(self._keys)

    def headers(self, message_id: str, at: datetime, body: bytes) -> dict[str, str]:
        """The headers of the message ``body``, sent now: ``at``."""
        seconds = int(at.timestamp())
        signed = f"{message_id}.{seconds}.".encode() + body
        digests = (hmac.digest(key, signed, "sha256") for key in self._keys)
        return {
            "webhook-id": message_id,
            "webhook-timestamp": str(seconds),
            "webhook-signature": " ".join(
                f"v1,{base64.b64encode(digest).decode()}" for digest in digests
            ),
        }
