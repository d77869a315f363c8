"""The checks of the real stores, through /ready over HTTP, under every fault that we can make.

Each fault must show within three seconds and so must each recovery, and /ready itself must answer
at once all the while.
"""

import asyncio
import contextlib
import json
import time
from collections.abc import AsyncIterator, Callable
from dataclasses import replace
from urllib.parse import quote, urlsplit

import aiohttp
import pytest
from aiohttp import web
from neo4j.exceptions import Neo4jError
from redis.asyncio import Redis
from structlog.testing import capture_logs

from control.clock import SystemClock
from control.config import Config, GraphSection
from control.errors import StoreUnavailable
from control.health import dependencies
from control.health.check import Check
from control.health.engine import JITTER, Engine
from control.health.probes import Probes
from control.stores.graph import Graph
from tests.conftest import LiveStores
from tests.links import linked
from tests.stack import wait_until
from tests.timing import timed

SHOWS_S = 3.0 + 0.5
"""The contract's deadline and what a busy machine may add."""

AT_ONCE_S = 1.0
STORE = {"redis": "redis", "neo4j": "graph", "database": "postgres"}


class Watched:
    """A process's health: the engine on some configuration, and its probes over HTTP."""

    def __init__(self, engine: Engine, probes: Probes, http: aiohttp.ClientSession) -> None:
        self.engine = engine
        self.probes = probes
        self.http = http

    async def ready(self) -> tuple[int, dict[str, str]]:
        """Status and dependencies; must come at once."""
        began = time.monotonic()
        async with self.http.get("/ready") as response:
            body = await response.json()
        assert time.monotonic() - began < AT_ONCE_S
        return response.status, (body if response.status == 200 else body["detail"])["dependencies"]

    async def shows(self, name: str, word: Callable[[str], bool], within_s: float) -> str:
        """Wait until the check's word is so; for redis and neo4j as /ready tells it."""
        said = ""
        try:
            async with asyncio.timeout(within_s):
                while True:
                    status, words = await self.ready()
                    assert (status == 200) is all(word == "ok" for word in words.values())
                    said = words[name] if name in words else self.word(name)
                    if word(said):
                        return said
                    await asyncio.sleep(0.01)
        except TimeoutError:
            pytest.fail(f"after {within_s} s {name} still says {said!r}")

    def word(self, name: str) -> str:
        return self.engine.snapshot.results[name].word_at(SystemClock().monotonic())

    async def turns_down(self, name: str) -> str:
        return await self.shows(name, lambda word: word.startswith("down: "), SHOWS_S)

    async def recovers(self, name: str) -> None:
        await self.shows(name, lambda word: word == "ok", SHOWS_S)


@contextlib.asynccontextmanager
async def watching(config: Config) -> AsyncIterator[Watched]:
    clock = SystemClock()
    async with dependencies.checks(config) as checks:
        engine = Engine(checks, clock=clock)
        probes = Probes(engine, clock=clock)
        application = web.Application()
        probes.add_to(application)
        runner = web.AppRunner(application)
        await runner.setup()
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        host, port = runner.addresses[0][:2]
        loops = asyncio.create_task(engine.run())
        try:
            async with aiohttp.ClientSession(f"http://{host}:{port}") as http:
                yield Watched(engine, probes, http)
        finally:
            loops.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await loops
            await runner.cleanup()


@pytest.fixture
async def watched(stores: LiveStores) -> AsyncIterator[Watched]:
    """Health over the session's stores, all well."""
    async with watching(stores.config) as found:
        await wait_until(lambda: {found.word(name) for name in STORE} == {"ok"})
        yield found


@timed
async def test_all_well(watched: Watched) -> None:
    assert await watched.ready() == (200, {"redis": "ok", "neo4j": "ok"})
    details = {name: dict(r.details) for name, r in watched.engine.snapshot.results.items()}
    database = details["database"]
    assert database["in_recovery"] is False
    assert 1 <= database["connections"] < database["max_connections"]
    assert details["redis"].keys() == {"round_trip_ms", "memory", "policy", "role", "replicas"}
    assert details["redis"]["role"] == "master"
    assert "Neo4j" in str(details["neo4j"]["server"])


@pytest.mark.parametrize("name", STORE)
@timed
async def test_killed_and_started_again(stores: LiveStores, watched: Watched, name: str) -> None:
    await stores.kill(STORE[name])
    try:
        word = await watched.turns_down(name)
    finally:
        await stores.restart(STORE[name])
    assert word.removeprefix("down: ") in {
        "ConnectionRefused", "SocketNotFound", "ConnectionReset", "ConnectionLost",
        "ConnectionDoesNotExist", "ServiceUnavailable", "SessionExpired", "StartingOrStopping",
        "IncompleteRead", "Interface",
    }  # fmt: skip
    await watched.recovers(name)


@timed
async def test_frozen_before_the_first_probe(stores: LiveStores) -> None:
    for store in STORE.values():
        stores.freeze(store)
    try:
        async with watching(stores.config) as watched:
            for name in STORE:
                late_s = 1.6 if name == "redis" else 2
                assert await watched.turns_down(name) == f"down: timeout after {late_s:g} s"
            for store in STORE.values():
                stores.thaw(store)
            for name in STORE:
                await watched.recovers(name)
    finally:
        for store in STORE.values():
            stores.thaw(store)


WRONG = "wr0ng-p4ssword"


@timed
async def test_a_wrong_password_is_named_and_never_shown(stores: LiveStores) -> None:
    config = stores.config
    right = urlsplit(config.postgres.url).password
    wrong_url = config.postgres.url.replace(f":{right}@", f":{quote(WRONG)}@")
    config = replace(
        config,
        graph=replace(config.graph, password=WRONG),
        postgres=replace(config.postgres, url=wrong_url),
    )
    with capture_logs() as logs:
        async with watching(config) as watched:
            for name in ("neo4j", "database"):
                assert await watched.turns_down(name) == "down: AuthenticationFailed"
            async with watched.http.get("/ready") as response:
                body = await response.text()
    assert WRONG not in body
    assert WRONG not in json.dumps(logs, default=str)


@timed
async def test_a_wrong_password_of_redis(stores: LiveStores) -> None:
    async with (
        linked(stores, "redis") as (link, config),
        Redis.from_url(stores.addresses.redis_url) as admin,
    ):
        commands = ["+set", "+get", "+evalsha", "+script|load"]  # but not INFO
        may = {"commands": commands, "keys": ["drawbridge:{health}:*"]}
        await admin.acl_setuser("probe", enabled=True, passwords=["+right"], **may)
        url = f"redis://probe:{WRONG}@127.0.0.1:{link.port}"
        try:
            with capture_logs() as logs:
                async with watching(replace(config, redis=replace(config.redis, url=url))) as seen:
                    assert await seen.turns_down("redis") == "down: AuthenticationFailed"
                    await admin.acl_setuser("probe", enabled=True, passwords=[f"+{WRONG}"], **may)
                    await seen.recovers("redis")
        finally:
            await admin.acl_deluser("probe")
    assert WRONG not in json.dumps(logs, default=str)


@timed
async def test_every_address_unusable_from_the_start(stores: LiveStores) -> None:
    config = Config()
    config = replace(
        config,
        redis=replace(config.redis, url="redis://127.0.0.1:1"),
        postgres=replace(config.postgres, url="postgresql://a:b@127.0.0.1:1/x"),
        graph=replace(config.graph, uri="bolt://127.0.0.1:1"),
    )
    async with watching(config) as watched:
        for name in STORE:
            assert await watched.turns_down(name) == "down: ConnectionRefused"
        status, words = await watched.ready()
    assert (status, set(words)) == (503, {"redis", "neo4j"})


async def test_the_shapes_over_http(watched: Watched) -> None:
    for path in ("/ready", "/ready/", "/health", "/health/"):
        async with watched.http.get(path) as response:
            assert response.status == 200
            assert response.headers["Cache-Control"] == "no-store"
            assert response.content_type == "application/json"
            length = len(await response.read())
        async with watched.http.head(path) as response:
            assert response.status == 200
            assert response.headers["Content-Length"] == str(length) or "health" in path
            assert await response.read() == b""
    watched.probes.shutting_down.set()
    async with watched.http.get("/ready") as response:
        assert response.status == 503
        assert (await response.json())["detail"]["reason"] == "shutting_down"
    async with watched.http.get("/ready/redis") as response:
        assert response.status == 503
        assert (await response.json())["detail"] == {
            "reason": "shutting_down", "dependencies": {"redis": "ok"},
        }  # fmt: skip
    async with watched.http.get("/health") as response:
        assert response.status == 200


async def test_asking_often_asks_the_stores_no_more(stores: LiveStores, watched: Watched) -> None:
    async with Redis.from_url(stores.addresses.redis_url) as admin:

        async def pings() -> int:
            statistics = await admin.info("commandstats")
            return int(statistics["cmdstat_ping"]["calls"])

        before, began = await pings(), time.monotonic()
        for _ in range(300):
            await watched.ready()
        passed_s = time.monotonic() - began
        assert await pings() - before <= passed_s / (Check.interval_s * (1 - JITTER)) + 1


async def test_the_graph_store_tells_why_it_cannot_be_used(
    stores: LiveStores, graph: GraphSection
) -> None:
    async with Graph(graph, query_s=1.0) as store:
        made = await store.write("CREATE (n:Probe {name: $name}) RETURN n.name AS name", name="a")
        assert made == [{"name": "a"}]
        assert await store.read("MATCH (n:Probe) RETURN count(n) AS n") == [{"n": 1}]
        with pytest.raises(Neo4jError):  # our own mistake, not an outage
            await store.read("RETURN 1 +")
        stores.freeze("graph")
        try:
            async with asyncio.timeout(20):
                with pytest.raises(StoreUnavailable, match="neo4j is unavailable: timeout"):
                    await store.read("RETURN 1")
        finally:
            stores.thaw("graph")
        async with store.session() as session:
            assert (await (await session.run("RETURN 1 AS one")).single(strict=True))["one"] == 1
    for wrong, why in (
        (replace(graph, password=WRONG), "authentication failed"),
        (replace(graph, uri="bolt://127.0.0.1:1"), "connection failed"),
    ):
        async with Graph(wrong) as store:
            with pytest.raises(StoreUnavailable, match=why):
                async with store.session() as session:
                    await session.run("RETURN 1")
