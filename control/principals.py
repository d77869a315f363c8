"""Who calls: API keys in PostgreSQL, and the one token of the configuration."""

import base64
import hashlib
import hmac
import re
import secrets
from collections import OrderedDict
from dataclasses import dataclass
from datetime import datetime
from enum import IntEnum
from typing import Self

from control import sql
from control.clock import Clock
from control.errors import InvalidInput, StoreUnavailable
from control.ids import new_id
from control.stores.postgres import Database

KNOWN_S = 60.0
"""How long a key that was found is believed without asking again; a revocation takes this long."""

UNKNOWN_S = 5.0
"""How long a key that was not found is refused without asking again."""

REMEMBERED = 4096
"""How many keys, found and not found each, are remembered."""

ADMIN_TOKEN, ANONYMOUS = "admin-token", "anonymous"
"""What the bearer of the configured token is called, and a caller without any."""

_OTHERS = (ADMIN_TOKEN, ANONYMOUS)
_KEY = re.compile(r"dbk_[A-Za-z0-9_-]{43}")


class Role(IntEnum):
    """What a caller may do; a higher role may all that a lower one may."""

    VIEWER = 1
    OPERATOR = 2
    ADMINISTRATOR = 3

    def __str__(self) -> str:
        return self.name.lower()

    @classmethod
    def named(cls, text: str) -> Self:
        """The role called ``text``. Raises :class:`ValueError`."""
        try:
            return cls[text.upper()]
        except KeyError:
            raise ValueError(f"must be one of {', '.join(map(str, cls))}, not {text!r}") from None


@dataclass(frozen=True)
class Principal:
    """A caller who is known by name; without a role they may do what callers without token may."""

    name: str
    role: Role | None

    def may(self, needed: Role) -> bool:
        """Whether their role is that one or a higher one."""
        return self.role is not None and self.role >= needed


@dataclass(frozen=True)
class ApiKey:
    """A stored key, as people may see it. ``last_four`` are the key's last four characters."""

    id: str
    name: str
    role: Role
    last_four: str
    created_at: datetime
    expires_at: datetime | None
    revoked_at: datetime | None

    def state(self, now: datetime) -> str:
        """``active``, ``expired`` or ``revoked``."""
        if self.revoked_at is not None:
            return "revoked"
        return "expired" if self.expires_at is not None and self.expires_at <= now else "active"


class ApiKeys:
    """The keys in PostgreSQL. Every method raises :class:`StoreUnavailable`."""

    def __init__(self, database: Database, clock: Clock) -> None:
        self._database = database
        self._clock = clock
        self._queries = sql.queries("api_keys")

    async def create(
        self, name: str, role: Role, *, expires_at: datetime | None = None
    ) -> tuple[ApiKey, str]:
        """A new key and its secret text, ``dbk_…``: 256 random bits that are stored nowhere.

        Raises :class:`InvalidInput` for a name that would pass for another kind of caller.
        """
        if name in _OTHERS or name.startswith("jwt:"):
            raise InvalidInput(f"{name!r} is what other callers are called", "NAME")
        secret = "dbk_" + base64.urlsafe_b64encode(secrets.token_bytes(32)).decode().rstrip("=")
        key = ApiKey(new_id(), name, role, secret[-4:], self._clock.now(), expires_at, None)
        await self._database.execute(
            self._queries["insert"],
            key.id,
            name,
            str(role),
            _digest(secret),
            key.last_four,
            key.created_at,
            expires_at,
        )
        return key, secret

    async def all(self) -> list[ApiKey]:
        """Every key that was ever made, the oldest first."""
        rows = await self._database.fetch(self._queries["all"])
        return [ApiKey(**{**row, "role": Role.named(row["role"])}) for row in rows]

    async def revoke(self, key_id: str) -> bool:
        """Refuse the key from now on; false where no such key is active."""
        done = await self._database.execute(self._queries["revoke"], key_id, self._clock.now())
        return done == "UPDATE 1"

    async def find(self, digest: bytes) -> tuple[Principal, datetime | None] | None:
        """Whose key has this SHA-256, and until when; ``None`` if unknown or revoked."""
        row = await self._database.fetchrow(self._queries["by_digest"], digest)
        if row is None:
            return None
        return Principal(row["name"], Role.named(row["role"])), row["expires_at"]


@dataclass(frozen=True)
class _Memory:
    """What PostgreSQL said of a key, and until when (monotonic seconds) that is fresh."""

    principal: Principal | None
    expires_at: datetime | None
    fresh_until: float


class Keyring:
    """Tells who a bearer token belongs to, and goes on doing so while PostgreSQL is away.

    ``admin_token``: one, or several with blanks between them while one replaces the other.
    """

    def __init__(
        self, keys: ApiKeys, *, admin_token: str, clock: Clock, remembered: int = REMEMBERED
    ) -> None:
        self._keys = keys
        self._admins = [_digest(token) for token in admin_token.split()]
        self._clock = clock
        self._remembered = remembered
        # Apart, so that a flood of made-up keys cannot push the real ones out.
        self._known: OrderedDict[bytes, _Memory] = OrderedDict()
        self._unknown: OrderedDict[bytes, _Memory] = OrderedDict()

    def knows(self, token: str) -> bool:
        """Whether PostgreSQL need not be asked for it."""
        digest = _digest(token)
        memory = self._known.get(digest)
        if memory is not None and self._clock.monotonic() < memory.fresh_until:
            return True
        return self._is_admin(digest)

    async def identify(self, token: str) -> Principal | None:
        """The caller, or ``None`` for a token that is unknown, expired or revoked.

        Raises :class:`StoreUnavailable` where PostgreSQL is away and nothing is remembered.
        """
        digest = _digest(token)
        if self._is_admin(digest):
            return Principal(ADMIN_TOKEN, Role.ADMINISTRATOR)
        if _KEY.fullmatch(token) is None:
            return None
        memory = self._known.get(digest) or self._unknown.get(digest)
        if memory is None or self._clock.monotonic() >= memory.fresh_until:
            try:
                memory = await self._ask(digest)
            except StoreUnavailable:
                if memory is None:
                    raise
        expired = memory.expires_at is not None and memory.expires_at <= self._clock.now()
        return None if expired else memory.principal

    def _is_admin(self, digest: bytes) -> bool:
        """Compared with all of them, so that the time it takes tells nothing."""
        return sum([hmac.compare_digest(digest, each) for each in self._admins]) > 0

    async def _ask(self, digest: bytes) -> _Memory:
        found = await self._keys.find(digest)
        principal, expires_at = found or (None, None)
        fresh_s = UNKNOWN_S if found is None else KNOWN_S
        memory = _Memory(principal, expires_at, self._clock.monotonic() + fresh_s)
        self._known.pop(digest, None)
        self._unknown.pop(digest, None)
        kept = self._unknown if found is None else self._known
        kept[digest] = memory
        if len(kept) > self._remembered:
            kept.popitem(last=False)
        return memory


def _digest(text: str) -> bytes:
    """SHA-256. Enough for keys of 256 random bits, which nobody can guess slowly or quickly."""
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).digest()
