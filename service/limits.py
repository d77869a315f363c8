"""How often each principal may ask, where the configuration says so.

A request without a token counts for its address. A token that no memory knows costs its address as
well, before any store is asked for it: made-up tokens must not keep PostgreSQL busy.
"""

import hashlib
import math
from collections import OrderedDict

from aiohttp import web

from control.clock import Clock
from control.principals import Principal
from control.rates.limiter import Rate, RateLimiter, Verdict
from control.stores.servers import Spread
from control.stores.wire import Wire
from service.clients import Clients
from service.problems import TOO_OFTEN, Problem

ATTEMPTS_A_MINUTE = 10
_MINUTE_S = 60.0
_NAMES = 1_000
_VERDICT = web.RequestKey("verdict", Verdict)


class Limits:
    """One allowance for each principal in the whole fleet. What steers the fleet has one of its
    own, lest a flood of jobs under the same key keeps the bridge from being raised."""

    def __init__(
        self,
        allowance: tuple[int, int, int],
        wire: Wire | Spread,
        clients: Clients,
        clock: Clock,
    ) -> None:
        count, per_s, burst = allowance
        self._rate = Rate(count, per_s, burst)
        self._limiter = RateLimiter(wire, clock)
        self._clients = clients
        # What GCRA lets through: as many as `most` at once, all there again after the window.
        window_s = math.ceil(self._rate.most * self._rate.period_s)
        self._policy = f'"requests";q={self._rate.most};w={window_s}'

    async def take_unknown(self, request: web.Request) -> None:
        """Count a token that has to be looked up. Raises :class:`Problem` 429."""
        await self._take(request, "unknown", self._clients.of(request))

    async def take(self, request: web.Request, who: Principal | None, *, steers: bool) -> None:
        """Count a request. Raises :class:`Problem` 429."""
        name = f"address {self._clients.of(request)}" if who is None else f"name {who.name}"
        await self._take(request, "steer" if steers else "api", name)

    async def tell(self, request: web.Request, response: web.StreamResponse) -> None:
        """Say in the answer how much is left (draft-ietf-httpapi-ratelimit-headers)."""
        verdict = request.get(_VERDICT)
        if verdict is not None:
            left = f'"requests";r={max(0, verdict.left)};t={verdict.full_after_s}'
            response.headers["RateLimit-Policy"] = self._policy
            response.headers["RateLimit"] = left

    async def _take(self, request: web.Request, scope: str, who: str) -> None:
        digest = hashlib.sha256(who.encode("utf-8", "surrogatepass")).hexdigest()[:32]
        verdict = request[_VERDICT] = await self._limiter.take(scope, digest, self._rate)
        if not verdict:
            wait_s = max(1, verdict.retry_after_s)
            raise Problem(
                TOO_OFTEN, "There were too many requests of late.", {"retry_after_s": wait_s},
                {"Retry-After": str(wait_s)},
            )  # fmt: skip


class Attempts:
    """Bounds what somebody may have written into the audit by trying what they may not: that costs
    a transaction of everybody's one chain."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._made: OrderedDict[str, tuple[float, int]] = OrderedDict()

    def count(self, name: str) -> bool:
        """One more; whether it is among the first of this minute."""
        now = self._clock.monotonic()
        began, made = self._made.pop(name, (now, 0))
        if now - began >= _MINUTE_S:
            began, made = now, 0
        self._made[name] = began, made + 1
        if len(self._made) > _NAMES:
            self._made.popitem(last=False)
        return made < ATTEMPTS_A_MINUTE
