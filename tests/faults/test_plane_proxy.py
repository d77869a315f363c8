"""The instrument itself: what a spoilt link does to a real client of a real Redis."""

import asyncio
from collections.abc import AsyncIterator

import pytest
from redis.asyncio import Redis
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import TimeoutError as RedisTimeoutError

from control.stores.redis import client
from tests.faults.proxy import Proxy, Way, proxy_to
from tests.faults.servers import OwnRedis, own_redis
from tests.stack import wait_until

SHORT_S = 0.2


@pytest.fixture(scope="module")
async def server(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[OwnRedis]:
    async with own_redis(tmp_path_factory.mktemp("redis")) as server:
        yield server


@pytest.fixture
async def redis(server: OwnRedis) -> Redis:
    """Past the proxy."""
    await server.client.flushall()
    return server.client


@pytest.fixture
async def proxy(server: OwnRedis) -> AsyncIterator[Proxy]:
    async with proxy_to(server.socket) as proxy:
        yield proxy


@pytest.fixture
async def through(proxy: Proxy) -> AsyncIterator[Redis]:
    """A client on the other side, with a short patience and no retries."""
    async with client(f"redis://127.0.0.1:{proxy.port}", timeout_s=SHORT_S, retries=0) as found:
        await found.ping()
        yield found


async def test_it_carries_and_counts(proxy: Proxy, through: Redis, redis: Redis) -> None:
    before = proxy.carried[Way.UP]
    await through.set("held", b"x" * 200_000)
    assert await redis.strlen("held") == 200_000
    assert proxy.carried[Way.UP] - before > 200_000
    assert proxy.links == 1


async def test_a_cut_link_is_closed_and_none_is_accepted(proxy: Proxy, through: Redis) -> None:
    proxy.cut()
    for _ in range(3):
        with pytest.raises(RedisConnectionError):
            await through.ping()
    proxy.heal()
    assert await through.ping()


async def test_a_new_link_leads_where_the_target_says(proxy: Proxy, through: Redis) -> None:
    proxy.target = "/nowhere"
    proxy.kill()
    with pytest.raises(RedisConnectionError):
        await through.ping()


@pytest.mark.parametrize("way", Way)
async def test_a_link_that_swallowed_stays_open_and_mute(
    proxy: Proxy, through: Redis, redis: Redis, way: Way
) -> None:
    proxy.swallow(way)
    with pytest.raises(RedisTimeoutError):
        await through.incr("held")
    assert await redis.get("held") == (None if way is Way.UP else b"1")
    proxy.heal()
    assert await through.incr("held") == (1 if way is Way.UP else 2)


async def test_what_is_held_goes_on_in_order(proxy: Proxy, through: Redis, redis: Redis) -> None:
    async with through.pubsub() as listening:
        await listening.subscribe("held")
        await listening.get_message(timeout=5)
        proxy.hold(Way.DOWN)
        for number in range(20):
            await redis.publish("held", number)
        assert await listening.get_message(timeout=SHORT_S) is None
        proxy.heal()
        heard = [await listening.get_message(timeout=5) for _ in range(20)]
    assert [int(message["data"]) for message in heard] == list(range(20))


async def test_a_slow_link_is_slow(proxy: Proxy, through: Redis) -> None:
    proxy.slow(SHORT_S * 2)
    with pytest.raises(RedisTimeoutError):
        await through.ping()


async def test_a_trap_holds_one_link_at_the_words_it_waits_for(
    proxy: Proxy, through: Redis, redis: Redis
) -> None:
    trap = proxy.hold_at(b"precious")
    asking = asyncio.create_task(through.rpush("held", "precious"))
    await trap.caught()
    assert await redis.llen("held") == 0
    trap.let_go()
    assert await asking == 1
    after = proxy.hold_after(b"$9\r\nsubscribe\r\n")
    async with through.pubsub() as listening:
        await listening.subscribe("held")
        await after.caught()
        assert (await listening.get_message(timeout=5))["type"] == "subscribe"
        await redis.publish("held", "later")
        assert await listening.get_message(timeout=SHORT_S) is None
        after.let_go()
        assert (await listening.get_message(timeout=5))["data"] == b"later"
    await wait_until(lambda: proxy.links <= 1)
