"""Allowances that refill evenly, shared by the whole fleet through Redis.

    allowed = await limiter.take("subscribe-client", client, Rate(20, per_s=3600, burst=10))
    if not allowed: … allowed.retry_after_s

While Redis is away each process counts by itself: less exact, but nobody is let through unlimited.
"""

import asyncio
import functools
import math
from collections import OrderedDict
from dataclasses import dataclass
from importlib.resources import files

from redis.asyncio import Redis

from control import keys
from control.clock import Clock
from control.errors import StoreUnavailable
from control.stores.line import Argument
from control.stores.scripts import Script
from control.stores.servers import Spread
from control.stores.wire import Wire

REMEMBERED = 10_000
"""Allowances that a process keeps while Redis is away."""


_WITHIN_S = 0.5
"""How long Redis is waited for: a limit must not be what a request waits for."""


@functools.cache
def _text() -> str:
    return files(__package__).joinpath("lua", "gcra.lua").read_text()


@dataclass(frozen=True)
class Rate:
    """``count`` in ``per_s`` seconds, ``burst`` of them at once (default: all)."""

    count: float
    per_s: float
    burst: int = 0

    @property
    def period_s(self) -> float:
        """Seconds until one more is there."""
        return self.per_s / self.count

    @property
    def most(self) -> int:
        """How many can be there."""
        return self.burst or max(1, math.floor(self.count))


@dataclass(frozen=True)
class Verdict:
    """Whether it may happen now. ``left`` is how many more may; seconds are rounded up."""

    allowed: bool
    left: int
    retry_after_s: int
    full_after_s: int

    def __bool__(self) -> bool:
        return self.allowed


class RateLimiter:
    """Counts by the generic cell rate algorithm."""

    def __init__(self, redis: Redis | Wire | Spread, clock: Clock) -> None:
        self._take = Script(redis, _text())
        self._clock = clock
        self._full_at: OrderedDict[str, float] = OrderedDict()

    async def take(self, scope: str, who: str, rate: Rate, *, cost: int = 1) -> Verdict:
        """Take ``cost`` from the allowance of ``who`` within ``scope``, if they are there.

        ``cost=0`` looks only. ``scope`` is a word without a colon. ``who`` is stored in Redis as it
        is: a digest where it is personal.
        """
        key = keys.rate(scope, who)
        arguments: list[Argument] = [f"{rate.period_s * 1000:.3f}", rate.most, cost]
        try:
            async with asyncio.timeout(_WITHIN_S):
                allowed, left, retry_ms, full_ms = await self._take([key], arguments)
        except (StoreUnavailable, TimeoutError):
            return self._alone(key, rate, cost)
        return Verdict(bool(allowed), left, math.ceil(retry_ms / 1000), math.ceil(full_ms / 1000))

    def _alone(self, key: str, rate: Rate, cost: int) -> Verdict:
        now, period_s = self._clock.monotonic(), rate.period_s
        full_at = max(self._full_at.pop(key, 0.0), now)
        wanted = full_at + period_s * cost
        allow_at = wanted - period_s * rate.most
        allowed = allow_at <= now
        self._full_at[key] = wanted if allowed else full_at
        while len(self._full_at) > REMEMBERED:
            self._full_at.popitem(last=False)
        since = allow_at if allowed else full_at - period_s * rate.most
        return Verdict(
            allowed, math.floor((now - since) / period_s), math.ceil(max(0.0, allow_at - now)),
            math.ceil((wanted if allowed else full_at) - now),
        )  # fmt: skip
