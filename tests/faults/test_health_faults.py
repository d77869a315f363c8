"""Every fault of every dependency: each route says what is so, at once, and nothing it may not."""

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator
from dataclasses import replace
from urllib.parse import quote, unquote, urlsplit

import pytest
from redis.asyncio import Redis

from control.config import Config
from service.appkeys import HEALTH
from tests.conftest import LiveStores
from tests.links import linked
from tests.serving import Served, served
from tests.stack import wait_until
from tests.timing import timed

SHOWS_S = 3.0 + 0.5
"""The contract's deadline, and what a busy machine may add."""

AT_ONCE_S = 1.0
STORE = {"redis": "redis", "neo4j": "graph", "database": "postgres"}
BASE = "/base-pricing/api/v1"

ALWAYS = ("/health", "/api/v1/status/", "/api/v1/health/live/", "/api/system/health/liveness",
          "/api/system/health/resources", "/api/system/health/startup",
          "/api/system/health/application", "/health/external")  # fmt: skip
REQUIRED = ("/ready", "/health/detailed", "/api/system/health/", "/api/system/health/simple",
            "/api/system/health/readiness", "/api/v1/health/", "/api/v1/health/ready/")  # fmt: skip
EXPECTED: dict[str, dict[str, int]] = {
    "redis": dict.fromkeys(REQUIRED, 503)
    | {"/health/redis": 503, "/ready/redis": 503, "/health/database": 200, "/ready/neo4j": 200}
    | {BASE + "/app-health-status": 503},
    "neo4j": dict.fromkeys(REQUIRED, 503)
    | {"/health/redis": 200, "/health/database": 200, "/ready/neo4j": 503},
    "database": dict.fromkeys(REQUIRED, 200)
    | {"/health/redis": 200, "/health/database": 503, "/ready/database": 503}
    | {"/api/v1/health/": 503, BASE + "/app-health-status": 503},
}


def state(api: Served, name: str) -> str:
    return str(api.app[HEALTH].snapshot.results[name].state)


async def statuses(api: Served, paths: tuple[str, ...]) -> dict[str, int]:
    """What each route answers; each must come at once."""
    found = {}
    for path in paths:
        began = time.monotonic()
        async with api.http.get(path) as response:
            await response.read()
        assert time.monotonic() - began < AT_ONCE_S, path
        found[path] = response.status
    return found


async def shows_and_recovers(api: Served, name: str, fault: object, healing: object) -> str:
    """Bring about ``fault``; the word that /ready says of it. Then heal it."""
    assert callable(fault)
    assert callable(healing)
    await _called(fault)
    try:
        await wait_until(lambda: state(api, name) == "down", SHOWS_S)
        wanted = {**dict.fromkeys(ALWAYS, 200), **EXPECTED[name]}
        assert await statuses(api, tuple(wanted)) == wanted
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
    assert word == "timeout after 2 s"


@pytest.mark.parametrize("name", STORE)
@timed
async def test_refused(stores: LiveStores, api: Served, name: str) -> None:
    store = STORE[name]
    await shows_and_recovers(api, name, lambda: stores.stop(store), lambda: stores.restart(store))


@pytest.mark.parametrize("name", STORE)
@timed
async def test_half_open(stores: LiveStores, redis: Redis, name: str) -> None:
    async with linked(stores, name) as (link, config), serving(config) as api:
        word = await shows_and_recovers(api, name, link.half_open, link.heal)
    assert word == "timeout after 2 s"


@pytest.mark.parametrize("name", STORE)
async def test_slow_drip(stores: LiveStores, redis: Redis, name: str) -> None:
    """Something comes all the time, and never enough of it."""
    async with linked(stores, name) as (link, config), serving(config) as api:
        word = await shows_and_recovers(api, name, link.drip, link.heal)
    assert word == "timeout after 2 s"


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
        snapshot = await api.app[HEALTH].refresh("database")
        return snapshot.results["database"].warning

    async with contextlib.AsyncExitStack() as held:
        while database.occupancy[0] < database.occupancy[2]:
            await held.enter_async_context(database.acquire())
        assert await warning() == "PoolExhausted"
        wanted = dict.fromkeys((*ALWAYS, *REQUIRED, "/health/database"), 200)
        assert await statuses(api, tuple(wanted)) == wanted
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
    wanted = dict.fromkeys((*ALWAYS, *REQUIRED), 200)
    assert await statuses(api, tuple(wanted)) == wanted
    await probing
    assert await statuses(api, tuple(wanted)) == wanted
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


@timed
async def test_all_frozen_at_once(stores: LiveStores, api: Served) -> None:
    for store in STORE.values():
        stores.freeze(store)
    try:
        await wait_until(lambda: {state(api, name) for name in STORE} == {"down"}, SHOWS_S)
        found = await statuses(api, (*ALWAYS, *REQUIRED))
        assert found == dict.fromkeys(ALWAYS, 200) | dict.fromkeys(REQUIRED, 503)
    finally:
        for store in STORE.values():
            stores.thaw(store)
    await wait_until(lambda: {state(api, name) for name in STORE} == {"ok"}, SHOWS_S)


SECRET = "wr0ng-p4ssword"
ALL = (*ALWAYS, *REQUIRED, "/health/redis", "/health/database", "/ready/redis", "/ready?verbose",
       "/api/system/health/detailed", "/api/system/health/database", "/api/system/health/redis",
       "/api/system/health/external", "/openapi.json", BASE + "/app-health-status")  # fmt: skip


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
        graph=replace(config.graph, password=SECRET),
        health=replace(config.health, external=(f"shop=http://127.0.0.1:1/hook/{SECRET}",)),
    )
    async with served(config, knowing=False, admin_token="the-admin-token") as api:
        names = (*STORE, "external:shop", "control_plane", "workers")
        await wait_until(lambda: {state(api, name) for name in names} == {"down"})
        for path in ALL:
            for headers in ({}, {"Authorization": "Bearer the-admin-token"}):
                async with api.http.get(path, headers=headers) as response:
                    body = await response.text()
                assert SECRET not in body, path
                assert "Traceback" not in body, path
                assert "the-admin-token" not in body, path
    logged = capfd.readouterr()
    assert SECRET not in logged.out + logged.err


async def test_a_hundred_resets_leave_nothing_behind(stores: LiveStores, redis: Redis) -> None:
    """Tasks of the checks and connections are as many as before."""
    async with contextlib.AsyncExitStack() as stack:
        await asyncio.gather(*[_reset_often(stores, name, stack) for name in STORE])


async def _reset_often(stores: LiveStores, name: str, stack: contextlib.AsyncExitStack) -> None:
    link, config = await stack.enter_async_context(linked(stores, name))
    api = await stack.enter_async_context(serving(config))
    engine, before = api.app[HEALTH], link.connections
    for _ in range(100):
        link.reset()
        await engine.refresh(name)
    await wait_until(lambda: state(api, name) == "ok")
    await wait_until(lambda: probes_under_way() <= len(STORE) * len(engine.snapshot.results))
    await wait_until(lambda: link.connections <= before + 2)


def probes_under_way() -> int:
    return sum(task.get_name().startswith("probe of ") for task in asyncio.all_tasks())
