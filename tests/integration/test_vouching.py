"""An instance's report vouches for Redis only where a write of anybody's would have been taken."""

from typing import Any

import pytest
from redis.asyncio import Redis

from control import keys
from control.flags.presence import GAP_MS, KEPT_MS
from control.flags.projection import texts
from tests.conftest import LiveStores

ROLL = (keys.LEASES, keys.REPORTS, keys.BEGAN)
REPORT = ("one", 5_000, "{}", KEPT_MS, keys.REPLICAS_CHANNEL, 0, GAP_MS)


async def vouches(redis: Redis) -> bool:
    client: Any = redis
    _, room = await client.eval(texts()["report"], len(ROLL), *ROLL, *REPORT)
    return bool(room)


@pytest.mark.parametrize(("full", "vouched"), [(0.5, True), (0.95, False), (2.0, False)])
async def test_not_where_memory_is_nearly_used_up(redis: Redis, full: float, vouched: bool) -> None:
    assert await vouches(redis)
    used = (await redis.info("memory"))["used_memory"]
    await redis.config_set("maxmemory", int(used / full))
    try:
        assert await vouches(redis) is vouched
    finally:
        await redis.config_set("maxmemory", 0)


async def test_not_where_the_server_does_not_let_us_see(stores: LiveStores, redis: Redis) -> None:
    client: Any = redis
    may = {"categories": ["+@all"], "commands": ["-info"], "keys": ["*"], "channels": ["*"]}
    await client.acl_setuser("blind", enabled=True, passwords=["+blind"], **may)
    try:
        async with Redis.from_url(
            stores.addresses.redis_url, username="blind", password="blind"
        ) as blind:
            assert not await vouches(blind)
    finally:
        await client.acl_deluser("blind")
