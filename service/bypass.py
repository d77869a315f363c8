"""Passing a raised bridge: signed, expiring tokens for operators who test behind it."""

from datetime import datetime, timedelta
from typing import Any, NamedTuple

import jwt

from control import ids, logs
from control.clock import Clock

HEADER = "X-Drawbridge-Bypass"
AUDIENCE = "drawbridge-bypass"
MAX_TTL_S = 3600

_ALGORITHM = "HS256"
_LOG = logs.get(__name__)


class Bearer(NamedTuple):
    """Whom a token was issued to. ``jti`` names the token in the audit and in logs."""

    actor: str
    jti: str


class Bypass:
    """Issues and checks the tokens (JWT, HS256). Without a ``secret`` there are none; of several,
    with blanks between them, the first one signs."""

    def __init__(self, secret: str, clock: Clock) -> None:
        self._secrets = secret.split()
        self._clock = clock

    @property
    def configured(self) -> bool:
        """Whether there is a secret to sign with."""
        return bool(self._secrets)

    def issue(self, bearer: Bearer, ttl_s: int) -> tuple[str, datetime]:
        """A token that is good for ``ttl_s``, and when it expires (whole seconds, UTC)."""
        if not self.configured:
            raise RuntimeError("a bypass is asked for and there is no secret")
        expires_at = self._clock.now().replace(microsecond=0) + timedelta(seconds=ttl_s)
        claims = {
            "aud": AUDIENCE,
            "sub": bearer.actor,
            "jti": bearer.jti,
            "exp": int(expires_at.timestamp()),
        }
        return jwt.encode(claims, self._secrets[0], algorithm=_ALGORITHM), expires_at

    def bearer(self, token: str) -> Bearer | None:
        """Whose token this is; ``None``, and a line in the log, where it is not good."""
        if not self.configured:
            _LOG.info("bypass refused", reason="not configured")
            return None
        try:
            claims = self._claims(token)
        except jwt.PyJWTError as error:
            _LOG.info("bypass refused", reason=type(error).__name__)
            return None
        expires = claims["exp"]
        if not isinstance(expires, int) or expires <= self._clock.now().timestamp():
            _LOG.info("bypass refused", reason="expired", jti=claims["jti"])
            return None
        return Bearer(claims["sub"], claims["jti"])

    def _claims(self, token: str) -> dict[str, Any]:
        """What a token says that one of the secrets signed."""
        wrong = jwt.InvalidSignatureError()
        for secret in self._secrets:
            try:
                claims: dict[str, Any] = jwt.decode(
                    token,
                    secret,
                    algorithms=[_ALGORITHM],
                    audience=AUDIENCE,
                    options={"require": ["exp", "sub", "jti", "aud"], "verify_exp": False},
                )
            except jwt.InvalidSignatureError as error:
                wrong = error
            else:
                return claims
        raise wrong


def new_bearer(actor: str) -> Bearer:
    """``actor``, with the name of a token to be issued."""
    return Bearer(actor, ids.new_id())
