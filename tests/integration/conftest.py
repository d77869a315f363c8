"""A fleet of control planes for the tests that need no processes."""

from collections.abc import AsyncIterator
from uuid import uuid4

import pytest
from redis.asyncio import Redis

from control.config import PostgresSection
from control.migrations import migrate
from control.stores.postgres import Database
from tests.conftest import LiveStores
from tests.planes import Planes, on, planes


@pytest.fixture
async def fleet(stores: LiveStores, redis: Redis, database_url: str) -> AsyncIterator[Planes]:
    """Planes on an empty Redis and a database of their own."""
    await redis.flushall()
    await migrate(database_url)
    async with planes(on(stores.config, database_url=database_url)) as opener:
        yield opener


@pytest.fixture(scope="module")
async def roll(stores: LiveStores) -> AsyncIterator[Database]:
    """A database with the schema that a file's tests share; see :func:`told`."""
    name = f"roll_{uuid4().hex[:12]}"
    url = await stores.make_database(name)
    await migrate(url)
    async with Database(PostgresSection(url=url)) as opened:
        yield opened
    await stores.drop_database(name)


@pytest.fixture
async def told(roll: Database) -> Database:
    """The file's database, with nobody to tell and nothing told."""
    await roll.execute("DELETE FROM drawbridge.notices")
    await roll.execute("DELETE FROM drawbridge.subscribers")
    return roll
