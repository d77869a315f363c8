"""The checks of the stores. Each asks over a connection of its own, apart from all traffic.

The drivers' own time limits lie above the engine's deadline: the engine's verdict comes first, and
its cancellation makes them drop the connection, so that the next probe begins with a fresh one.
"""

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from importlib.resources import files
from typing import Any

import asyncpg
from redis.exceptions import RedisError, ResponseError

from control import keys, sql
from control.config import Config, GraphSection, PostgresSection
from control.flags.presence import RENEW_S, Presence
from control.health.check import WARNING, Check, Down, Importance
from control.health.engine import Engine
from control.health.report import Memory, Pool, milliseconds
from control.ids import new_id
from control.job_keys import shards
from control.stores import graph, postgres, redis
from control.stores.servers import Servers
from control.subscriber import Subscribers

REDIS, NEO4J, DATABASE = "redis", "neo4j", "database"
"""The checks, named as :class:`control.errors.StoreUnavailable` names what is away."""

READY = "ready"
"""The tag of the checks that decide on ``/ready``."""

NEARLY_FULL = 0.95
"""The share of a limit from which on there is a warning."""

_DRIVER_LIMIT_S = 3.0
_REDIS_S = 1.6
VOUCHED_S = RENEW_S + 0.1
"""Each report of this instance to the fleet is a write that Redis took, so it vouches for Redis
until the next one is overdue; together with the deadline of the probe that follows, for less than
the three seconds after which a dead store shows."""

_ECHO_MS = 10_000

Occupancy = Callable[[], tuple[int, int, int]]
"""How many connections a pool has in use, how many open, how many it may open at most."""


class ReadBackDiffers(Exception):
    """Redis took a value and gave another one back, or none."""


@contextlib.asynccontextmanager
async def checks(
    config: Config, *, pool: Occupancy | None = None
) -> AsyncIterator[Sequence[Check]]:
    """The checks ``redis``, ``neo4j`` and ``database``; their connections are closed at the end.

    ``pool`` is the occupancy of the application's connections, told beside the check of PostgreSQL.
    """
    every_s = config.health.every_s
    of_redis = RedisProbe(config.redis.url, config.jobs.shards)
    of_graph = GraphProbe(config.graph)
    of_database = DatabaseProbe(config.postgres, pool)
    try:
        yield (
            Check(
                REDIS,
                of_redis.ask,
                frozenset({READY}),
                interval_s=every_s,
                timeout_s=_REDIS_S,
                vouched_s=VOUCHED_S,
            ),
            Check(NEO4J, of_graph.ask, frozenset({READY}), interval_s=every_s),
            Check(DATABASE, of_database.ask, importance=Importance.DEGRADING, interval_s=every_s),
        )
    finally:
        of_database.close()
        await asyncio.gather(of_redis.close(), of_graph.close())


def heed(engine: Engine, subscribers: Subscribers, presence: Presence) -> None:
    """Let the check of Redis hear what this instance's own links to it notice. On a Cluster a
    report tells of one server of several, and so vouches for none."""
    subscribers.on_loss(lambda: engine.suspect(REDIS))
    if not subscribers.apart:
        presence.on_well(lambda at: engine.vouch(REDIS, at))


class RedisProbe:
    """A value written and read back: a full Redis or a read-only one answers PING too. On a Cluster
    every server is asked that the control plane or jobs need; what is told is of the fullest."""

    def __init__(self, url: str, job_shards: int = 1) -> None:
        self._servers = Servers(url, timeout_s=_DRIVER_LIMIT_S, retries=0)
        text = files(__package__).joinpath("lua", "echo.lua").read_text()
        beside = [keys.HEALTH]
        if self._servers.divided:
            beside = [keys.CONTROL, *(each.prefix for each in shards(job_shards))]
        self._echoes: dict[str, Any] = {
            keys.echo(new_id(), each): self._servers.commands(each).register_script(text)
            for each in beside
        }

    async def ask(self) -> Mapping[str, object]:
        """Raises redis-py's errors, and :class:`ReadBackDiffers`."""
        told = await asyncio.gather(*(self._ask(key, echo) for key, echo in self._echoes.items()))
        return max(told, key=lambda each: _used(each.get("memory")))

    async def _ask(self, key: str, echo: Any) -> Mapping[str, object]:
        nonce, began = new_id(), time.monotonic()
        try:
            read, *server = await echo([key], [nonce, _ECHO_MS])
        except RedisError as error:
            if (named := _named(error)) is None:
                raise
            raise named from None
        took_s = time.monotonic() - began
        if read != nonce.encode():
            raise ReadBackDiffers
        return {"round_trip_ms": milliseconds(took_s), **_of_server(*map(bytes.decode, server))}

    async def close(self) -> None:
        """Close the connections."""
        await self._servers.aclose()


def _named(error: RedisError) -> Down | None:
    """What ``error`` means where redis-py has no class for it."""
    if redis.needs_login(error):
        return Down("AuthenticationFailed")
    if "max number of clients" in str(error):
        return Down("TooManyConnections")
    why = redis.outage(error) if type(error) is ResponseError else None
    return None if why is None else Down(why)


def _used(memory: object) -> int:
    return memory.used_bytes if isinstance(memory, Memory) else 0


def _of_server(used: str, most: str, policy: str, role: str, replicas: str) -> dict[str, object]:
    """What INFO tells, where the server lets us ask for it."""
    told: dict[str, object] = {}
    if used:
        limit = int(most or 0)
        percent = round(100 * int(used) / limit, 1) if limit else None
        told["memory"] = Memory(int(used), limit, percent)
        told["policy"] = policy
        if percent is not None and percent >= 100 * NEARLY_FULL:
            told[WARNING] = "MemoryNearlyFull"
    if role:
        told["role"] = role
        told["replicas"] = int(replicas or 0)
    return told


class GraphProbe:
    """A query, because a server of the Bolt protocol may answer before its database does."""

    def __init__(self, section: GraphSection) -> None:
        self._database = section.database
        self._driver = graph.driver(section, acquire_s=_DRIVER_LIMIT_S, pool_size=2)

    async def ask(self) -> Mapping[str, object]:
        """Raises the driver's errors."""
        async with self._driver.session(database=self._database) as session:
            answer = await session.run("RETURN 1")
            summary = await answer.consume()
        return {"server": summary.server.agent}

    async def close(self) -> None:
        """Close the connections."""
        await graph.close(self._driver)


class DatabaseProbe:
    """One query on a connection that is kept, and replaced when it fails."""

    def __init__(self, section: PostgresSection, pool: Occupancy | None = None) -> None:
        self._section = section
        self._pool = pool
        self._query = sql.queries("health")["probe"]
        self._kept: asyncpg.Connection | None = None

    async def ask(self) -> Mapping[str, object]:
        """Raises asyncpg's errors."""
        connection, self._kept = self._kept, None  # a probe that hangs keeps its own to itself
        if connection is None or connection.is_closed():
            connection = await postgres.connect(
                self._section.url,
                connect_s=_DRIVER_LIMIT_S,
                query_s=_DRIVER_LIMIT_S,
                pooled=self._section.pooled,
            )
        try:
            async with postgres.together(connection, self._section):
                row = await connection.fetchrow(self._query)
        except BaseException:
            connection.terminate()
            raise
        assert row is not None  # noqa: S101 - SELECT without FROM
        self.close()
        self._kept = connection
        told: dict[str, object] = dict(row)
        if self._pool is not None:
            told["pool"] = Pool(*self._pool())
        return told | self._warned(told)

    def _warned(self, told: Mapping[str, Any]) -> dict[str, object]:
        pool: Pool | None = told.get("pool")
        if told["in_recovery"]:
            return {WARNING: "ReadOnlyStandby"}
        if told["connections"] >= NEARLY_FULL * told["max_connections"]:
            return {WARNING: "ConnectionsNearlyUsedUp"}
        if pool is not None and pool.in_use >= pool.max:
            return {WARNING: "PoolExhausted"}
        return {}

    def close(self) -> None:
        """Drop the connection at once."""
        if self._kept is not None:
            self._kept.terminate()
            self._kept = None
