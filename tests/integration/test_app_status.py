"""The six app-status routes: their answers, their envelope, and what they say in every trouble."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from typing import Any

import pytest

from control import keys
from control.clock import SystemClock
from control.config import Config, load
from control.flags.document import INGESTION, MAINTENANCE
from control.principals import ApiKeys, Role
from control.stores.postgres import Database
from service import app as service_app
from service.handlers.app_status import HealthCheckStatusException
from tests.serving import Served, served, with_database
from tests.stack import wait_until

BASE = "/base-pricing/api/v1"
HEALTH = "app-health-status"
MAINTENANCE_STATUS = "app-maintenance-status"
TOGGLE_MAINTENANCE = "toggle-app-maintenance-status"
INGESTION_STATUS = "app-data-ingestion-status"
TOGGLE_INGESTION = "toggle-app-data-ingestion-status"
RESET_INGESTION = "reset-app-data-ingestion-status"

ROUTES = {
    HEALTH: "GET",
    MAINTENANCE_STATUS: "GET",
    TOGGLE_MAINTENANCE: "POST",
    INGESTION_STATUS: "GET",
    TOGGLE_INGESTION: "POST",
    RESET_INGESTION: "PUT",
}
WRITING = [name for name, method in ROUTES.items() if method != "GET"]
NOWHERE: Config = load(("test", {
    "REDIS_URL": "redis://127.0.0.1:1/0",
    "DATABASE_URL": "postgresql://127.0.0.1:1/none",
    "NEO4J_URI": "bolt://127.0.0.1:1",
}))  # fmt: skip


@pytest.fixture
async def config(stores, redis, database_url) -> Config:
    return await with_database(stores.config, database_url)


@pytest.fixture
async def api(config: Config) -> AsyncIterator[Served]:
    async with served(config, admin_token="the-admin-token") as running:
        await wait_until(lambda: healthy(running))
        yield running


async def healthy(api: Served) -> bool:
    return (await ask(api, HEALTH))[0] == 200


async def ask(
    api: Served,
    name: str,
    *,
    token: str | None = "the-admin-token",
    base: str = BASE,
    method: str = "",
    if_match: str = "*",
) -> tuple[int, dict[str, Any], Any]:
    """Status, envelope and headers; the envelope is looked at."""
    headers = {"If-Match": if_match}
    if token is not None:
        headers["Authorization"] = f"Bearer {token}"
    method = method or ROUTES[name.rstrip("/")]
    async with api.http.request(method, f"{base}/{name}", headers=headers) as response:
        document = await response.json(content_type="application/json")
        assert document.keys() == {"success", "message", "data"}
        assert document["success"] is (response.status == 200)
        assert document["message"]
        assert isinstance(document["data"], dict)
        assert response.headers["Cache-Control"] == "no-store"
        assert response.headers["X-Request-ID"]
        return response.status, document, response.headers


async def rested(redis, flag: str) -> None:
    """As if the debounce of the last change had run out."""
    await redis.delete(keys.debounce(flag))


async def test_app_health_status_when_all_is_well(api: Served) -> None:
    status, document, _ = await ask(api, HEALTH, token=None)
    assert status == 200
    assert document["data"]["reasons"] == []


async def test_app_health_status_under_maintenance(api: Served) -> None:
    await api.put_flag(reason="db upgrade")
    status, document, headers = await ask(api, HEALTH, token=None)
    assert status == 503
    assert document["data"]["reasons"] == ["maintenance"]
    assert "db upgrade" in document["data"]["detail"]["maintenance"]
    assert 48 <= int(headers["Retry-After"]) <= 72


async def test_app_maintenance_status(api: Served) -> None:
    status, document, _ = await ask(api, MAINTENANCE_STATUS, token=None)
    assert (status, document["data"]) == (200, {"is_maintenance": False})
    await api.put_flag(reason="db upgrade")
    status, document, headers = await ask(api, MAINTENANCE_STATUS, token=None)
    assert (status, document["data"]) == (503, {"is_maintenance": True})
    assert "db upgrade" in document["message"]
    assert int(headers["Retry-After"]) > 0
    await api.put_flag(value=False)
    assert (await ask(api, MAINTENANCE_STATUS))[0] == 200


async def test_toggle_app_maintenance_status(api: Served, redis) -> None:
    for expected in (True, False):
        status, document, _ = await ask(api, TOGGLE_MAINTENANCE)
        assert (status, document["data"]) == (200, {"is_maintenance": expected})
        assert api.plane.replica.document.is_active(MAINTENANCE) is expected
        status, document, headers = await ask(api, TOGGLE_MAINTENANCE)
        assert (status, document["data"]) == (429, {"is_maintenance": expected})
        assert headers["Retry-After"] in ("1", "2")
        await rested(redis, MAINTENANCE)


async def test_fifty_toggles_at_once_are_one(api: Served) -> None:
    answers = await asyncio.gather(*(ask(api, TOGGLE_MAINTENANCE) for _ in range(50)))
    assert sorted(status for status, _, _ in answers) == [200] + [429] * 49
    assert {doc["data"]["is_maintenance"] for _, doc, _ in answers} == {True}


async def test_app_data_ingestion_status(api: Served) -> None:
    for value in (False, True):
        await api.put_flag(INGESTION, value=value)
        status, document, _ = await ask(api, INGESTION_STATUS, token=None)
        assert (status, document["data"]) == (200, {"app_data_ingestion_status": value})


async def test_toggle_app_data_ingestion_status(api: Served, redis) -> None:
    for expected in (True, False):
        status, document, _ = await ask(api, TOGGLE_INGESTION)
        assert (status, document["data"]) == (200, {"app_data_ingestion_status": expected})
        status, document, headers = await ask(api, TOGGLE_INGESTION)
        assert (status, document["data"]) == (429, {"app_data_ingestion_status": expected})
        assert int(headers["Retry-After"]) > 0
        await rested(redis, INGESTION)
    assert not api.plane.replica.document.is_active(MAINTENANCE)


async def test_reset_app_data_ingestion_status(api: Served, redis) -> None:
    await api.put_flag(INGESTION)
    for _ in range(2):
        status, document, _ = await ask(api, RESET_INGESTION)
        assert (status, document["data"]) == (200, {"app_data_ingestion_status": False})
        await rested(redis, INGESTION)
    await ask(api, TOGGLE_INGESTION)
    status, document, _ = await ask(api, RESET_INGESTION)
    assert (status, document["data"]) == (429, {"app_data_ingestion_status": True})
    page = await api.plane.audit.page(flag=INGESTION)
    resets = [(row.action, row.outcome) for row in page.rows if row.action.startswith("reset")]
    assert resets == [
        ("reset to OFF", "debounced"),
        ("reset to OFF", "unchanged"),
        ("reset to OFF", "applied"),
    ]


async def test_writing_needs_an_operator(api: Served, config: Config, redis) -> None:
    async with Database(config.postgres) as database:
        keyring = ApiKeys(database, SystemClock())
        _, viewer = await keyring.create("anna", Role.VIEWER)
        _, operator = await keyring.create("olga", Role.OPERATOR)
    for name in WRITING:
        status, _, headers = await ask(api, name, token=None)
        assert status == 401
        assert headers["WWW-Authenticate"].startswith("Bearer")
        assert (await ask(api, name, token="wrong"))[0] == 401
        assert (await ask(api, name, token=viewer))[0] == 403
        assert (await ask(api, name, token=operator))[0] == 200
        done, refused = (await api.plane.audit.page(limit=2)).rows
        assert done.actor == "olga"
        assert (refused.actor, refused.action, refused.outcome) == ("anna", "forbidden", "refused")
        assert name in refused.detail
        await redis.delete(keys.debounce(MAINTENANCE), keys.debounce(INGESTION))


async def test_all_of_them_answer_while_the_bridge_is_up(api: Served, redis) -> None:
    for name in ROUTES:
        await api.put_flag()
        status, document, _ = await ask(api, name)
        assert status == (503 if name in (HEALTH, MAINTENANCE_STATUS) else 200), document
        await rested(redis, INGESTION)


async def test_the_base_path_is_a_setting(config: Config, redis) -> None:
    async with served(config, admin_token="the-admin-token", app_status_base="/x") as api:
        await wait_until(lambda: answers(api, "/x/" + HEALTH))
        for name, method in ROUTES.items():
            async with api.http.request(method, f"{BASE}/{name}") as response:
                assert response.status == 404
            assert (await ask(api, name, base="/x"))[0] == 200
            await api.put_flag(value=False)
            await rested(redis, INGESTION)


async def answers(api: Served, path: str) -> bool:
    async with api.http.get(path) as response:
        return response.status == 200


@pytest.mark.parametrize(
    ("down", "reasons"),
    [
        (["postgres"], ["database_unavailable"]),
        (["redis"], ["redis_unavailable"]),
        (
            ["redis", "postgres"],
            ["database_unavailable", "redis_unavailable", "control_state_stale"],
        ),
    ],
)
async def test_with_stores_down_memory_answers(
    api: Served, stores, down: list[str], reasons: list[str]
) -> None:
    await api.put_flag(INGESTION)
    async with AsyncExitStack() as restored:
        for name in down:
            await stores.stop(name)
            restored.push_async_callback(stores.restart, name)

        async def told() -> bool:
            return (await ask(api, HEALTH))[1]["data"]["reasons"] == reasons

        await wait_until(told)
        assert (await ask(api, MAINTENANCE_STATUS))[1]["data"] == {"is_maintenance": False}
        assert (await ask(api, INGESTION_STATUS))[1]["data"] == {"app_data_ingestion_status": True}
        status, document, _ = await ask(api, TOGGLE_MAINTENANCE)
        if "postgres" in down:
            assert (status, document["data"]) == (503, {"dependency": "database"})
        else:
            assert (status, document["data"]) == (200, {"is_maintenance": True})
    await wait_until(lambda: api.plane.replica.source == "redis")


async def test_the_envelope_before_anything_is_known() -> None:
    async with served(NOWHERE, knowing=False, admin_token="the-admin-token") as api:
        for name in ROUTES:
            status, document, headers = await ask(api, name)
            assert status == 503
            if name == HEALTH:
                assert document["data"]["reasons"] == [
                    "database_unavailable", "redis_unavailable", "control_state_stale",
                ]  # fmt: skip
            elif name in WRITING:
                assert document["data"] == {"dependency": "database"}
                assert int(headers["Retry-After"]) > 0
            else:
                assert document["data"]["reasons"] == ["control_state_stale"]


async def test_a_stopping_instance_is_not_healthy(api: Served) -> None:
    service_app.begin_stop(api.app)
    status, document, _ = await ask(api, HEALTH)
    assert (status, document["data"]["reasons"]) == (503, ["shutting_down"])


async def test_a_trailing_slash_makes_no_difference(api: Served, redis) -> None:
    for name in ROUTES:
        assert (await ask(api, name + "/"))[0] == 200, name
        await rested(redis, INGESTION)
        await api.put_flag(value=False)


async def test_what_fits_no_route_keeps_the_envelope(api: Served) -> None:
    for name, method in ROUTES.items():
        other = "GET" if method != "GET" else "POST"
        for path in (name, name + "/"):
            status, document, headers = await ask(api, path, method=other)
            assert (status, document["data"]) == (405, {})
            assert headers["Allow"] == ("GET, HEAD" if method == "GET" else method)
    for path in ("no-such-status", "", f"{HEALTH}/more"):
        assert (await ask(api, path, method="GET"))[0] == 404
    await api.put_flag(reason="db upgrade")
    status, document, headers = await ask(api, "no-such-status", method="GET")
    assert (status, document["data"]["reason"]) == (503, "db upgrade")
    assert int(headers["Retry-After"]) > 0


async def test_if_match(api: Served, redis) -> None:
    before = f'"{api.plane.replica.position}"'
    assert (await ask(api, TOGGLE_INGESTION, if_match=before))[0] == 200
    await rested(redis, INGESTION)
    status, document, headers = await ask(api, TOGGLE_INGESTION, if_match=before)
    assert (status, document["data"]["is_active"]) == (412, True)
    assert headers["ETag"] == f'"{api.plane.replica.position}"'


async def test_a_base_that_leads_to_other_routes_leaves_them_their_form(config: Config) -> None:
    async with served(config, app_status_base="/jobs") as api:
        async with api.http.get("/jobs/archive?limit=x") as response:
            assert (response.status, response.content_type) == (422, "application/problem+json")
        assert (await ask(api, "archive", method="PUT", base="/jobs"))[0] == 405


async def test_our_own_fault_keeps_the_envelope(api: Served, monkeypatch) -> None:
    async def broken(*_arguments: object, **_terms: object) -> None:
        raise RuntimeError("secret detail")

    monkeypatch.setattr(type(api.plane), "change", broken)
    status, document, _ = await ask(api, TOGGLE_MAINTENANCE)
    assert status == 500
    assert "secret" not in str(document)


def test_the_exception_has_a_message_and_data_by_default() -> None:
    bare = HealthCheckStatusException()
    assert (str(bare), bare.data) == ("The application is not healthy.", {})
    told = HealthCheckStatusException(message="closed", data={"is_maintenance": True})
    assert (told.message, told.data) == ("closed", {"is_maintenance": True})
