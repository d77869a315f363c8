"""Bearer tokens that somebody else issued: JWTs (RFC 7519), checked against their issuer's keys.

The keys come from the issuer's JWKS (RFC 7517) and are kept; nothing is asked for each request. Of
the pitfalls that RFC 8725 lists: only asymmetric algorithms are taken and the key's own decides;
issuer, audience, expiry and subject are required; nothing in a token can make us fetch anything.
"""

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from typing import Any

import aiohttp
import jwt
import msgspec
from cryptography.exceptions import UnsupportedAlgorithm

from control import logs
from control.clock import Clock
from control.errors import ConfigError, StoreUnavailable
from control.identity_settings import IdentitySection
from control.principals import Principal, Role

ALGORITHMS = (
    *("RS256", "RS384", "RS512", "PS256", "PS384", "PS512"),
    *("ES256", "ES384", "ES512", "EdDSA"),
)
KEYS_FRESH_S = 600.0
"""How long the issuer's keys are used without asking for them again."""

ASK_AGAIN_S = 30.0
"""The least time between two requests for keys, whatever tokens come."""

ASK_AGAIN_WITHOUT_KEYS_S = 3.0
LEEWAY_S = 30.0
"""By how much the issuer's clock may differ from ours."""

_LEAST_RSA_BITS = 2048
"""RFC 7518, 3.3."""

_LONGEST_TOKEN = 8 << 10
_LONGEST_SUBJECT = 190
_LARGEST_KEY_SET = 256 << 10
_FETCH_S = 2.5
Fetch = Callable[[str], Awaitable[bytes]]


class _KeySet(msgspec.Struct):
    """A JWKS; what it says beside its keys does not matter."""

    keys: list[Any]


class JwtVerifier:
    """Tells who a JWT belongs to. Raises :class:`ConfigError` where settings are missing."""

    def __init__(self, section: IdentitySection, clock: Clock, fetch: Fetch | None = None) -> None:
        if not (section.jwt_issuer and section.jwt_audience):
            raise ConfigError(
                "DRAWBRIDGE_JWKS_URL needs DRAWBRIDGE_JWT_ISSUER and DRAWBRIDGE_JWT_AUDIENCE: "
                "without them any token of that issuer, for whatever service, would be good"
            )
        self._section = section
        self._clock = clock
        self._fetch = fetch or _fetched
        self._keys: Mapping[str, jwt.PyJWK] = {}
        self._fetched_at: float | None = None
        self._asked_at: float | None = None
        self._asking = asyncio.Lock()
        self._log = logs.get(__name__)

    async def identify(self, token: str) -> Principal | None:
        """The principal ``jwt:<subject>``, or ``None`` for a token that is not good.

        Its role is the highest that the role claim (a word or a list) names; it has none where the
        claim names none, for an issuer has users who are nobody here. Raises
        :class:`StoreUnavailable` where the issuer's keys have never been had.
        """
        kid = _key_id(token)
        if kid is None:
            return None
        key = await self._key(kid)
        if key is None:
            return None
        try:
            claims = jwt.decode(
                token,
                key,
                algorithms=ALGORITHMS,
                audience=self._section.jwt_audience,
                issuer=self._section.jwt_issuer,
                leeway=LEEWAY_S,
                options={"require": ["exp", "sub", "aud", "iss"]},
            )
        except jwt.PyJWTError as error:
            self._log.info("token refused", reason=type(error).__name__)
            return None
        subject: str = claims["sub"]
        if not (subject and len(subject) <= _LONGEST_SUBJECT and subject.isprintable()):
            self._log.info("token refused", reason="its subject cannot be written down")
            return None
        return Principal(f"jwt:{subject}", self._role(claims))

    def _role(self, claims: Mapping[str, Any]) -> Role | None:
        named = claims.get(self._section.jwt_role_claim)
        words = named if isinstance(named, list) else [named]
        return max((role for role in Role if str(role) in words), default=None)

    async def _key(self, kid: str) -> jwt.PyJWK | None:
        """The key of that id (``""``: the only one), after a look for newer keys if need be."""
        if self._should_ask(kid):
            async with self._asking:
                if self._should_ask(kid):  # nobody else has asked meanwhile
                    await self._ask()
        if self._fetched_at is None:
            raise StoreUnavailable("identity provider", "its keys cannot be fetched")
        if not kid:
            return next(iter(self._keys.values())) if len(self._keys) == 1 else None
        return self._keys.get(kid)

    def _should_ask(self, kid: str) -> bool:
        now = self._clock.monotonic()
        pause_s = ASK_AGAIN_WITHOUT_KEYS_S if self._fetched_at is None else ASK_AGAIN_S
        if self._asked_at is not None and now - self._asked_at < pause_s:
            return False
        fresh = self._fetched_at is not None and now - self._fetched_at < KEYS_FRESH_S
        return not fresh or (bool(kid) and kid not in self._keys)

    async def _ask(self) -> None:
        self._asked_at = self._clock.monotonic()
        try:
            found = _usable(await self._fetch(self._section.jwks_url))
        except (
            aiohttp.ClientError,
            OSError,
            ValueError,
            msgspec.MsgspecError,
            RecursionError,
        ) as error:
            # The keys that we have stay good: an issuer that is away locks nobody out.
            self._log.warning("keys of the issuer not fetched", reason=type(error).__name__)
            return
        self._keys = found
        self._fetched_at = self._clock.monotonic()


def looks_like_jwt(token: str) -> bool:
    """Whether ``token`` has the three parts of a signed JWT."""
    return token.count(".") == 2 and len(token) <= _LONGEST_TOKEN


def _key_id(token: str) -> str | None:
    """The id of the token's key; ``""`` where it names none, ``None`` for a token out of form."""
    try:
        header = jwt.get_unverified_header(token)
    except jwt.PyJWTError:
        return None
    return str(header.get("kid", "")) if header.get("alg") in ALGORITHMS else None


def _usable(key_set: bytes) -> dict[str, jwt.PyJWK]:
    """The keys of a JWKS that we take, by their ids; one without an id by its number.

    One that cannot be used is passed over, as RFC 7517 (5) asks. Raises :class:`ValueError` where
    none can, and :class:`msgspec.MsgspecError` and :class:`RecursionError` for what is no JWKS.
    """
    found: dict[str, jwt.PyJWK] = {}
    for number, described in enumerate(msgspec.json.decode(key_set, type=_KeySet).keys):
        if not isinstance(described, dict):
            continue
        try:
            key = jwt.PyJWK(described)
        except (jwt.PyJWTError, LookupError, TypeError, ValueError, UnsupportedAlgorithm):
            continue
        strong = key.key_type != "RSA" or key.key.key_size >= _LEAST_RSA_BITS
        if strong and key.algorithm_name in ALGORITHMS and key.public_key_use in (None, "sig"):
            found[str(key.key_id or number)] = key
    if not found:
        raise ValueError("the key set has no key that can be used")
    return found


async def _fetched(url: str) -> bytes:
    limits = aiohttp.ClientTimeout(total=_FETCH_S)
    async with (
        aiohttp.ClientSession(timeout=limits, raise_for_status=True) as session,
        session.get(url, allow_redirects=False) as answer,
    ):
        body = b""
        async for piece in answer.content.iter_any():
            body += piece
            if len(body) > _LARGEST_KEY_SET:
                raise ValueError("the key set is too large")
        return body
