"""The checks of services that others run, over HTTP: one instance of the fleet looks.

Whoever takes the turn in Redis looks, and leaves what it found there for the others. Nobody looks
twice within a turn, however many instances there are. Without Redis nothing is known, and that is
no fault of theirs.
"""

import contextlib
import time
from collections.abc import AsyncIterator, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

import aiohttp
import msgspec
from redis.exceptions import RedisError

from control import __version__, keys
from control.clock import Clock, iso
from control.config import Config
from control.errors import ConfigError
from control.health.check import CannotTell, Check, Down, Importance
from control.health.dependencies import DATABASE, NEO4J, REDIS
from control.health.instance import CONTROL_PLANE, EVENT_LOOP, FILES, RESOURCES
from control.health.reasons import reason
from control.health.report import EXTERNAL, TOOK_MS, milliseconds
from control.stores.servers import Servers

LOOK_S = 5.0
"""The longest that a service may take to answer."""

_DRIVER_LIMIT_S = 2.0
_ASK_EVERY_S = 5.0
_RETRY_S = 2.0
_TOO_MANY = 429


@dataclass(frozen=True)
class Service:
    """A service of others. ``strict``: only an answer below 400 is a good one; else any that is no
    fault of the server, for without credentials a service that is well refuses."""

    name: str
    url: str
    strict: bool


PRESETS: Mapping[str, str] = {
    "clerk": "https://api.clerk.com/v1/jwks",
    "resend": "https://api.resend.com/",
    "s3": "https://s3.amazonaws.com/",
    "stripe": "https://api.stripe.com/v1/",
    "supabase": "",
    "twilio": "https://api.twilio.com/2010-04-01.json",
}
"""Where a service answers that is known by name; ``""``: each customer has an address."""

_PATHS = {"supabase": "/auth/v1/health"}

_TAKEN = frozenset({REDIS, NEO4J, DATABASE, CONTROL_PLANE, EVENT_LOOP, RESOURCES, FILES})
"""Names of checks that bodies show beside those of services."""


class NotSeenYet(CannotTell):
    """Another instance has the turn and has left nothing yet."""

    def __init__(self) -> None:
        super().__init__("NotSeenYet")


class Seen(msgspec.Struct, frozen=True):
    """What a look found; ``down`` says why it was not well."""

    at: str
    by: str
    response_ms: float
    http_status: int | None = None
    down: str | None = None


def services(entries: Iterable[str]) -> list[Service]:
    """The services that the setting names. Raises :class:`ConfigError`."""
    found: dict[str, Service] = {}
    for entry in entries:
        name, url = _parted(entry)
        preset = PRESETS.get(name)
        if not url and not preset:
            known = ", ".join(sorted(PRESETS))
            why = "needs its URL" if preset == "" else f"is none of {known}"
            raise ConfigError(f"DRAWBRIDGE_HEALTH_EXTERNAL: {name} {why} (NAME=URL)")
        address = url or preset or ""
        if urlsplit(address).path in ("", "/"):
            address = address.rstrip("/") + _PATHS.get(name, "/")
        if name in found:
            raise ConfigError(f"DRAWBRIDGE_HEALTH_EXTERNAL names {name} twice")
        if name in _TAKEN:
            why = f"{name} is a check of this service's own: another name is needed (NAME=URL)"
            raise ConfigError(f"DRAWBRIDGE_HEALTH_EXTERNAL: {why}")
        found[name] = Service(name, address, strict=preset is None)
    return list(found.values())


def _parted(entry: str) -> tuple[str, str]:
    name, equals, url = entry.partition("=")
    if "://" in name:  # a URL alone, whose query may hold the sign too
        return (urlsplit(entry).hostname or "").replace(".", "-"), entry
    return name, url if equals else ""


@contextlib.asynccontextmanager
async def checks(config: Config, instance: str, *, clock: Clock) -> AsyncIterator[Sequence[Check]]:
    """A check for each service, named ``external:<service>``; none is ever required.

    Raises :class:`ConfigError`.
    """
    wanted, every_s = services(config.health.external), config.health.external_every_s
    if not wanted:
        yield ()
        return
    limits = aiohttp.ClientTimeout(total=LOOK_S)
    agent = {"User-Agent": f"drawbridge/{__version__}"}
    servers = Servers(config.redis.url, timeout_s=_DRIVER_LIMIT_S, retries=0)
    client = servers.commands(keys.HEALTH)
    try:
        async with aiohttp.ClientSession(timeout=limits, headers=agent) as http:
            yield tuple(
                Check(
                    f"{EXTERNAL}:{service.name}",
                    Lookout(service, instance, client, http, every_s=every_s, clock=clock).ask,
                    frozenset({EXTERNAL}),
                    Importance.DEGRADING,
                    timeout_s=LOOK_S + 2 * _DRIVER_LIMIT_S,
                    interval_s=min(_ASK_EVERY_S, every_s / 2),
                    retry_s=min(_RETRY_S, every_s / 2),
                )
                for service in wanted
            )
    finally:
        await servers.aclose()


class Lookout:
    """Looks at one service when it is this instance's turn, and else at what others found."""

    def __init__(
        self,
        service: Service,
        instance: str,
        client: Any,
        http: "aiohttp.ClientSession",
        *,
        every_s: float,
        clock: Clock,
    ) -> None:
        self._service = service
        self._instance = instance
        self._redis = client
        self._http = http
        self._every_ms = int(every_s * 1000)
        self._clock = clock

    async def ask(self) -> Mapping[str, object]:
        """Raises :class:`Down`; and :class:`CannotTell`, such as :class:`NotSeenYet`."""
        try:
            seen = await self._seen()
        except (RedisError, OSError) as error:
            raise CannotTell(f"redis: {reason(error)}") from error
        told = {
            "seen_at": seen.at, "seen_by": seen.by, TOOK_MS: seen.response_ms,
            "http_status": seen.http_status,
        }  # fmt: skip
        if seen.down is not None:
            raise Down(seen.down, told)
        return told

    async def _seen(self) -> Seen:
        name = self._service.name
        if await self._redis.set(keys.turn(name), self._instance, nx=True, px=self._every_ms):
            seen = await self._look()
            keep_ms = 3 * self._every_ms + int(LOOK_S * 1000)
            await self._redis.set(keys.seen(name), msgspec.json.encode(seen), px=keep_ms)
            return seen
        stored = await self._redis.get(keys.seen(name))
        if stored is None:
            raise NotSeenYet
        return msgspec.json.decode(stored, type=Seen)

    async def _look(self) -> Seen:
        began, status, down = time.monotonic(), None, None
        try:
            async with self._http.get(self._service.url, allow_redirects=False) as answer:
                status = answer.status
            if not self._is_well(status):
                down = f"HTTP {status}"
        except (aiohttp.ClientError, TimeoutError, OSError, ValueError) as error:
            down = reason(getattr(error, "os_error", error))
        took_ms = milliseconds(time.monotonic() - began)
        return Seen(iso(self._clock.now()), self._instance, took_ms, status, down)

    def _is_well(self, status: int) -> bool:
        """Who is asked too often is there to say so."""
        return status == _TOO_MANY or status < (400 if self._service.strict else 500)
