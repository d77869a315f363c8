"""The checks of the stores. Each asks over a connection of its own, apart from all traffic.

The drivers' own time limits lie above the engine's deadline: the engine's verdict comes first, and
its cancellation makes them drop the connection, so that the next probe begins with a fresh one.
"""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Mapping, Sequence

import asyncpg

from control import sql
from control.config import Config, GraphSection
from control.health.check import Check, Importance
from control.stores import graph, postgres, redis

READY = "ready"
"""The tag of the checks that decide on ``/ready``."""

_DRIVER_LIMIT_S = 3.0


@contextlib.asynccontextmanager
async def checks(config: Config) -> AsyncIterator[Sequence[Check]]:
    """The checks ``redis``, ``neo4j`` and ``database``; their connections are closed at the end."""
    of_redis = RedisProbe(config.redis.url)
    of_graph = GraphProbe(config.graph)
    of_database = DatabaseProbe(config.postgres.url)
    try:
        yield (
            Check("redis", of_redis.ask, frozenset({READY})),
            Check("neo4j", of_graph.ask, frozenset({READY})),
            Check("database", of_database.ask, importance=Importance.DEGRADING),
        )
    finally:
        of_database.close()
        await asyncio.gather(of_redis.close(), of_graph.close())


class RedisProbe:
    """PING."""

    def __init__(self, url: str) -> None:
        self._client = redis.client(url, timeout_s=_DRIVER_LIMIT_S, retries=0)

    async def ask(self) -> Mapping[str, object]:
        """Raises redis-py's errors."""
        await self._client.ping()
        return {}

    async def close(self) -> None:
        """Close the connection."""
        await self._client.aclose()


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

    def __init__(self, url: str) -> None:
        self._url = url
        self._query = sql.queries("health")["probe"]
        self._kept: asyncpg.Connection | None = None

    async def ask(self) -> Mapping[str, object]:
        """Raises asyncpg's errors."""
        connection, self._kept = self._kept, None  # a probe that hangs keeps its own to itself
        if connection is None or connection.is_closed():
            connection = await postgres.connect(
                self._url, connect_s=_DRIVER_LIMIT_S, query_s=_DRIVER_LIMIT_S
            )
        try:
            in_recovery = await connection.fetchval(self._query)
        except BaseException:
            connection.terminate()
            raise
        self.close()
        self._kept = connection
        return {"in_recovery": in_recovery}

    def close(self) -> None:
        """Drop the connection at once."""
        if self._kept is not None:
            self._kept.terminate()
            self._kept = None
