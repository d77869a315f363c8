"""A Redis Cluster: which master serves which slot, and connections that lead there.

All keys of one hash tag lie in one slot, and so on one master. So an ordinary client will do whose
connections lead to the master of that slot, as those of Sentinel lead to the present master. Each
connection asks the nodes anew before it connects; a slot that has moved cuts those of its
connections that lead elsewhere.

While keys are being moved (ASK, TRYAGAIN) a slot counts as away: half of its keys are no state that
a script could act on.
"""

import asyncio
import random
from bisect import bisect_right
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit
from weakref import WeakSet

from redis.asyncio import Redis
from redis.asyncio.connection import Connection, ConnectionPool, SSLConnection, parse_url
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.crc import key_slot
from redis.exceptions import ClusterDownError, MovedError, ReadOnlyError, RedisError
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import TimeoutError as RedisTimeoutError

from control.errors import ConfigError

SCHEMES = ("redis+cluster", "rediss+cluster")
SLOTS = 16_384
DEFAULT_PORT = 6379
ANSWER_S = 1.0
"""How long one node has to say where the slots are; then the next one is asked."""

Address = tuple[str, int]


@dataclass(frozen=True)
class Shard:
    """A range of slots, its master, and whoever follows that."""

    first: int
    last: int
    master: Address
    replicas: tuple[Address, ...]


@dataclass(frozen=True)
class View:
    """What one node says of the cluster. ``well``: it says that every slot is served."""

    well: bool
    assigned: int
    shards: tuple[Shard, ...]


def is_cluster(url: str) -> bool:
    """Whether ``url`` is the address of a Redis Cluster."""
    return urlsplit(url).scheme in SCHEMES


class Cluster:
    """The nodes of a Redis Cluster and what they say. One for all clients that belong together."""

    def __init__(self, url: str) -> None:
        """``redis+cluster://[user:password@]host:port,host:port``, ``rediss+cluster://`` for TLS,
        with redis-py's options in the query. Raises :class:`ConfigError`."""
        self._seeds, self._options = _parsed(url)
        self._silent: set[Address] = set()
        """Those that did not answer last; they are asked after all others."""
        self._shards: tuple[Shard, ...] = ()
        self._firsts: list[int] = []
        self._looking = asyncio.Lock()
        self._looked_at = -1.0
        self._failure: RedisError | None = None
        self._led: WeakSet[_Led] = WeakSet()
        self._on_move: list[Callable[[], None]] = []

    def pool(self, slot: int, **options: Any) -> "SlotPool":
        """Connections to the master of ``slot``."""
        secure = "connection_class" in self._options
        merged = {**options, **self._options, "connection_class": _LedByTLS if secure else _Led}
        return SlotPool(self, slot, **merged)

    def known(self, slot: int) -> Address | None:
        """The master of ``slot`` as far as is known."""
        at = bisect_right(self._firsts, slot) - 1
        if at < 0 or slot > self._shards[at].last:
            return None
        return self._shards[at].master

    async def master(self, slot: int) -> Address:
        """The master of ``slot`` as the nodes say now. Raises redis-py's errors."""
        asked_at = asyncio.get_running_loop().time()
        async with self._looking:
            if self._looked_at < asked_at:  # else somebody has looked since
                self._looked_at = asyncio.get_running_loop().time()
                self._failure = None
                try:
                    self._take(await self.look())
                except (RedisError, OSError) as error:
                    self._failure = _as_outage(error)
            if self._failure is not None:
                raise self._failure
        found = self.known(slot)
        if found is None:
            raise RedisConnectionError("no master serves the slot")
        return found

    async def look(self) -> View:
        """What the first node says that finds the cluster well; where none does, the first that
        answers. Raises redis-py's errors where none can be asked."""
        poor: View | None = None
        failure: Exception = RedisConnectionError("no node of the cluster answers")
        for address in self._in_turn():
            try:
                view = await self.ask(address)
            except (RedisError, OSError) as error:
                self._silent.add(address)
                failure = error
                continue
            self._silent.discard(address)
            if view.well:
                return view
            poor = poor or view
        if poor is None:
            raise failure
        return poor

    async def ask(self, address: Address) -> View:
        """What one node says. Raises redis-py's errors, :class:`ResponseError` for a server that is
        no part of a cluster or does not let us ask."""
        client = self.client(address)
        client.response_callbacks.clear()  # they make of it what each release thinks best
        asking: Any = client.pipeline(transaction=False)
        try:
            told, ranges = (
                await asking.execute_command("CLUSTER", "INFO")
                .execute_command("CLUSTER", "SLOTS")
                .execute()
            )
        finally:
            await client.aclose()
        said = dict(line.split(":", 1) for line in _text(told).split() if ":" in line)
        shards = sorted((_shard(one, address) for one in ranges), key=lambda shard: shard.first)
        assigned = int(said.get("cluster_slots_assigned", 0))
        return View(said.get("cluster_state") == "ok", assigned, tuple(shards))

    def client(self, address: Address, *, timeout_s: float = ANSWER_S) -> Redis:
        """A client of one node, whatever it serves."""
        options = {
            "socket_timeout": timeout_s, "socket_connect_timeout": timeout_s,
            "retry": Retry(NoBackoff(), 0), **self._options,
        }  # fmt: skip
        return Redis.from_pool(ConnectionPool(host=address[0], port=address[1], **options))

    def on_move(self, tell: Callable[[], None]) -> None:
        """Have ``tell`` called whenever a slot has another master, before anybody is led there."""
        self._on_move.append(tell)

    def lead(self, connection: "_Led") -> None:
        """``connection`` is up: cut it when its slot moves. Raises redis-py's connection error
        where that has happened by now."""
        if self.known(connection.slot) != (connection.host, connection.port):
            connection.cut()
            raise RedisConnectionError("the slot has another master by now")
        self._led.add(connection)

    def _in_turn(self) -> Iterator[Address]:
        """All that are known, in an order that spreads a fleet over them."""
        known = {address for shard in self._shards for address in (shard.master, *shard.replicas)}
        found = [*known.union(self._seeds)]
        random.shuffle(found)
        yield from sorted(found, key=lambda address: address in self._silent)

    def _take(self, view: View) -> None:
        if view.shards == self._shards:
            return
        self._shards, self._firsts = view.shards, [shard.first for shard in view.shards]
        for tell in self._on_move:
            tell()
        for connection in list(self._led):
            if self.known(connection.slot) != (connection.host, connection.port):
                self._led.discard(connection)
                connection.cut()


class SlotPool(ConnectionPool):
    """A pool whose connections lead to the master of one slot."""

    def __init__(self, cluster: Cluster, slot: int, **options: Any) -> None:
        super().__init__(cluster=cluster, slot=slot, **options)
        self._cluster = cluster
        self._slot = slot

    def on_move(self, tell: Callable[[], None]) -> None:
        """Have ``tell`` called when the slot is known to have another master."""
        before = [self._cluster.known(self._slot)]

        def moved() -> None:
            now = self._cluster.known(self._slot)
            if before[0] not in (None, now):
                tell()
            before[0] = now

        self._cluster.on_move(moved)


class _Led(Connection):
    """A connection to the master of one slot."""

    def __init__(self, *, cluster: Cluster, slot: int, **options: Any) -> None:
        self._cluster = cluster
        self.slot = slot
        super().__init__(**options)

    async def connect_check_health(
        self, check_health: bool = True, retry_socket_connect: bool = True
    ) -> None:
        """Connect to whoever is the master now, unless that is done: every way of redis-py's to a
        connection leads through here."""
        if self.is_connected:
            return
        self.host, self.port = await self._cluster.master(self.slot)
        await super().connect_check_health(check_health, retry_socket_connect)
        self._cluster.lead(self)

    async def read_response(self, *given: Any, **options: Any) -> Any:
        """The next answer. One that says that this is not the place ends the connection."""
        try:
            return await super().read_response(*given, **options)
        except (MovedError, ReadOnlyError) as error:
            await self.disconnect(nowait=True)
            raise RedisConnectionError("the slot has another master") from error  # is sent again
        except ClusterDownError:
            await self.disconnect(nowait=True)
            raise

    def cut(self) -> None:
        """Break it off at once."""
        if self._writer is not None:
            self._writer.transport.abort()


class _LedByTLS(_Led, SSLConnection):
    """The same by TLS."""


def slot_of(key: str) -> int:
    """The slot in which ``key`` lies."""
    found: int = key_slot(key.encode())
    return found


def _parsed(url: str) -> tuple[Sequence[Address], Mapping[str, Any]]:
    parts = urlsplit(url)
    userinfo, at, hosts = parts.netloc.rpartition("@")
    if parts.path.strip("/") not in ("", "0"):
        raise ConfigError("REDIS_URL: a Redis Cluster has no other database than 0")
    seeds = []
    for host in hosts.split(","):
        try:
            one = urlsplit(f"//{host}")
            seeds.append((one.hostname or "", one.port or DEFAULT_PORT))
        except ValueError:
            seeds.append(("", 0))
    if not all(name for name, _ in seeds):
        raise ConfigError(f"REDIS_URL: {parts.scheme}:// needs host:port,host:port")
    scheme = parts.scheme.partition("+")[0]
    query = f"?{parts.query}" if parts.query else ""
    try:
        options: dict[str, Any] = dict(parse_url(f"{scheme}://{userinfo}{at}seed{query}"))
    except ValueError as error:
        raise ConfigError(f"REDIS_URL: {error}") from None
    options.pop("host", None)
    return seeds, options


def _shard(told: Sequence[Any], asked: Address) -> Shard:
    """One range of ``CLUSTER SLOTS``. A node that does not say its host has the one we asked."""
    first, last, *nodes = told
    unknown = ("", "?")
    places = []
    for host, port, *_ in nodes:
        name = "" if host is None else _text(host)
        places.append((asked[0] if name in unknown else name, int(port)))
    return Shard(int(first), int(last), places[0], tuple(places[1:]))


def _as_outage(error: Exception) -> RedisError:
    """What was wrong with a node, as an error of a store that is away."""
    if isinstance(error, (RedisConnectionError, RedisTimeoutError)):
        return error
    return RedisConnectionError(str(error))


def _text(told: Any) -> str:
    return told.decode() if isinstance(told, bytes) else str(told)
