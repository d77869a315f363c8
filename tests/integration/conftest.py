"""A fleet of control planes for the tests that need no processes."""

from collections.abc import AsyncIterator

import pytest
from redis.asyncio import Redis

from control.migrations import migrate
from tests.conftest import LiveStores
from tests.planes import Planes, on, planes


@pytest.fixture
async def fleet(stores: LiveStores, redis: Redis, database_url: str) -> AsyncIterator[Planes]:
    """Planes on an empty Redis and a database of their own."""
    await redis.flushall()
    await migrate(database_url)
    async with planes(on(stores.config, database_url=database_url)) as opener:
        yield opener
