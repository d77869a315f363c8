"""Commands on one connection that is shared."""

import asyncio
import contextlib

import pytest
from redis.asyncio import Redis

from control.errors import StoreUnavailable
from control.stores.wire import Wire
from tests.conftest import LiveStores


async def test_what_still_waits_for_a_connection_is_dropped_too(
    stores: LiveStores, redis: Redis
) -> None:
    """Else a wire whose keys have just moved would go on where they were."""
    async with contextlib.aclosing(Redis.from_url(stores.addresses.redis_url)) as client:
        wire = Wire(client)
        asked = asyncio.create_task(wire("BLPOP", "nothing", 60, again=False))
        await asyncio.sleep(0)  # it begins to connect
        wire.drop()
        async with asyncio.timeout(30):
            with pytest.raises(StoreUnavailable, match="connection failed"):
                await asked
            assert await wire("PING") == b"PONG"
            answer = asyncio.create_task(wire("ECHO", "asked twice"))
            await asyncio.sleep(0)
            wire.drop()
            assert await answer == b"asked twice"
        await wire.aclose()
