"""Real stores for every test: one embedded Redis, PostgreSQL and Bolt server for the session."""

import asyncio
import os
import signal
from collections.abc import AsyncIterator
from contextlib import suppress
from typing import Any
from urllib.parse import quote
from uuid import uuid4

import asyncpg
import psutil
import pytest
from neo4j import AsyncGraphDatabase
from redis.asyncio import Redis

from control import keys, logs, migrations
from control.config import Config, GraphSection, PostgresSection, load
from control.stores.postgres import Database
from deploy.embedded import stores as embedded
from deploy.embedded.folder import DataFolder
from deploy.embedded.keeper import Keeper
from deploy.embedded.stores import Stores
from tests import signals
from tests.neo4j.server import JARS, Neo4jServer
from tests.stack import SO_S, SPARING

logs.SOON_S = 0.0  # what one test makes happen must not be told in the middle of the next
LONG = (
    "test_up", "test_crossing", "test_cli_control", "test_health_faults", "test_plane_stores",
    "test_worker", "test_drain", "test_plane_redis", "test_plane_crash", "test_plane_commands",
    "test_plane_links", "test_health_checks", "test_flags_client", "test_wheel",
    "test_readme_kinds", "test_cli_optimize", "test_service_outage", "test_optimize_kind",
    "test_cli_config", "test_up_beside", "test_roll", "test_ingest_faults", "test_archiving",
    "test_restore", "test_job_outages", "test_status_routes",
)  # fmt: skip
"""The files that take longest, which begin first, lest one is left over when all else is done."""


def pytest_configure() -> None:
    os.environ.update(SPARING)
    if JARS:
        embedded.GraphServer = Neo4jServer  # type: ignore[assignment, misc]
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        # As a shell does for what runs in its background; processes would inherit that.
        signal.signal(signal.SIGINT, signal.default_int_handler)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    rank = {name: number for number, name in enumerate(LONG)}
    items.sort(key=lambda item: rank.get(item.path.stem, len(LONG)))
    for item in items:
        if "graph" in getattr(item, "fixturenames", ()):
            item.add_marker("graph")


class LiveStores:
    """The session's stores. ``name`` is redis, postgres or graph.

    Whoever freezes, kills or stops one puts it right again before the test ends.
    """

    def __init__(self, folder: DataFolder) -> None:
        self._stores = Stores(folder, Config(), os.environ, say=print)
        self._superuser_password = folder.secret("postgres-superuser")
        self._sockets = str(folder.run)
        self.addresses = self._stores.addresses
        self.environment = self.addresses.environment()
        """For a process that a test starts."""
        self.config: Config = load(("test", self.environment))
        """These stores, and defaults for all else."""

    def pid(self, name: str) -> int:
        """The process of a store that runs."""
        pid = self._stores.pid(name)
        assert pid is not None, f"{name} is down"
        return pid

    def freeze(self, name: str) -> None:
        """Hold a store's processes (SIGSTOP): it keeps its connections and answers nothing."""
        self._send(name, signal.SIGSTOP)

    def thaw(self, name: str) -> None:
        """Let a frozen store go on."""
        self._send(name, signal.SIGCONT)

    async def kill(self, name: str) -> None:
        """kill -9, and wait until it is dead, with its helpers; it stays down until
        :meth:`restart`."""
        server = psutil.Process(self.pid(name))
        helpers = server.children(recursive=True)
        server.kill()
        await self._keeper(name).stop()
        for helper in helpers:  # PostgreSQL's would answer until they notice
            with suppress(psutil.NoSuchProcess):
                helper.kill()
        _, alive = await asyncio.to_thread(psutil.wait_procs, helpers, timeout=SO_S)
        assert not alive

    async def stop(self, name: str) -> None:
        """Stop a store in good order; it stays down until :meth:`restart`."""
        await self._keeper(name).stop()

    async def restart(self, name: str) -> None:
        """Start a store, stopping it first if it runs: same address, same data."""
        await self._keeper(name).stop()
        await self._keeper(name).start()

    async def start_all(self) -> None:
        """Start the three at once, and bring the database's schema up to date."""
        await asyncio.gather(*(keeper.start() for keeper in self._stores.keepers.values()))
        await migrations.migrate(self.addresses.database_url)

    async def close(self) -> None:
        """Stop the three and let go of what is held for them."""
        await self._stores.stop()
        self._stores.close()

    async def make_database(self, name: str) -> str:
        """A new empty database that the application's role owns; its URL."""
        await self._as_superuser(f'CREATE DATABASE "{name}" OWNER drawbridge')
        return self.addresses.database_url.replace("@/drawbridge?", f"@/{quote(name)}?")

    async def drop_database(self, name: str) -> None:
        """Drop a database, whoever is still connected to it."""
        await self._as_superuser(f'DROP DATABASE IF EXISTS "{name}" WITH (FORCE)')

    async def set_password(self, password: str) -> None:
        """Give the application's role another password, and end its connections."""
        quoted = password.replace("'", "''")
        await self._as_superuser(f"ALTER ROLE drawbridge PASSWORD '{quoted}'")
        await self._end_connections()

    async def set_connections(self, most: int) -> None:
        """Let the application's role have so many connections (-1: any number), and end those that
        it has."""
        await self._as_superuser(f"ALTER ROLE drawbridge CONNECTION LIMIT {most:d}")
        await self._end_connections()

    async def _end_connections(self) -> None:
        await self._as_superuser(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE usename = 'drawbridge'"
        )

    async def _as_superuser(self, statement: str) -> None:
        connection = await asyncpg.connect(
            host=self._sockets,
            user="postgres",
            password=self._superuser_password,
            database="postgres",
        )
        try:
            await connection.execute(statement)
        finally:
            await connection.close()

    def _keeper(self, name: str) -> Keeper:
        return self._stores.keepers[name]

    def _send(self, name: str, number: signal.Signals) -> None:
        parent = psutil.Process(self.pid(name))
        signals.send(parent.pid, number)  # first, so that it makes no further children
        for child in parent.children(recursive=True):
            with suppress(ProcessLookupError):  # a backend whose client has just left
                signals.send(child.pid, number)


@pytest.fixture(scope="session")
async def stores(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[LiveStores]:
    """Real stores that live as long as the test session."""
    folder = DataFolder(tmp_path_factory.mktemp("stores"))
    live = LiveStores(folder)
    try:
        await live.start_all()
        yield live
    finally:
        await live.close()
        folder.close()


_FLAGS_DOWN: dict[Any, Any] = {
    "epoch": 1,
    "version": 0,
    "document": '{"epoch":1,"version":0,"flags":{}}',
    "app_maintenance": 0,
    "app_data_ingestion": 0,
}


async def open_gate(redis: Redis) -> None:
    """Project flags that are off, as older than any document that a controller makes.

    Without a projection the scripts do not know whether the bridge is up, and let nothing pass.
    """
    writing: Any = redis  # redis-py types both ways at once
    await writing.hset(keys.FLAGS, mapping=_FLAGS_DOWN)


@pytest.fixture
async def redis(stores: LiveStores) -> AsyncIterator[Redis]:
    """A client of a Redis that holds nothing but flags, all of them off; bytes in and out."""
    async with Redis.from_url(stores.addresses.redis_url, socket_timeout=SO_S) as client:
        await client.flushall()
        await open_gate(client)
        yield client


@pytest.fixture
async def database_url(stores: LiveStores) -> AsyncIterator[str]:
    """An empty database of the test's own."""
    name = f"test_{uuid4().hex[:12]}"
    yield await stores.make_database(name)
    await stores.drop_database(name)


@pytest.fixture
async def database(database_url: str) -> AsyncIterator[Database]:
    """A pool on a database of the test's own that has the schema."""
    await migrations.migrate(database_url)
    async with Database(PostgresSection(url=database_url)) as opened:
        yield opened


@pytest.fixture
async def graph(stores: LiveStores) -> GraphSection:
    """Where an empty graph database is."""
    section = stores.config.graph
    async with (
        AsyncGraphDatabase.driver(section.uri, auth=(section.user, section.password)) as driver,
        driver.session(database=section.database) as session,
    ):
        await (await session.run("MATCH (n) DETACH DELETE n")).consume()
    return section
