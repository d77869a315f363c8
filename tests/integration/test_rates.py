"""Allowances: how many at once, when the next, and what is so while Redis is away."""

import asyncio

import pytest
from redis.asyncio import Redis

from control import keys
from control.rates.limiter import Rate, RateLimiter
from tests.clocks import ManualClock
from tests.conftest import LiveStores

SLOW = Rate(3, per_s=3600)


async def test_a_burst_then_one_at_a_time(redis: Redis) -> None:
    limiter = RateLimiter(redis, ManualClock())
    verdicts = [await limiter.take("s", "a", SLOW) for _ in range(4)]
    assert [bool(each) for each in verdicts] == [True, True, True, False]
    assert [each.left for each in verdicts] == [2, 1, 0, 0]
    assert verdicts[-1].retry_after_s == pytest.approx(1200, abs=5)
    assert verdicts[-1].full_after_s == pytest.approx(3600, abs=5)
    assert (await limiter.take("s", "a", SLOW, cost=0)).left == 0
    assert await limiter.take("s", "b", SLOW)  # each for himself
    assert not await limiter.take("s", "b", SLOW, cost=3)
    ttl = await redis.pttl(keys.rate("s", "a"))
    assert 3_500_000 < ttl <= 3_600_000
    quick = Rate(100, per_s=1, burst=1)
    assert await limiter.take("s", "c", quick)
    while not await limiter.take("s", "c", quick):
        await asyncio.sleep(0.005)  # a hundredth of a second later one more is there


async def test_the_fleet_shares_one_allowance(redis: Redis) -> None:
    fleet = [RateLimiter(redis, ManualClock()) for _ in range(4)]
    asked = [one.take("s", "a", Rate(10, per_s=3600)) for one in fleet for _ in range(10)]
    assert sum(map(bool, await asyncio.gather(*asked))) == 10


async def test_without_redis_each_counts_by_itself(stores: LiveStores) -> None:
    clock = ManualClock()
    async with Redis.from_url("redis://127.0.0.1:1/0") as nowhere:
        limiter = RateLimiter(nowhere, clock)
        verdicts = [await limiter.take("s", "a", SLOW) for _ in range(4)]
        assert [bool(each) for each in verdicts] == [True, True, True, False]
        assert [each.left for each in verdicts] == [2, 1, 0, 0]
        assert (verdicts[-1].retry_after_s, verdicts[-1].full_after_s) == (1200, 3600)
        clock.passed_s += 1200
        assert await limiter.take("s", "a", SLOW)
        assert not await limiter.take("s", "a", SLOW)
