"""Services of others: what counts as well, and that one instance of the fleet looks."""

import asyncio
import contextlib
import socket
from collections.abc import AsyncIterator, Mapping
from dataclasses import replace
from typing import Any

import msgspec
import pytest
from aiohttp import web
from redis.asyncio import Redis

from control import keys
from control.clock import SystemClock
from control.config import Config, load
from control.errors import ConfigError
from control.health import external
from control.health.check import CannotTell, Check, Down, Importance, Result, State
from control.health.external import NotSeenYet, services
from control.health.reasons import reason
from control.health.report import report
from tests.conftest import LiveStores

SECRET = "wr0ng-p4ssword"


class Other:
    """A server of somebody else's, and how often it was asked."""

    def __init__(self) -> None:
        self.status = 200
        self.asked: list[str] = []
        self.silent = False
        self.url = ""

    async def answer(self, request: web.Request) -> web.Response:
        self.asked.append(request.path_qs)
        if self.silent:
            await asyncio.sleep(60)
        return web.Response(status=self.status, text="body", headers={"Location": "/elsewhere"})


@pytest.fixture
async def other() -> AsyncIterator[Other]:
    found = Other()
    app = web.Application()
    app.router.add_route("*", "/{path:.*}", found.answer)
    runner = web.AppRunner(app, shutdown_timeout=0.1, handler_cancellation=True)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    found.url = f"http://127.0.0.1:{runner.addresses[0][1]}"
    try:
        yield found
    finally:
        await runner.cleanup()


def watching(config: Config, *entries: str, every_s: float = 60.0) -> Config:
    health = replace(config.health, external=entries, external_every_s=every_s)
    return replace(config, health=health)


@contextlib.asynccontextmanager
async def instance(config: Config, name: str = "one") -> AsyncIterator[Check]:
    async with external.checks(config, name, clock=SystemClock()) as (check,):
        yield check


def told(check: Check, details: Mapping[str, object]) -> Any:
    """What bodies say of a probe that took a second, most of it to hear what another one saw."""
    result = Result(
        check.name, check.tags, check.importance, State.OK,
        at=SystemClock().now(), duration_s=1.0, details=details,
    )  # fmt: skip
    return msgspec.to_builtins(report(result, 0.0, full=True))


async def outcome(check: Check) -> Any:
    """``None`` where it is well, else the word that bodies show."""
    try:
        await check.probe()
    except Exception as error:
        return reason(error)
    return None


@pytest.mark.parametrize(
    ("entry", "status", "word"),
    [
        ("shop", 200, None), ("shop", 204, None), ("shop", 302, None), ("shop", 429, None),
        ("shop", 404, "HTTP 404"), ("shop", 401, "HTTP 401"), ("shop", 503, "HTTP 503"),
        ("supabase", 401, None), ("stripe", 404, None), ("resend", 429, None),
        ("clerk", 500, "HTTP 500"),
    ],
)  # fmt: skip
async def test_what_counts_as_well(
    stores: LiveStores, redis: Redis, other: Other, entry: str, status: int, word: str | None
) -> None:
    other.status = status
    async with instance(watching(stores.config, f"{entry}={other.url}")) as check:
        assert check.name == f"external:{entry}"
        assert check.importance is Importance.DEGRADING
        assert await outcome(check) == word
    assert other.asked == ["/auth/v1/health" if entry == "supabase" else "/"]


async def test_one_instance_looks_and_the_others_see_what_it_saw(
    stores: LiveStores, redis: Redis, other: Other
) -> None:
    config = watching(stores.config, f"shop={other.url}/up?key=x")
    async with contextlib.AsyncExitStack() as stack:
        fleet = [await stack.enter_async_context(instance(config, f"i{n}")) for n in range(5)]
        first = await fleet[0].probe()
        for _ in range(3):
            seen = await asyncio.gather(*(check.probe() for check in fleet))
            assert all(each == first for each in seen)
        assert other.asked == ["/up?key=x"]
        assert first["seen_by"] == "i0"
        assert first["http_status"] == 200
        assert told(fleet[0], first)["response_time_ms"] == first["response_time_ms"] > 0
        other.status = 500
        await redis.delete(keys.turn("shop"))  # the next turn
        words = await asyncio.gather(*(outcome(check) for check in fleet))
        assert "HTTP 500" in words
        assert {await outcome(check) for check in fleet} == {"HTTP 500"}
        assert len(other.asked) == 2
        with pytest.raises(Down) as caught:
            await fleet[0].probe()
        assert caught.value.details.keys() == first.keys(), "it was asked all the same"
    left = [key.decode() for key in await redis.keys("drawbridge:{health}:*")]
    assert sorted(left) == [keys.seen("shop"), keys.turn("shop")]
    assert all(keys.is_listed(key) for key in left)
    assert all([await redis.pttl(key) > 0 for key in left])


async def test_who_looks_and_dies_is_followed_by_another(
    stores: LiveStores, redis: Redis, other: Other
) -> None:
    async with instance(watching(stores.config, f"shop={other.url}")) as check:
        await redis.set(keys.turn("shop"), "dead", px=60_000)
        with pytest.raises(NotSeenYet):
            await check.probe()
        await redis.delete(keys.turn("shop"))
        assert await outcome(check) is None


async def test_without_redis_nothing_is_known_of_others(
    stores: LiveStores, redis: Redis, other: Other
) -> None:
    config = watching(stores.config, f"shop={other.url}")
    async with instance(
        replace(config, redis=replace(config.redis, url="redis://127.0.0.1:1"))
    ) as away:
        with pytest.raises(CannotTell) as caught:
            await away.probe()
    assert reason(caught.value) == "redis: ConnectionRefused"
    assert other.asked == []


async def test_silence_and_refusal(
    stores: LiveStores, redis: Redis, other: Other, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(external, "LOOK_S", 0.3)
    other.silent = True
    async with instance(watching(stores.config, f"shop={other.url}")) as check:
        assert await outcome(check) == "Timeout"
    with socket.create_server(("127.0.0.1", 0)) as closed:
        port = closed.getsockname()[1]
    url = f"http://127.0.0.1:{port}/{SECRET}"
    async with instance(watching(stores.config, f"away={url}")) as check:
        with pytest.raises(Down) as caught:
            await check.probe()
    assert reason(caught.value) == "ConnectionRefused"
    assert SECRET not in str(caught.value)


def test_the_setting_names_presets_and_addresses() -> None:
    text = "stripe, s3=https://bucket.example.org/probe clerk,shop=https://a.b,https://c.d/e?f=g"
    config = load(("test", {"DRAWBRIDGE_HEALTH_EXTERNAL": text}))
    found = [(s.name, s.url, s.strict) for s in services(config.health.external)]
    assert found == [
        ("stripe", "https://api.stripe.com/v1/", False),
        ("s3", "https://bucket.example.org/probe", False),
        ("clerk", "https://api.clerk.com/v1/jwks", False),
        ("shop", "https://a.b/", True),
        ("c-d", "https://c.d/e?f=g", True),
    ]


@pytest.mark.parametrize(
    "text", [
        "supabase", "unheard-of", "stripe,stripe", "x=ftp://a", f"x=https://me:{SECRET}@a",
        "redis=https://a.b", "http://neo4j:7474",
    ],
)  # fmt: skip
def test_what_the_setting_may_not_say(text: str) -> None:
    with pytest.raises(ConfigError) as caught:
        services(load(("test", {"DRAWBRIDGE_HEALTH_EXTERNAL": text})).health.external)
    assert "DRAWBRIDGE_HEALTH_EXTERNAL" in str(caught.value)
    assert SECRET not in str(caught.value)


@pytest.mark.parametrize("text", ["10.0.0.0/33", "home", "10.0.0.1/8"])
def test_networks_that_are_none(text: str) -> None:
    with pytest.raises(ConfigError, match="DRAWBRIDGE_HEALTH_NETWORKS"):
        load(("test", {"DRAWBRIDGE_HEALTH_NETWORKS": text}))
