"""Every health route of the contract: its shape, who sees how much, and that it asks nobody."""

import asyncio
from collections.abc import AsyncIterator
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

import msgspec
import pytest
from jsonschema import Draft202012Validator
from redis.asyncio import Redis

from control import keys
from control.config import Config
from service.appkeys import HEALTH
from service.gate import excluded
from tests.conftest import LiveStores
from tests.serving import Served, served
from tests.stack import wait_until

ADMIN = {"Authorization": "Bearer the-admin-token"}
SYSTEM, BASE = "/api/system/health", "/base-pricing/api/v1"
ROUTES = (
    "/health", "/ready", "/ready/redis", "/health/detailed", "/health/database", "/health/redis",
    "/health/external", SYSTEM, *(f"{SYSTEM}/{name}" for name in (
        "simple", "detailed", "readiness", "liveness", "startup", "database", "redis", "external",
        "resources", "application",
    )),
    "/api/v1/health", "/api/v1/status", "/api/v1/health/ready", "/api/v1/health/live",
)  # fmt: skip
STORES = {"redis", "neo4j", "database"}
CHECKS = STORES | {"control_plane", "event_loop", "files", "resources", "workers"}


def configured(stores: LiveStores, **health: Any) -> Config:
    config = stores.config
    return replace(config, health=replace(config.health, **health))


def known(api: Served) -> bool:
    """Whether every check has had its first result."""
    return all(result.at for result in api.app[HEALTH].snapshot.results.values())


@pytest.fixture(scope="module")
async def shared(stores: LiveStores) -> AsyncIterator[Served]:
    async with served(stores.config, admin_token="the-admin-token") as running:
        yield running


@pytest.fixture
async def api(shared: Served, redis: Redis) -> Served:
    """The module's service, all well."""
    await shared.jobs.heartbeat("hand", [], join=True)
    await redis.zadd(keys.WORKERS, {"hand": 4_000_000_000_000})
    shared.app[HEALTH].wake("workers")
    await wait_until(lambda: known(shared) and well(shared) and shared.plane.replica.admits())
    return shared


@pytest.fixture(scope="module")
async def public(stores: LiveStores) -> AsyncIterator[Served]:
    """A service that regards nobody's address as a probe's."""
    config = configured(stores, networks=())
    async with served(config, admin_token="the-admin-token") as running:
        await wait_until(lambda: known(running))
        yield running


@pytest.fixture(scope="module")
async def described(shared: Served) -> dict[str, Any]:
    """The API's description, by which nothing that it does not name is allowed."""
    async with shared.http.get("/openapi.json") as response:
        document: dict[str, Any] = await response.json()
    for schema in document["components"]["schemas"].values():
        if "properties" in schema:
            schema.setdefault("additionalProperties", False)
    return document


def check_against(document: dict[str, Any], path: str, status: int, body: object) -> None:
    """Raises where ``body`` is not what ``document`` tells of ``path``."""
    template = path.replace("/ready/redis", "/ready/{check}")
    operation = document["paths"].get(template) or document["paths"][template + "/"]
    schema = operation["get"]["responses"][str(status)]["content"]["application/json"]["schema"]
    Draft202012Validator({**schema, "components": document["components"]}).validate(body)


def well(api: Served) -> bool:
    return all(result.state == "ok" for result in api.app[HEALTH].snapshot.results.values())


async def ask(api: Served, path: str, **headers: str) -> tuple[int, dict[str, Any]]:
    async with api.http.get(path, headers=headers) as response:
        assert response.headers["Cache-Control"] == "no-store", path
        return response.status, msgspec.json.decode(await response.read())


def is_moment(text: str) -> bool:
    moment = datetime.fromisoformat(text)
    return text.endswith("Z") and abs((datetime.now(UTC) - moment).total_seconds()) < 30


@pytest.mark.parametrize("path", ROUTES)
async def test_each_route_with_and_without_slash_for_get_and_head(
    api: Served, public: Served, described: dict[str, Any], path: str
) -> None:
    for whose in (api, public):
        check_against(described, path, *await ask(whose, path))
    for spelling in (path, path + "/"):
        status, body = await ask(api, spelling)
        assert status == 200, body
        if not path.startswith("/ready"):
            assert is_moment(body["timestamp"])
        async with api.http.head(spelling) as response:
            assert response.status == 200
            assert response.headers["Cache-Control"] == "no-store"
            assert await response.read() == b""
        # A token that means nothing is no error on a probe.
        assert (await ask(api, spelling, Authorization="Bearer nonsense"))[0] == 200


async def test_detailed(api: Served) -> None:
    _, body = await ask(api, "/health/detailed")
    assert body["status"] == "healthy"
    assert body["response_time_ms"] > 0
    assert body["checks"].keys() == CHECKS
    redis, database = body["checks"]["redis"], body["checks"]["database"]
    assert redis["status"] == database["status"] == "healthy"
    assert redis["required"]
    assert not database["required"]
    assert redis["round_trip_ms"] > 0
    assert redis["memory"]["used_bytes"] > 0
    assert database["pool"].keys() == {"in_use", "open", "max"}
    assert body["checks"]["workers"]["details"]["live"] == 1
    for check in body["checks"].values():
        assert check["response_time_ms"] >= 0


async def test_one_store(api: Served) -> None:
    _, body = await ask(api, "/health/redis")
    assert body["status"] == "healthy"
    assert body["response_time_ms"] > 0
    assert "memory" in body
    _, body = await ask(api, "/health/database")
    assert "pool" in body
    _, body = await ask(api, "/health/external")
    assert (body["status"], body["services"]) == ("healthy", {})


async def test_the_internet_draft_on_demand(api: Served) -> None:
    async with api.http.get("/health/detailed", headers={"Accept": "application/health+json"}) as r:
        assert r.content_type == "application/health+json"
        body = msgspec.json.decode(await r.read())
    assert body["status"] == "pass"
    (component,) = body["checks"]["redis:responseTime"]
    assert component["status"] == "pass"
    assert component["observedUnit"] == "ms"
    async with api.http.get("/health/detailed", headers={"Accept": "text/html"}) as r:
        assert r.content_type == "application/json"


async def test_the_envelope_of_system_health(api: Served) -> None:
    data = {}
    for name in ("", "/simple", "/readiness", "/liveness", "/startup", "/resources",
                 "/application", "/database"):  # fmt: skip
        _, body = await ask(api, SYSTEM + name)
        assert body.keys() == {"success", "timestamp", "data"}
        assert body["success"] is True
        data[name] = body["data"]
    assert data[""]["overall_status"] == "healthy"
    assert data[""]["response_time_ms"] > 0
    assert data[""]["services"].keys() == CHECKS
    assert data["/simple"] == {"overall_status": "healthy"}
    assert data["/readiness"] == {"ready": True, "dependencies": {"redis": "ok", "neo4j": "ok"}}
    assert data["/liveness"]["alive"] is True
    assert data["/startup"] == {"started": True}
    assert data["/resources"]["memory"]["percent"] > 0
    assert data["/resources"]["process"]["fds"] > 0
    assert data["/resources"]["cpu"]["count"] > 0
    assert data["/resources"]["disk"]["free_bytes"] > 0
    assert data["/application"]["checks"].keys() == {
        "control_plane", "event_loop", "files", "resources",
    }  # fmt: skip
    assert data["/database"]["status"] == "healthy"


async def test_version_one(api: Served) -> None:
    _, health = await ask(api, "/api/v1/health/")
    assert health.keys() == {"status", "timestamp", "database"}
    assert health["status"] == "healthy"
    database = health["database"]
    assert database.keys() == {"status", "response_time_ms", "engine"}
    assert (database["status"], database["engine"]) == ("connected", "postgresql")
    assert database["response_time_ms"] > 0
    _, status = await ask(api, "/api/v1/status/")
    assert status.keys() == health.keys() | {
        "version", "api_version", "environment", "uptime_seconds", "memory",
    }  # fmt: skip
    assert status["memory"]["used_mb"] > 1
    assert 0 < status["memory"]["percent"] < 100
    _, ready = await ask(api, "/api/v1/health/ready/")
    assert (ready.keys(), ready["ready"]) == ({"ready", "timestamp"}, True)
    _, live = await ask(api, "/api/v1/health/live/")
    assert (live.keys(), live["alive"]) == ({"alive", "timestamp"}, True)


async def test_the_public_sees_states_and_nothing_else(public: Served) -> None:
    for path in ROUTES:
        _, body = await ask(public, path)
        told = msgspec.json.encode(body)
        for word in (
            b"details",
            b"pool",
            b"error",
            b"since",
            b"_bytes",
            b"where",
            b"round_trip",
            b"cpu",
        ):
            assert word not in told, path
        for times in values(body, "response_time_ms"):
            assert times is None, path
    _, body = await ask(public, "/health/detailed")
    assert {check["status"] for check in body["checks"].values()} <= {"healthy", "unhealthy"}


async def test_a_viewer_sees_all_and_so_does_a_probe_network(api: Served, public: Served) -> None:
    assert "memory" not in (await ask(public, "/health/redis"))[1]
    assert "memory" in (await ask(public, "/health/redis", **ADMIN))[1]
    assert "memory" in (await ask(api, "/health/redis"))[1]
    # What a proxy forwarded comes from anywhere.
    forwarded = {"X-Forwarded-For": "192.0.2.1"}
    assert "memory" not in (await ask(api, "/health/redis", **forwarded))[1]
    assert "memory" in (await ask(api, "/health/redis", **forwarded, **ADMIN))[1]


def values(document: Any, name: str) -> list[Any]:
    """Every value of a member called ``name``, however deep."""
    if isinstance(document, list):
        return [found for each in document for found in values(each, name)]
    if not isinstance(document, dict):
        return []
    here = [document[name]] if name in document else []
    return here + [found for each in document.values() for found in values(each, name)]


async def test_ready_of_one_check_and_without_some(
    api: Served, stores: LiveStores, described: dict[str, Any]
) -> None:
    assert await ask(api, "/ready?exclude=neo4j") == (
        200, {"status": "ready", "dependencies": {"redis": "ok"}},
    )  # fmt: skip
    assert await ask(api, "/ready/database") == (
        200, {"status": "ready", "dependencies": {"database": "ok"}},
    )  # fmt: skip
    async with api.http.get("/ready/nothing") as response:
        assert response.status == 404
    _, body = await ask(api, "/ready?verbose")
    assert body["checks"].keys() == CHECKS
    assert "memory" in body["checks"]["redis"]
    await stores.stop("graph")
    try:
        await wait_until(lambda: api.app[HEALTH].snapshot.results["neo4j"].state == "down")
        status, body = await ask(api, "/ready/neo4j")
        assert status == 503
        assert body["detail"]["dependencies"]["neo4j"].startswith("down: ")
        assert (await ask(api, "/ready"))[0] == 503
        assert (await ask(api, "/ready?exclude=redis,neo4j"))[0] == 200
        assert (await ask(api, "/api/v1/health/ready/"))[1]["ready"] is False
        status, body = await ask(api, "/health/detailed")
        assert (status, body["status"]) == (503, "unhealthy")
        assert body["checks"]["neo4j"]["error"]
        for path in ROUTES:
            check_against(described, path, *await ask(api, path))
        status, body = await ask(api, SYSTEM)
        assert (status, body["success"]) == (503, False)
        for path in ("/health", f"{SYSTEM}/liveness", f"{SYSTEM}/startup", "/api/v1/status/"):
            assert (await ask(api, path))[0] == 200
    finally:
        await stores.restart("graph")


async def test_without_postgresql(api: Served, stores: LiveStores) -> None:
    await stores.stop("postgres")
    try:
        await wait_until(lambda: api.app[HEALTH].snapshot.results["database"].state == "down")
        status, body = await ask(api, "/api/v1/health/")
        assert (status, body["status"]) == (503, "unhealthy")
        assert body["database"]["status"] == "disconnected"
        assert body["database"]["error"]
        status, body = await ask(api, "/api/v1/status/")
        assert (status, body["status"]) == (200, "unhealthy")
        assert (await ask(api, "/health/database"))[0] == 503
        status, body = await ask(api, "/health/detailed")
        assert (status, body["status"]) == (200, "degraded")
        assert (await ask(api, "/ready"))[0] == 200
    finally:
        await stores.restart("postgres")


async def test_all_are_described_and_none_is_held_up_by_maintenance(api: Served) -> None:
    async with api.http.get("/openapi.json") as response:
        paths = (await response.json())["paths"]
    assert set(ROUTES) <= {path.rstrip("/").replace("{check}", "redis") for path in paths}
    assert {"/api/v1/health/", "/api/v1/status/", "/api/system/health/"} <= paths.keys()
    health = [path for path in paths if "health" in path or path.startswith("/ready")]
    assert excluded(health, "/b") == {p for p in health if "app-health" not in p}
    await api.put_flag()
    try:
        async with api.http.get("/jobs") as response:
            assert response.status == 503
        for path in ROUTES:
            assert (await ask(api, path))[0] == 200
    finally:
        await api.put_flag(value=False)


async def test_what_traffic_finds_to_be_away_is_probed_at_once(
    api: Served, stores: LiveStores, monkeypatch: pytest.MonkeyPatch
) -> None:
    engine, suspected = api.app[HEALTH], list[str]()
    suspect = engine.suspect
    monkeypatch.setattr(engine, "suspect", lambda name: (suspected.append(name), suspect(name)))
    await stores.stop("redis")
    try:
        await wait_until(lambda: suspected)  # the subscription is lost
        before = len(suspected)
        async with api.http.get("/optimize") as response:
            assert response.status == 503
        assert "redis" in suspected[before:]
        await stores.stop("postgres")
        async with api.http.post(
            f"{BASE}/toggle-app-maintenance-status", headers=ADMIN
        ) as response:
            assert response.status == 503
        assert "database" in suspected
    finally:
        await asyncio.gather(stores.restart("redis"), stores.restart("postgres"))
