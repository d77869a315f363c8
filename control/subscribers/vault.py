"""Addresses at rest: sealed with AES-256-GCM, and found again by an HMAC of them.

All keys come from the secrets of the configuration (HKDF-SHA256, RFC 5869), each purpose its own.
The first secret seals; every one opens, so that a new one can be introduced before the old one
goes. What is sealed: the secret's mark (4 bytes), the nonce (12), the ciphertext with its tag.
"""

import hmac
import os
from collections.abc import Sequence
from functools import cached_property
from typing import TYPE_CHECKING

from control.errors import DrawbridgeError

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.ciphers.aead import AESGCM

LEAST = 32
"""Characters that a secret has at least."""

_MARK, _NONCE = 4, 12


class Unreadable(DrawbridgeError):
    """It was sealed with a secret that is not in the configuration, or is not what was sealed."""

    def __init__(self) -> None:
        super().__init__("cannot be opened with DRAWBRIDGE_SUBSCRIBER_SECRET")


class _Keys:
    """What follows from one secret."""

    def __init__(self, secret: str) -> None:
        self._secret = secret.encode()
        self.mark = self._derived(b"mark", _MARK)

    @cached_property
    def cipher(self) -> "AESGCM":
        # Takes 7 MB, which a worker without subscribers does not need.
        from cryptography.hazmat.primitives.ciphers.aead import AESGCM  # noqa: PLC0415

        return AESGCM(self._derived(b"seal", 32))

    @cached_property
    def index(self) -> bytes:
        return self._derived(b"index", 32)

    @cached_property
    def token(self) -> bytes:
        return self._derived(b"token", 32)

    def _derived(self, purpose: bytes, length: int) -> bytes:
        """Up to 32 bytes: extracted from the secret, and expanded by one block."""
        extracted = hmac.digest(bytes(32), self._secret, "sha256")
        info = b"drawbridge subscribers " + purpose
        return hmac.digest(extracted, info + b"\1", "sha256")[:length]


class Vault:
    """Without ``secrets`` it is not :attr:`ready`, and nothing can be kept."""

    def __init__(self, secrets: Sequence[str]) -> None:
        self._keys = [_Keys(secret) for secret in secrets]

    @property
    def ready(self) -> bool:
        """Whether there is a secret."""
        return bool(self._keys)

    @property
    def mark(self) -> bytes:
        """Names the secret that seals."""
        return self._keys[0].mark

    @property
    def token_keys(self) -> list[bytes]:
        """Keys that links are signed with; the first signs, every one is accepted."""
        return [keys.token for keys in self._keys]

    def seal(self, text: str, owner: str) -> bytes:
        """``text``, readable only as that of ``owner``: the row and the column it is kept in."""
        nonce = os.urandom(_NONCE)
        keys = self._keys[0]
        return keys.mark + nonce + keys.cipher.encrypt(nonce, text.encode(), owner.encode())

    def open(self, sealed: bytes, owner: str) -> str:
        """The text. Raises :class:`Unreadable`."""
        from cryptography.exceptions import InvalidTag  # noqa: PLC0415 - see cipher

        mark, nonce = sealed[:_MARK], sealed[_MARK : _MARK + _NONCE]
        for keys in self._keys:
            if keys.mark == mark:
                try:
                    return keys.cipher.decrypt(
                        nonce, sealed[_MARK + _NONCE :], owner.encode()
                    ).decode()
                except (InvalidTag, ValueError):
                    break
        raise Unreadable

    def index(self, channel: str, address: str) -> bytes:
        """What ``address`` is found by; it tells nothing to who lacks the secret."""
        return self.indices(channel, address)[0]

    def indices(self, channel: str, address: str) -> list[bytes]:
        """The same, and what it is found by where an older secret indexed it."""
        said = f"{channel}\0{address}".encode()
        return [hmac.digest(keys.index, said, "sha256") for keys in self._keys]
