"""Every fault of every dependency: each route says what is so, at once, and nothing it may not."""

import asyncio
import contextlib
import itertools
import statistics
import time
from collections.abc import AsyncIterator, Callable, Mapping
from dataclasses import replace
from urllib.parse import quote, unquote, urlsplit

import psutil
import pytest
from redis.asyncio import Redis

from control import cancelling
from control.clock import SystemClock
from control.config import Config
from control.health import dependencies
from control.health import engine as engine_module
from control.health.engine import Engine
from service.appkeys import HEALTH
from tests.conftest import LiveStores
from tests.links import Link, linked
from tests.postman import table
from tests.serving import MODEL, MPS, Served, served
from tests.stack import wait_until
from tests.timing import timed

SHOWS_S = 3.0 + 0.5
"""The contract's deadline, and what a busy machine may add."""

AT_ONCE_S = 1.0
TYPICALLY_S = 0.1
"""What half of the routes keep, even while the machine is busy."""

STORE = {"redis": "redis", "neo4j": "graph", "database": "postgres"}
LATE = {name: f"timeout after {1.6 if name == 'redis' else 2:g} s" for name in STORE}
SYSTEM, BASE = "/api/system/health", "/base-pricing/api/v1"

ALWAYS = (
    "/health", "/health/external", "/api/v1/status/", "/api/v1/health/live/", "/metrics",
    "/openapi.json", "/docs", BASE + "/app-maintenance-status", BASE + "/app-data-ingestion-status",
    *(f"{SYSTEM}/{name}" for name in ("liveness", "startup", "external", "resources", "application",
                                      "metrics")),
)  # fmt: skip
READY = (
    "/ready", "/health/detailed", "/api/v1/health/ready/",
    *(f"{SYSTEM}/{name}" for name in ("", "simple", "detailed", "readiness")),
)  # fmt: skip
NEEDS: dict[str, set[str]] = {
    **{path: set() for path in ALWAYS},
    **{path: {"redis", "neo4j"} for path in READY},
    **{f"/ready/{name}": {name} for name in STORE},
    "/api/v1/health/": {"redis", "neo4j", "database"},
    "/health/redis": {"redis"},
    f"{SYSTEM}/redis": {"redis"},
    "/health/database": {"database"},
    f"{SYSTEM}/database": {"database"},
    BASE + "/app-health-status": {"redis", "database"},
}
"""What each route is 503 without. All of them answer from memory."""

WORKS: dict[tuple[str, str], set[str]] = {
    ("POST", "/optimize"): {"redis"},
    ("GET", "/jobs/archive"): {"database"},
}
"""The same of routes that ask a store, and so may take until its deadline."""


def test_the_matrix_has_every_route() -> None:
    tags = {"Health", "System health", "Documentation"}
    served = {
        route.path.replace("{check}", name)
        for route in table()
        if route.tag in tags and not route.path.startswith(("/docs/", "/problems/"))
        for name in STORE
    }
    assert served <= NEEDS.keys()


def state(api: Served, name: str) -> str:
    return str(api.app[HEALTH].snapshot.results[name].state)


async def answers(api: Served, *away: str) -> None:
    """Each route says what is so while ``away`` are, and at once."""
    took = []
    for path, needs in NEEDS.items():
        status, took_s = await asked(api, path)
        assert status == (503 if needs & {*away} else 200), path
        took.append(took_s)
    assert max(took) < AT_ONCE_S
    assert statistics.median(took) < TYPICALLY_S
    found = await asyncio.gather(*(asked(api, path, method) for method, path in WORKS))
    for ((method, path), needs), (status, took_s) in zip(WORKS.items(), found, strict=True):
        well = 202 if method == "POST" else 200
        assert status == (503 if needs & {*away} else well), path
        assert took_s < SHOWS_S, path


async def asked(api: Served, path: str, method: str = "GET") -> tuple[int, float]:
    """The status, and after how many seconds it was there."""
    began, sent = time.monotonic(), {"data": MODEL, "headers": MPS} if method == "POST" else {}
    async with api.http.request(method, path, **sent) as response:
        await response.read()
    return response.status, time.monotonic() - began


async def shows_and_recovers(api: Served, name: str, fault: object, healing: object) -> str:
    """Bring about ``fault``; the word that /ready says of it. Then heal it."""
    await _called(fault)
    try:
        await wait_until(lambda: state(api, name) == "down", SHOWS_S)
        await answers(api, name)
        word = api.app[HEALTH].snapshot.results[name].reason
    finally:
        await _called(healing)
    await wait_until(lambda: state(api, name) == "ok", SHOWS_S)
    await wait_until(lambda: ready(api))
    return word


async def _called(action: object) -> None:
    assert callable(action)
    outcome = action()
    if asyncio.iscoroutine(outcome):
        await outcome


async def ready(api: Served) -> bool:
    async with api.http.get("/ready") as response:
        return response.status == 200


@contextlib.asynccontextmanager
async def serving(config: Config) -> AsyncIterator[Served]:
    async with served(config) as api:
        await wait_until(lambda: {state(api, name) for name in STORE} == {"ok"})
        yield api


@pytest.fixture
async def api(stores: LiveStores, redis: Redis) -> AsyncIterator[Served]:
    async with serving(stores.config) as running:
        yield running


@pytest.mark.parametrize("name", STORE)
@timed
async def test_frozen(stores: LiveStores, api: Served, name: str) -> None:
    store = STORE[name]
    word = await shows_and_recovers(
        api, name, lambda: stores.freeze(store), lambda: stores.thaw(store)
    )
    assert word == LATE[name]


@pytest.mark.parametrize("name", STORE)
@timed
async def test_refused(stores: LiveStores, api: Served, name: str) -> None:
    store = STORE[name]
    await shows_and_recovers(api, name, lambda: stores.stop(store), lambda: stores.restart(store))


@pytest.mark.parametrize(
    ("fault", "word"),
    [
        (Link.half_open, LATE),
        (Link.drip, LATE),  # something comes all the time, and never enough of it
        (Link.cut, None),
    ],
)
@timed
async def test_links(
    stores: LiveStores, redis: Redis, fault: Callable[[Link], None], word: Mapping[str, str] | None
) -> None:
    """To each store from a service of its own, all at once."""

    async def told(name: str) -> str:
        async with linked(stores, name) as (link, config), serving(config) as api:
            return await shows_and_recovers(api, name, lambda: fault(link), link.heal)

    words = await asyncio.gather(*(told(name) for name in STORE))
    assert word is None or words == [word[name] for name in STORE]


@pytest.mark.parametrize("name", ["redis", "database"])
async def test_a_password_that_was_changed(
    stores: LiveStores, api: Served, redis: Redis, name: str
) -> None:
    password = urlsplit(stores.config.postgres.url).password

    async def changed(word: str) -> None:
        if name == "redis":
            await redis.config_set("requirepass", "" if word == password else word)
            await redis.client_kill_filter(_type="normal", skipme=True)
        else:
            await stores.set_password(unquote(word))

    word = await shows_and_recovers(api, name, lambda: changed(SECRET), lambda: changed(password))
    assert word in ("AuthenticationFailed", "authentication failed")


async def test_a_pool_that_is_exhausted(api: Served) -> None:
    """Checks have connections of their own: they tell of it, and /ready stays as it was."""
    database = api.plane.audit._database

    async def warning() -> str | None:
        return (await api.checked("database"))["database"].warning

    async with contextlib.AsyncExitStack() as held:
        for _ in range(database.occupancy[2]):  # what others hold now, they give back
            await held.enter_async_context(database.acquire())
        assert await warning() == "PoolExhausted"
        for path in NEEDS:
            assert (await asked(api, path))[0] == 200, path
        async with api.http.get("/health/database") as response:
            told = await response.json()
        assert told["status"] == "degraded"
        assert told["pool"]["in_use"] == told["pool"]["max"]
        began = time.monotonic()
        headers = {"Authorization": "Bearer dbk_" + "x" * 43}
        async with api.http.get("/control/audit", headers=headers) as response:
            assert response.status == 503
            assert (await response.json())["dependency"] == "database"
        assert time.monotonic() - began < SHOWS_S
    await wait_until(lambda: database.occupancy[0] < database.occupancy[2])
    assert await warning() == ""


async def test_a_loop_that_was_blocked(api: Served) -> None:
    """Nobody could be asked meanwhile, and nobody is to blame for that."""
    engine = api.app[HEALTH]
    probing = asyncio.gather(*(engine.refresh(name) for name in STORE))
    await asyncio.sleep(0)
    time.sleep(3.0)
    await answers(api)
    await probing
    await answers(api)
    assert engine.snapshot.results["event_loop"].since is not None
    await wait_until(lambda: engine.snapshot.results["event_loop"].warning == "LoopBlocked")
    async with api.http.get("/health/detailed") as response:
        assert (await response.json())["status"] == "degraded"


@pytest.mark.parametrize(
    ("setting", "fault", "well", "word"),
    [
        ("maxmemory", "1", "0", "OutOfMemory"),
        ("min-replicas-to-write", "1", "0", "too few replicas"),
    ],
)
@timed
async def test_a_redis_that_takes_nothing(
    api: Served, redis: Redis, setting: str, fault: str, well: str, word: str
) -> None:
    """It answers PING; only who writes notices."""
    found = await shows_and_recovers(
        api, "redis",
        lambda: redis.config_set(setting, fault), lambda: redis.config_set(setting, well),
    )  # fmt: skip
    assert found == word


@timed
async def test_a_redis_that_became_a_replica(api: Served, redis: Redis) -> None:
    word = await shows_and_recovers(
        api, "redis",
        lambda: redis.replicaof("127.0.0.1", "1"), lambda: redis.replicaof("NO", "ONE"),
    )  # fmt: skip
    assert word == "ReadOnly"


@pytest.mark.parametrize("name", ["redis", "database"])
@timed
async def test_a_server_that_takes_no_more_connections(
    stores: LiveStores, api: Served, redis: Redis, name: str
) -> None:
    async def limited(most: int) -> None:
        if name == "database":
            await stores.set_connections(most)
            return
        await redis.config_set("maxclients", most)
        for kind in ("normal", "pubsub"):
            await redis.client_kill_filter(_type=kind, skipme=True)

    few, many = {"redis": (1, 10_000), "database": (0, -1)}[name]
    word = await shows_and_recovers(api, name, lambda: limited(few), lambda: limited(many))
    assert word in ("TooManyConnections", "ConnectionReset", "ConnectionLost")


@timed
async def test_all_frozen_at_once(stores: LiveStores, api: Served) -> None:
    for store in STORE.values():
        stores.freeze(store)
    try:
        await wait_until(lambda: {state(api, name) for name in STORE} == {"down"}, SHOWS_S)
        await answers(api, *STORE)
    finally:
        for store in STORE.values():
            stores.thaw(store)
    await wait_until(lambda: {state(api, name) for name in STORE} == {"ok"}, SHOWS_S)


SECRET = "wr0ng-p4ssword"


async def test_secrets_of_dependencies_that_fail_are_in_no_body(
    stores: LiveStores, capfd: pytest.CaptureFixture[str]
) -> None:
    config = stores.config
    password = urlsplit(config.postgres.url).password
    wrong = config.postgres.url.replace(f":{password}@", f":{quote(SECRET)}@")
    assert SECRET in wrong
    config = replace(
        config,
        redis=replace(config.redis, url=f"redis://me:{SECRET}@127.0.0.1:1"),
        postgres=replace(config.postgres, url=wrong),
        # Another user: the server shuts out for half a minute whom it has refused too often.
        graph=replace(config.graph, user="nobody", password=SECRET),
        health=replace(config.health, external=(f"shop=http://127.0.0.1:1/hook/{SECRET}",)),
    )
    async with served(config, knowing=False, admin_token="the-admin-token") as api:
        names = (*STORE, "external:shop", "control_plane", "workers")
        await wait_until(lambda: {state(api, name) for name in names} <= {"down", "unknown"})
        for path in (*NEEDS, "/ready?verbose", "/jobs", "/jobs/archive", "/control/audit"):
            for headers in ({}, {"Authorization": "Bearer the-admin-token"}):
                async with api.http.get(path, headers=headers) as response:
                    body = await response.text()
                assert SECRET not in body, path
                assert "Traceback" not in body, path
                assert "the-admin-token" not in body, path
    logged = capfd.readouterr()
    assert SECRET not in logged.out + logged.err


GIVEN_S = 0.1
FAULTS = (Link.reset, Link.half_open, Link.cut, Link.drip)


@pytest.mark.parametrize("rounds", [8, pytest.param(100, marks=pytest.mark.soak)])
async def test_faults_again_and_again_leave_nothing_behind(
    stores: LiveStores, monkeypatch: pytest.MonkeyPatch, rounds: int
) -> None:
    """Neither a task nor a connection nor an open file."""
    monkeypatch.setattr(engine_module, "WAKE_GAP_S", 0.001)
    tasks, process = asyncio.all_tasks(), psutil.Process()
    files = process.num_fds()
    await asyncio.gather(*(often(stores, name, rounds) for name in STORE))
    await wait_until(lambda: asyncio.all_tasks() <= tasks)
    await wait_until(lambda: process.num_fds() <= files)


async def often(stores: LiveStores, name: str, rounds: int) -> None:
    async with linked(stores, name) as (link, config), dependencies.checks(config) as checks:
        (check,) = (each for each in checks if each.name == name)
        given_s = check.timeout_s

        async def impatient() -> Mapping[str, object]:
            async with asyncio.timeout(given_s):
                return await check.probe()

        engine = Engine([replace(check, probe=impatient)], clock=SystemClock())
        running = asyncio.create_task(engine.run())
        try:
            await wait_until(lambda: engine.snapshot.results[name].state == "ok")
            before, given_s = link.connections, GIVEN_S
            for _, fault in zip(range(rounds), itertools.cycle(FAULTS), strict=False):
                fault(link)
                await engine.refresh(name)
                link.heal()
            given_s = check.timeout_s
            await wait_until(lambda: engine.snapshot.results[name].state == "ok")
            await wait_until(lambda: link.connections <= before)
        finally:
            await cancelling.end(running)
