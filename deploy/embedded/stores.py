"""The three stores of the stack, embedded or given from outside."""

import asyncio
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

from control.config import Config
from deploy.embedded.folder import DataFolder
from deploy.embedded.graph_server import GraphServer
from deploy.embedded.keeper import Keeper
from deploy.embedded.postgres_server import PostgresServer
from deploy.embedded.redis_server import RedisServer

NAMES = ("redis", "postgres", "graph")


@dataclass(frozen=True)
class Addresses:
    """Where the stores are, under the names of the ready line."""

    redis_url: str
    database_url: str
    neo4j_uri: str
    neo4j_user: str
    neo4j_password: str

    def environment(self) -> dict[str, str]:
        """The same as environment variables."""
        return {
            "REDIS_URL": self.redis_url,
            "DATABASE_URL": self.database_url,
            "NEO4J_URI": self.neo4j_uri,
            "NEO4J_USER": self.neo4j_user,
            "NEO4J_PASSWORD": self.neo4j_password,
        }


class Stores:
    """The embedded servers that run, each with its keeper. A URL in ``config`` that was set by
    somebody (it has a source) replaces the embedded server.

    Raises :class:`control.errors.DrawbridgeError` where a wheel is missing.
    """

    def __init__(
        self,
        folder: DataFolder,
        config: Config,
        environ: Mapping[str, str],
        say: Callable[[str], None],
        redis_program: Path | None = None,
    ) -> None:
        redis = (
            None if "REDIS_URL" in config.sources else RedisServer(folder, environ, redis_program)
        )
        postgres = None if "DATABASE_URL" in config.sources else PostgresServer(folder, environ)
        graph = (
            None
            if "NEO4J_URI" in config.sources
            else GraphServer(folder, environ, config.graph.database)
        )
        self.keepers = {
            part.name: Keeper(part, say) for part in (redis, postgres, graph) if part is not None
        }
        self.addresses = Addresses(
            redis_url=redis.url if redis else config.redis.url,
            database_url=postgres.url if postgres else config.postgres.url,
            neo4j_uri=graph.uri if graph else config.graph.uri,
            neo4j_user=graph.user if graph else config.graph.user,
            neo4j_password=graph.password if graph else config.graph.password,
        )
        self._redis = redis
        self._graph = graph

    def pid(self, name: str) -> int | None:
        """The process of an embedded store; ``None`` where it is not embedded."""
        keeper = self.keepers.get(name)
        return keeper.pid if keeper else None

    async def sync(self) -> None:
        """Bring the embedded Redis' writes to the disk, for ever."""
        if self._redis is not None:
            await self._redis.sync_each_second()
        else:
            await asyncio.Event().wait()

    async def stop(self) -> None:
        """Stop them all, each within its last resort."""
        await asyncio.gather(*(keeper.stop() for keeper in self.keepers.values()))

    def close(self) -> None:
        """Let go of what is held for them."""
        if self._graph is not None:
            self._graph.close()
