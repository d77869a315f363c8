"""The status page's API: its exact shapes, who may change what, and what it says in an outage."""

import contextlib
from collections.abc import AsyncIterator
from datetime import timedelta
from typing import Any

import msgspec
import pytest

from control.clock import SystemClock, iso
from control.config import Config
from control.flags.document import MAINTENANCE
from control.principals import ApiKeys, Role
from control.status import judging
from control.stores.postgres import Database
from service.appkeys import HEALTH, STATUS
from tests.conftest import LiveStores
from tests.serving import Served, problem, served, with_database
from tests.stack import wait_until

NAMES = ["API", "Database", "File Storage", "Email Service", "Authentication", "Redis", "Graph",
         "Workers"]  # fmt: skip
ADMIN = {"Authorization": "Bearer the-admin-token"}
INCIDENT = {"title", "id", "description", "status", "severity", "started_at", "resolved_at",
            "root_cause", "resolution", "affected_components", "updates"}  # fmt: skip
WINDOW = {"id", "title", "description", "scheduled_start", "scheduled_end", "status",
          "affected_components"}  # fmt: skip


@pytest.fixture
async def config(stores, redis, database_url) -> Config:
    return await with_database(stores.config, database_url)


@pytest.fixture
async def api(config: Config) -> AsyncIterator[Served]:
    async with served(config, admin_token="the-admin-token") as running:
        await wait_until(lambda: settled(running))
        yield running


async def settled(api: Served) -> bool:
    """Whether somebody is in office and has looked. That no worker lives shows only later."""
    view = api.app[STATUS].board.view
    looked = [each.id for each in view.components if each.last_checked]
    return not view.local and len(looked) >= len(view.components) - 2 > 0


async def get(api: Served, path: str, **query: str) -> Any:
    async with api.http.get(path, params=query) as response:
        assert response.status == 200, await response.text()
        assert response.headers["Access-Control-Allow-Origin"] == "*"
        return msgspec.json.decode(await response.read())


async def send(
    api: Served, method: str, path: str, body: Any = None, expected: int = 200, **headers: str
) -> Any:
    headers = headers or ADMIN
    json = {} if body is None else {"json": body}
    async with api.http.request(method, path, headers=headers, **json) as response:
        text = await response.read()
        assert response.status == expected, text
        return msgspec.json.decode(text) if text else None


def soon(**span: float) -> str:
    return iso(SystemClock().now() + timedelta(**span))


async def events_told(database: Database) -> list[str]:
    """What was told so far."""
    async with database.acquire() as connection:
        rows = await connection.fetch("SELECT id FROM drawbridge.status_events ORDER BY id")
    return [row["id"] for row in rows]


async def test_the_whole_has_exactly_its_members(api: Served) -> None:
    for path in ("/api/status", "/api/status/"):
        whole = await get(api, path)
        assert whole.keys() == {"components", "overall_status", "recent_incidents",
                                "scheduled_maintenance", "last_updated"}  # fmt: skip
        assert [each["name"] for each in whole["components"]] == NAMES
        for each in whole["components"]:
            assert each.keys() == {"id", "name", "status", "last_checked"}
    by_name = {each["name"]: each["status"] for each in whole["components"]}
    without_workers = by_name.pop("Workers"), by_name.pop("Email Service")
    assert without_workers == ("unknown", "unknown"), "none lives: three looks will say so"
    assert set(by_name.values()) == {"operational"}
    one = await get(api, "/api/status/components/database")
    assert one["component"]["name"] == "Database"
    assert one["uptime"].keys() == {"30_days", "60_days", "90_days"}
    assert await get(api, "/api/status/incidents") == {"incidents": [], "period_days": 90}
    assert await get(api, "/api/status/maintenance") == {"maintenance_windows": []}
    for days, status in (("1", 200), ("365", 200), ("0", 422), ("366", 422), ("x", 422)):
        async with api.http.get("/api/status/incidents", params={"days": days}) as response:
            assert response.status == status
    bust = "_=123&utm_source=x&_=4"  # as links and caches add it
    for path in ("", "/components", "/components/api", "/incidents", "/maintenance"):
        await get(api, f"/api/status{path}?{bust}")
    for path in ("incidents?days=0", "incidents?days=1&days=2", "maintenance?detail=x"):
        async with api.http.get(f"/api/status/{path}&{bust}") as response:
            assert response.status == 422, path
    for unknown in ("components/none", "incidents/none", "maintenance/01J00000000000000000000000"):
        async with api.http.get(f"/api/status/{unknown}") as response:
            assert response.status == 404
            assert (await problem(response))["type"] == "/problems/not-found"


async def test_an_incident_from_its_opening_to_its_end(api: Served) -> None:
    made = await send(api, "POST", "/api/status/incidents/create", {
        "title": "Slow <b>answers</b>", "description": "We see *latency*.", "severity": "major",
        "affected_components": ["api", "File Storage", {"id": "graph", "impact": "major_outage"}],
    }, 201)  # fmt: skip
    where = f"/api/status/incidents/{made['id']}"
    impacts = {each["id"]: each["impact"] for each in made["impacts"]}
    assert impacts == {
        "api": "partial_outage", "file-storage": "partial_outage", "graph": "major_outage",
    }  # fmt: skip
    whole = await get(api, "/api/status")
    assert whole["overall_status"] == "major_outage"
    (listed,) = whole["recent_incidents"]
    assert listed.keys() == INCIDENT
    assert listed["affected_components"] == ["api", "file-storage", "graph"]
    assert (listed["status"], listed["resolved_at"]) == ("investigating", None)
    statuses = {each["id"]: each["status"] for each in whole["components"]}
    assert (statuses["api"], statuses["graph"]) == ("partial_outage", "major_outage")

    eta = soon(hours=1)
    await send(api, "POST", where + "/updates", {
        "message": "It is the cache.", "status": "identified", "estimated_resolution": eta,
        "affected_components": [{"id": "graph", "impact": "operational"}],
    })  # fmt: skip
    await send(api, "POST", where + "/updates/", {"message": "Watching.", "status": "monitoring"})
    told = await get(api, where)
    assert told["estimated_resolution"][:19] == eta[:19]
    assert [each["status"] for each in told["updates"]] == [
        "investigating", "identified", "monitoring",
    ]  # fmt: skip
    assert (await get(api, "/api/status"))["overall_status"] == "partial_outage"
    done = await send(api, "POST", where + "/resolve", {
        "root_cause": "A cache was full.", "resolution": "It was emptied.",
    })  # fmt: skip
    assert (done["status"], done["root_cause"]) == ("resolved", "A cache was full.")
    for path, body in (("/updates", {"message": "more"}), ("/resolve", {"resolution": "again"})):
        refused = await send(api, "POST", where + path, body, 409)
        assert refused["current"] == "resolved"
    (listed,) = (await get(api, "/api/status/incidents", days="1"))["incidents"]
    assert listed.keys() == INCIDENT
    assert listed["resolved_at"]
    assert (await get(api, "/api/status"))["overall_status"] in ("operational", "unknown")


async def test_what_an_update_resolved_is_explained_afterwards_once(
    api: Served, database: Database
) -> None:
    made = await send(api, "POST", "/api/status/incidents/create", {"title": "t"}, 201)
    where = f"/api/status/incidents/{made['id']}"
    over = await send(api, "POST", where + "/updates", {"message": "Over.", "status": "resolved"})
    assert (over["root_cause"], over["resolution"]) == (None, None)
    before = await events_told(database)
    await send(api, "POST", where + "/resolve", {}, 409)
    await send(api, "POST", where + "/resolve", {"root_cause": " "}, 422)
    reasons = {"root_cause": "A cache was full.", "resolution": "It was emptied."}
    done = await send(api, "POST", where + "/resolve", reasons)
    assert done == {**over, **reasons, "updated_at": done["updated_at"]}
    assert done == await get(api, where), "what everybody reads"
    assert await events_told(database) == before, "nobody is told again"
    again = await send(api, "POST", where + "/resolve", {"root_cause": "Another."}, 409)
    assert again["current"] == "resolved"


async def test_incidents_that_cannot_be(api: Served) -> None:
    for body, field in (
        ({"title": ""}, "title"), ({"title": "a" * 201}, "title"), ({}, "title"),
        ({"title": "t", "description": "a" * 10_001}, "description"),
        ({"title": "t", "severity": "awful"}, "severity"),
        ({"title": "t", "affected_components": ["nowhere"]}, "affected_components"),
        ({"title": "t", "status": "resolved"}, "status"),
        ({"title": "t", "next_update": "2020-01-01T00:00:00Z"}, "next_update"),
        ({"title": "t", "started_at": "tomorrow"}, "started_at"),
    ):  # fmt: skip
        refused = await send(api, "POST", "/api/status/incidents/create", body, 422)
        assert field in refused["detail"]
    unknown = {"title": "t", "severity": "high"}
    refused = await send(api, "POST", "/api/status/incidents/create", unknown, 422)
    assert refused["detail"].startswith("severity: ")
    assert "minor, major, critical" in refused["detail"]
    for path in ("incidents/%00/resolve", "maintenance/x/extend", "components/%C3%A9/override"):
        method = "PUT" if path.endswith("override") else "POST"
        body = {"status": "degraded", "until": soon(hours=1)} if method == "PUT" else {"minutes": 1}
        body = {"resolution": "r"} if path.endswith("resolve") else body
        await send(api, method, f"/api/status/{path}", body, 404)
    never = {"title": "t", "scheduled_end": "9999-12-31T23:59:59-23:00"}
    await send(api, "POST", "/api/status/maintenance", never, 422)


async def test_who_may_change_what(api: Served, database: Database) -> None:
    stored = ApiKeys(database, SystemClock())
    keys = {role: (await stored.create(str(role), role))[1] for role in Role}
    by = {role: {"Authorization": f"Bearer {key}"} for role, key in keys.items()}
    incident, window = {"title": "t"}, {"title": "w", "scheduled_end": soon(hours=1)}
    rows: tuple[tuple[str, Any, Role], ...] = (
        ("incidents/create", incident, Role.ADMINISTRATOR),
        ("health-check", None, Role.ADMINISTRATOR),
        ("components", {"name": "Shop", "checks": ["redis"]}, Role.ADMINISTRATOR),
        ("maintenance", window, Role.OPERATOR),
        ("maintenance/create", window, Role.OPERATOR),
    )
    for path, body, needed in rows:
        async with api.http.post(f"/api/status/{path}", json=body) as response:
            assert response.status == 401, path
        below = Role(needed - 1)
        await send(api, "POST", f"/api/status/{path}", body, 403, **by[below])
        made = 200 if path == "health-check" else 201
        await send(api, "POST", f"/api/status/{path}", body, made, **by[needed])


async def test_a_look_on_demand_answers_for_every_component_and_is_entered(api: Served) -> None:
    before = (await get(api, "/api/status"))["components"][0]["last_checked"]
    found = await send(api, "POST", "/api/status/health-check")
    assert found.keys() == {"message", "results"}
    assert list(found["results"]) == NAMES
    assert found["results"]["Database"] == "operational"
    assert (await get(api, "/api/status"))["components"][0]["last_checked"] > before


async def test_what_a_look_on_demand_finds_counts_at_once(
    api: Served, config: Config, stores: LiveStores
) -> None:
    """Also for a page that another instance keeps, and without a look of its own in between."""
    async with served(config, admin_token="the-admin-token") as other:
        await wait_until(lambda: settled(other))
        await stores.stop("graph")
        try:
            for asked in (api, other):
                found = await send(asked, "POST", "/api/status/health-check")
                assert found["results"]["Graph"] == "major_outage"
                for shown in (api, other):
                    await wait_until(lambda at=shown: graph(at, "major_outage"), 2.0)
        finally:
            await stores.restart("graph")
        await wait_until(lambda: state(api, "neo4j") == state(other, "neo4j") == "ok")
        await send(api, "POST", "/api/status/health-check")
        assert await graph(api, "operational")


async def test_a_look_on_demand_counts_while_the_records_cannot_be_read(
    api: Served, stores: LiveStores
) -> None:
    await stores.stop("postgres")
    try:
        await wait_until(lambda: state(api, "database") == "down")
        await wait_until(lambda: api.app[STATUS].keeper.local is not None)
        found = await send(api, "POST", "/api/status/health-check")
        assert found["results"]["Database"] == "major_outage"
        told = await get(api, "/api/status")
        shown = {each["name"]: each["status"] for each in told["components"]}
        assert (shown["Database"], told["overall_status"]) == ("major_outage", "major_outage")
    finally:
        await stores.restart("postgres")


async def graph(api: Served, status: str) -> bool:
    told = await get(api, "/api/status")
    shown = {each["id"]: each["status"] for each in told["components"]}
    worst = status if status != "operational" else told["overall_status"]
    return bool((shown["graph"], told["overall_status"]) == (status, worst))


def state(api: Served, check: str) -> str:
    return str(api.app[HEALTH].snapshot.results[check].state)


async def test_a_window_over_http_moves_the_bridge_and_the_api_stays_open(api: Served) -> None:
    made = await send(api, "POST", "/api/status/maintenance", {
        "title": "upgrade", "scheduled_end": soon(minutes=30), "raise_bridge": True,
        "affected_components": ["Database"],
    }, 201)  # fmt: skip
    assert made["status"] == "in_progress", "it began at once"
    await wait_until(lambda: api.plane.replica.raised)
    async with api.http.get("/jobs") as response:
        assert response.status == 503
    whole = await get(api, "/api/status")
    (planned,) = whole["scheduled_maintenance"]
    assert planned.keys() == WINDOW
    statuses = {each["id"]: each["status"] for each in whole["components"]}
    assert statuses["database"] == statuses["api"] == "under_maintenance"
    where = f"/api/status/maintenance/{made['id']}"
    longer = await send(api, "POST", where + "/extend", {"minutes": 30})
    assert longer["scheduled_end"] > made["scheduled_end"]
    await wait_until(lambda: str(api.plane.replica.raised and api.plane.replica.raised.until)
                     [:16] == longer["scheduled_end"][:16].replace("T", " "))  # fmt: skip
    assert (await send(api, "POST", where + "/finish"))["status"] == "completed"
    await wait_until(lambda: api.plane.replica.raised is None)
    assert (await send(api, "POST", where + "/finish", None, 409))["current"] == "completed"
    later = {
        "title": "later",
        "scheduled_start": soon(days=1),
        "scheduled_end": soon(days=1, hours=1),
    }
    made = await send(api, "POST", "/api/status/maintenance", later, 201)
    where = f"/api/status/maintenance/{made['id']}"
    changed = await send(api, "PATCH", where, {"title": "even later"})
    assert changed["title"] == "even later"
    assert (await send(api, "POST", where + "/cancel"))["status"] == "cancelled"
    listed = (await get(api, "/api/status/maintenance"))["maintenance_windows"]
    assert [each["status"] for each in listed] == ["completed", "cancelled"]
    assert all(each.keys() == WINDOW for each in listed)
    series = await send(api, "POST", "/api/status/maintenance", {
        **later, "recurrence": "FREQ=WEEKLY", "timezone": "Europe/Berlin",
    }, 201)  # fmt: skip
    ended = await send(api, "POST", f"/api/status/maintenance/series/{series['series']}/cancel")
    assert {each["status"] for each in ended["maintenance_windows"]} == {"cancelled"}
    for rule in ({}, {"recurrence": "FREQ=WEEKLY"}):
        bad = {**later, **rule, "timezone": "Mars/Olympus"}
        refused = await send(api, "POST", "/api/status/maintenance", bad, 422)
        assert refused["field"] == "timezone"
    bad = {**later, "recurrence": "FREQ=SECONDLY"}
    assert (await send(api, "POST", "/api/status/maintenance", bad, 422))["field"] == "recurrence"


async def test_components_of_ones_own_and_what_is_declared_of_any(api: Served) -> None:
    made = await send(api, "POST", "/api/status/components", {
        "name": "Web Shop", "checks": ["redis", "neo4j@degraded"], "description": "It sells.",
    }, 201)  # fmt: skip
    assert made["component"]["id"] == "web-shop"
    await wait_until(lambda: settled(api))
    assert (await get(api, "/api/status/components/web-shop"))["component"]["status"] == (
        "operational"
    )
    for body in ({"name": "x", "checks": []}, {"name": "x", "checks": ["nothing"]},
                 {"name": "", "checks": ["redis"]}):  # fmt: skip
        await send(api, "POST", "/api/status/components", body, 422)
    await send(
        api, "POST", "/api/status/components", {"name": "Web shop", "checks": ["redis"]}, 409
    )
    where = "/api/status/components/web-shop"
    assert (await send(api, "PATCH", where, {"name": "Shop"}))["component"]["name"] == "Shop"
    await send(api, "PATCH", "/api/status/components/api", {"name": "Shop"}, 409)
    told = await send(api, "PUT", where + "/override",
                      {"status": "degraded", "until": soon(hours=1)})  # fmt: skip
    assert (told["component"]["status"], told["component"]["source"]) == ("degraded", "override")
    await send(api, "PUT", where + "/override", {"status": "degraded", "until": soon(days=8)}, 422)
    told = await send(api, "DELETE", where + "/override")
    assert told["component"]["status"] == "operational"
    await send(api, "DELETE", where, None, 204)
    assert (await get(api, "/api/status"))["components"][-1]["id"] == "workers"


async def test_it_answers_from_memory_while_both_stores_are_down_and_is_not_green(
    api: Served, stores, monkeypatch: Any
) -> None:
    monkeypatch.setattr(judging, "AGAIN_S", (0.6, 1.2))
    monkeypatch.setattr("control.status.keeper.AWAY_S", 0.1)
    await api.put_flag(MAINTENANCE, False)
    await send(api, "POST", "/api/status/incidents/create", {"title": "remembered"}, 201)
    before = await get(api, "/api/status")
    async with contextlib.AsyncExitStack() as back:
        for name in ("redis", "postgres"):
            back.push_async_callback(stores.restart, name)
            await stores.stop(name)

        async def seen() -> bool:
            whole = await get(api, "/api/status")
            found = {each["id"]: each["status"] for each in whole["components"]}
            return found["database"] == found["redis"] == "major_outage"

        await wait_until(seen)
        whole = await get(api, "/api/status")
        assert whole["overall_status"] == "major_outage"
        assert [each["title"] for each in whole["recent_incidents"]] == ["remembered"]
        assert whole["last_updated"] < soon(seconds=-1)
        assert whole["components"][1]["last_checked"] > before["components"][1]["last_checked"]
        refused = await send(api, "POST", "/api/status/incidents/create", {"title": "t"}, 503)
        assert refused["dependency"] == "database"

    async def recovered() -> bool:
        whole = await get(api, "/api/status")
        found = {each["id"]: each["status"] for each in whole["components"]}
        return found["database"] == found["redis"] == "operational"

    await wait_until(recovered)
    entered = await api.app[STATUS].reader.drafts()
    assert {each.components[0].id for each in entered} >= {"api"}, "what was seen is entered"
