"""Where REDIS_URL leads: to one server, or to the masters of a Redis Cluster that share the keys.

Who needs Redis names a key, and is given a client for the server that has it. On one server that
is one client for everybody.
"""

from typing import Any

from redis.asyncio import Redis

from control.errors import StoreUnavailable
from control.stores import redis
from control.stores.cluster import Address, Cluster, is_cluster, slot_of
from control.stores.line import Argument
from control.stores.wire import Wire


class Servers:
    """Clients of one process, closed with this. They connect lazily.

    ``timeout_s`` and ``retries`` are those of :func:`control.stores.redis.client`. Raises
    :class:`ConfigError` for a URL that cannot be one.
    """

    def __init__(self, url: str, *, timeout_s: float = 2.5, retries: int = 1) -> None:
        self._url = url
        self._timeout_s = timeout_s
        self._retries = retries
        self._cluster = Cluster(url) if is_cluster(url) else None
        self._opened: list[Redis] = []
        self._shared: dict[int, Redis] = {}
        self.spread = Spread(self, self._cluster) if self._cluster is not None else None
        """For keys that lie wherever they will; ``None`` where all lie on one server."""

    @property
    def divided(self) -> bool:
        """Whether the keys lie on several servers."""
        return self._cluster is not None

    def commands(self, key: str) -> Redis:
        """The client for commands that answer at once, on keys in the slot of ``key``."""
        slot = slot_of(key) if self.divided else 0
        if slot not in self._shared:
            self._shared[slot] = self.client(key)
        return self._shared[slot]

    def listening(self, key: str) -> Redis:
        """A client for a subscription to what is published where ``key`` lies."""
        return self.client(key, retries=0)

    def client(
        self, key: str, *, timeout_s: float | None = None, retries: int | None = None
    ) -> Redis:
        """A new client for keys in the slot of ``key``."""
        timeout_s = self._timeout_s if timeout_s is None else timeout_s
        retries = self._retries if retries is None else retries
        if self._cluster is None:
            made = redis.client(self._url, timeout_s=timeout_s, retries=retries)
        else:
            options = redis.options(timeout_s=timeout_s, retries=retries)
            made = Redis.from_pool(self._cluster.pool(slot_of(key), **options))
        self._opened.append(made)
        return made

    async def aclose(self) -> None:
        """Close all of them."""
        if self.spread is not None:
            await self.spread.aclose()
        for each in self._opened:
            await each.aclose()


class Spread:
    """The wires for keys that lie anywhere on a Cluster: one to each master."""

    def __init__(self, servers: Servers, cluster: Cluster) -> None:
        self._servers = servers
        self._cluster = cluster
        self._wires: dict[Address | None, tuple[int, Wire]] = {}
        cluster.on_move(self._arrange)

    async def send(self, key: str, *command: Argument) -> Any:
        """The answer to a command on ``key``, which may be carried out twice. Raises as
        :class:`Wire` does."""
        wire = await self._wire(key)
        try:
            return await wire(*command)
        except StoreUnavailable:
            if (other := await self._wire(key)) is wire:
                raise
            return await other(*command)  # the key turned out to have moved

    async def _wire(self, key: str) -> Wire:
        """The one to whoever has ``key``, as far as is known. Where nothing is, the nodes are asked
        first: a command that went astray would end the connection, and with it others'."""
        slot = slot_of(key)
        address = self._cluster.known(slot)
        if address is None:
            with redis.guard():
                address = await self._cluster.master(slot)
        if address not in self._wires:
            self._wires[address] = slot, Wire(self._servers.client(key))
        return self._wires[address][1]

    async def aclose(self) -> None:
        """Close them."""
        for _, wire in self._wires.values():
            await wire.aclose()

    def _arrange(self) -> None:
        """Slots have moved, and each wire goes on to the master of the slot it was made for."""
        wires, self._wires = self._wires, {}
        for slot, wire in wires.values():
            if self._wires.setdefault(self._cluster.known(slot), (slot, wire))[1] is not wire:
                wire.drop()
