"""Clients of Redis, and its faults as one error.

redis-py's own defaults retry ten times behind the caller's back; here a command fails within its
deadline and whoever called decides. One quick retry on a broken connection remains, because after a
restart of Redis every pooled connection is a dead one. Whatever may be retried is idempotent.
"""

import contextlib
from collections.abc import Iterator
from typing import Any
from urllib.parse import parse_qs, unquote, urlsplit

from redis.asyncio import Redis
from redis.asyncio.retry import Retry
from redis.asyncio.sentinel import Sentinel
from redis.backoff import NoBackoff
from redis.exceptions import (
    AskError,
    AuthenticationError,
    BusyLoadingError,
    ClusterCrossSlotError,
    ClusterDownError,
    MasterDownError,
    MovedError,
    OutOfMemoryError,
    ReadOnlyError,
    RedisError,
    TryAgainError,
)
from redis.exceptions import (
    ConnectionError as RedisConnectionError,
)
from redis.exceptions import (
    TimeoutError as RedisTimeoutError,
)

from control.errors import ConfigError, StoreUnavailable
from control.tls import distrusts

DEFAULT_SENTINEL_PORT = 26379
_CLUSTER = "a Redis Cluster"
_MOVING = "its keys are being moved to another server"
_DOWN = "the cluster is down"

# The more special errors first: most of redis-py's are kinds of its ConnectionError.
_OUTAGES: tuple[tuple[type[BaseException] | tuple[type[BaseException], ...], str], ...] = (
    (AuthenticationError, "authentication failed"),
    (BusyLoadingError, "loading its data"),
    (RedisTimeoutError, "timeout"),
    ((RedisConnectionError, OSError), "connection failed"),
    ((ReadOnlyError, MasterDownError), "read-only replica"),
    (OutOfMemoryError, "out of memory"),
    ((MovedError, ClusterCrossSlotError), _CLUSTER),
    ((AskError, TryAgainError), _MOVING),
    (ClusterDownError, _DOWN),
)
_REFUSALS = {
    "OOM": "out of memory",
    "MISCONF": "cannot write to its disk",
    "NOREPLICAS": "too few replicas",
    "LOADING": "loading its data",
    "READONLY": "read-only replica",
    **dict.fromkeys(("MOVED", "CROSSSLOT"), _CLUSTER),
    **dict.fromkeys(("ASK", "TRYAGAIN"), _MOVING),
    "CLUSTERDOWN": _DOWN,
}


def client(url: str, *, timeout_s: float = 2.5, retries: int = 1) -> Redis:
    """A pooled client for commands that answer at once. Bytes in, bytes out; connects lazily.

    ``redis+sentinel://[user:password@]host:port,host:port/master[/db]`` asks the sentinels for the
    master. Raises :class:`ConfigError` for a URL that cannot be one, and for a Cluster's, which
    :class:`control.stores.servers.Servers` is for.
    """
    limits = options(timeout_s=timeout_s, retries=retries)
    if url.startswith("redis+sentinel://"):
        return _behind_sentinel(url, limits)
    try:
        return Redis.from_url(url, **limits)
    except ValueError as error:
        raise ConfigError(f"REDIS_URL: {error}") from None


def options(*, timeout_s: float, retries: int) -> dict[str, Any]:
    """What every pool of connections is told."""
    return {
        "socket_timeout": timeout_s,
        "socket_connect_timeout": timeout_s,
        "retry": Retry(NoBackoff(), retries, supported_errors=(RedisConnectionError,)),
    }


@contextlib.contextmanager
def guard() -> Iterator[None]:
    """Turn redis-py's errors of an unusable server into :class:`StoreUnavailable`.

    Errors that are our own fault (a wrong command, a broken script) pass unchanged.
    """
    try:
        yield
    except (RedisError, OSError) as error:
        reason = outage(error)
        if reason is None:
            raise
        raise StoreUnavailable("redis", reason) from error


def needs_login(error: BaseException) -> bool:
    """Whether Redis wants a password and was given none: redis-py calls it a failed connection."""
    return "HELLO must be called with the client already authenticated" in str(error)


def outage(error: BaseException) -> str | None:
    """Why Redis is unusable, in a few safe words; ``None`` if ``error`` means something else."""
    if distrusts(error):
        return "its certificate is not trusted"
    if needs_login(error):
        return "authentication failed"
    for kinds, reason in _OUTAGES:
        if isinstance(error, kinds):
            return reason
    code = str(error).split(maxsplit=1)[0] if str(error) else ""
    return _REFUSALS.get(code) if isinstance(error, RedisError) else None


def _behind_sentinel(url: str, options: dict[str, Any]) -> Redis:
    parts = urlsplit(url)
    userinfo, _, hosts = parts.netloc.rpartition("@")
    sentinels = []
    for host in hosts.split(","):
        name, _, port = host.partition(":")
        if not name or (port and not port.isdigit()):
            raise ConfigError("REDIS_URL: redis+sentinel:// needs host:port,host:port/master[/db]")
        sentinels.append((name, int(port or DEFAULT_SENTINEL_PORT)))
    master, _, db = parts.path.strip("/").partition("/")
    if not master or (db and not db.isdigit()):
        raise ConfigError("REDIS_URL: redis+sentinel:// needs the master's name: …/mymaster/0")
    user, _, password = userinfo.partition(":")
    credentials = {"username": unquote(user) or None, "password": unquote(password) or None}
    of_sentinel = {
        "password": next(iter(parse_qs(parts.query).get("sentinel_password", [])), None),
        "socket_timeout": options["socket_timeout"],
    }
    manager: Any = Sentinel(  # type: ignore[no-untyped-call]
        sentinels, sentinel_kwargs=of_sentinel, **credentials, **options
    )
    found: Redis = manager.master_for(master, db=int(db or 0))
    return found
