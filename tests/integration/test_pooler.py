"""PostgreSQL behind a PgBouncer that pools transactions: used, or refused without a way past it."""

import asyncio
import os
import shutil
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import NamedTuple
from urllib.parse import parse_qs, unquote, urlsplit

import pytest
from redis.asyncio import Redis

from control import preflight
from control.config import Config, load
from control.errors import ConfigError, StoreUnavailable
from control.flags import commands
from control.flags.document import INGESTION
from control.health.dependencies import DatabaseProbe
from control.migrations import migrate
from control.stores import postgres
from control.stores.postgres import Database
from tests.conftest import LiveStores
from tests.planes import planes
from tests.processes import replica
from tests.stack import wait_until

PROGRAM = shutil.which("pgbouncer")
SERVERS = 2
"""Connections to PostgreSQL that all clients share."""

pytestmark = pytest.mark.skipif(PROGRAM is None, reason="PgBouncer is not installed")


class Pooler(NamedTuple):
    """The addresses of one database."""

    direct: str
    transactions: str
    sessions: str

    def config(self, stores: LiveStores) -> Config:
        """As an operator sets it."""
        variables = {
            "DATABASE_URL": self.transactions,
            "DRAWBRIDGE_DATABASE_DIRECT_URL": self.direct,
        }
        return load(("test", stores.environment | variables))


@asynccontextmanager
async def pooling(database_url: str) -> AsyncIterator[Pooler]:
    """PgBouncer in front of a database, in both modes; ended with the block."""
    parts = urlsplit(database_url)
    [socket] = parse_qs(parts.query)["host"]
    server = (
        f"host={socket} dbname={parts.path[1:]} user={parts.username} "
        f"password={unquote(parts.password or '')}"
    )
    with TemporaryDirectory() as folder:
        configuration = Path(folder) / "pgbouncer.ini"
        configuration.write_text(
            f"[databases]\n"
            f"transactions = {server} pool_mode=transaction pool_size={SERVERS}\n"
            f"sessions = {server} pool_mode=session pool_size=10\n"
            f"[pgbouncer]\nlisten_addr =\nunix_socket_dir = {folder}\nauth_type = any\n"
        )
        assert PROGRAM is not None
        # It does not want to be root; to the files it still is.
        alone = ("unshare", "--user", "--map-user=65534", "--map-group=65534")
        process = await asyncio.create_subprocess_exec(
            *(alone if os.geteuid() == 0 else ()), PROGRAM, "-q", configuration,
            stderr=asyncio.subprocess.DEVNULL,
        )  # fmt: skip
        try:
            await wait_until((Path(folder) / ".s.PGSQL.6432").exists)
            at = f"?host={folder}&port=6432"
            yield Pooler(
                database_url,
                f"postgresql://drawbridge@/transactions{at}",
                f"postgresql://drawbridge@/sessions{at}",
            )
        finally:
            if process.returncode is None:
                process.kill()
            await process.wait()


@pytest.fixture
async def pooler(database_url: str) -> AsyncIterator[Pooler]:
    """In front of a database that has the schema."""
    await migrate(database_url)
    async with pooling(database_url) as running:
        yield running


async def test_many_instances_share_a_few_servers(
    stores: LiveStores, redis: Redis, pooler: Pooler
) -> None:
    config = pooler.config(stores)
    async with planes(config) as fleet, Database(config.postgres) as database:
        first, second = await fleet.open(), await fleet.open("worker")

        async def ask(number: int) -> None:
            text = f"number {number}"  # of a statement of its own: none may meet another's
            row = await database.fetchrow(f"SELECT $1::text, '{text}' AS own", text)
            assert row is not None
            assert tuple(row) == (text, text)

        async def change(number: int) -> None:
            command = commands.new("set", INGESTION, value=bool(number % 2), actor="ann")
            assert (await first.change(command, internal=True)).done

        async with asyncio.TaskGroup() as group:
            for number in range(100):
                group.create_task(ask(number))
            for number in range(5):
                group.create_task(change(number))
            for plane in (first, second):
                for _ in range(10):
                    group.create_task(plane.ledger.read())
        document = await first.ledger.read()
        await wait_until(lambda: second.replica.document == document)
        assert (await first.audit.verify()).intact
        probe = DatabaseProbe(config.postgres)
        assert (await probe.ask())["in_recovery"] is False
        probe.close()


async def test_it_is_refused_where_there_is_no_way_past_it(
    stores: LiveStores, pooler: Pooler
) -> None:
    config = pooler.config(stores)
    await preflight.check_database(config.postgres)
    for variables in (
        {"DATABASE_URL": pooler.transactions},
        {
            "DATABASE_URL": pooler.transactions,
            "DRAWBRIDGE_DATABASE_DIRECT_URL": pooler.transactions,
        },
    ):
        with pytest.raises(ConfigError, match="leads to a pooler of transactions"):
            await preflight.check_database(load(("test", variables)).postgres)
    for url in (pooler.direct, pooler.sessions):
        await preflight.check_database(load(("test", {"DATABASE_URL": url})).postgres)
    environment = stores.environment | {"DATABASE_URL": pooler.transactions}
    async with replica("worker", environment) as worker:
        assert await worker.ended() == 2
        said = [line["event"] for line in worker.lines if line.get("plain")]
        assert len(said) == 1
        assert "give the address past it as DRAWBRIDGE_DATABASE_DIRECT_URL" in said[0]


async def test_one_that_is_put_in_between_later_is_named(pooler: Pooler) -> None:
    async def meet() -> None:
        """Two connections whose statements, named alike or gone, meet on a server."""
        async with (
            postgres.connection(pooler.transactions) as one,
            postgres.connection(pooler.transactions) as other,
        ):
            for connection in (one, other):
                await connection.fetchval("SELECT 1")
            async with one.transaction():
                await one.fetchval("SELECT 2")
                await other.fetchval("SELECT 1")

    async def until_named() -> None:
        while True:
            await meet()

    with pytest.raises(StoreUnavailable, match="a pooler of transactions is in between"):
        await asyncio.wait_for(until_named(), 20)
