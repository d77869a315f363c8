"""The raised bridge at the API: what it holds up, what passes, and when nothing is left inside."""

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator
from dataclasses import replace
from datetime import timedelta

import aiohttp
import jwt
import pytest
import structlog
from yarl import URL

from control import keys
from control.clock import SystemClock
from control.config import ControlSection
from control.flags.document import MAINTENANCE
from service.bypass import AUDIENCE, HEADER
from service.gate import EXCLUDED_API, excluded
from tests.serving import MODEL, MPS, NOWHERE, Served, problem, served, with_database
from tests.stack import wait_until
from worker.jobs.manager import Progress

WITHIN_S = 60
BASE = "/base-pricing/api/v1"
SECRET = "a-secret-of-the-tests-own-long-enough-for-HS256"
OPERATOR = {"Authorization": "Bearer the-admin-token"}


@pytest.fixture
async def api(stores, redis, database_url) -> AsyncIterator[Served]:
    config = await with_database(stores.config, database_url)
    config = replace(config, control=ControlSection(secret=SECRET))
    async with served(config, admin_token="the-admin-token") as running:
        yield running


async def status(api: Served, method: str, path: str, **options: object) -> int:
    """The status of the answer; 503 only where it is that of the raised bridge, else -503."""
    url = URL(api.url + path, encoded=True)
    async with aiohttp.ClientSession() as http, http.request(method, url, **options) as response:
        if response.status != 503 or method == "HEAD":
            return response.status
        told = json.loads(await response.read())
        # What fits no route below the app-status base is refused in the envelope of those routes.
        held_up = told.get("type") == "/problems/bridge-up" or "mode" in told.get("data", {})
        return 503 if held_up else -503


async def test_every_route_but_the_excluded_ones_is_refused(api: Served) -> None:
    await api.put_flag(reason="db upgrade")
    routes = [r for r in api.app.router.routes() if r.resource is not None]
    paths = {r.resource.canonical for r in routes}
    open_paths = excluded(paths, BASE)
    assert {"/optimize", "/jobs/{run_id}", "/optimize/{run_id}/events"} <= paths - open_paths
    for route in routes:
        path = route.resource.canonical
        address = path.replace("{run_id}", "x").replace("{flag}", "no_flag").replace("{", "")
        if path.endswith("/events") and path in open_paths:
            continue  # would go on for ever: see the tests of /control
        answer = await status(api, route.method, address.replace("}", ""))
        if route.method != "HEAD" or path not in open_paths:
            assert (answer == 503) is (path not in open_paths), (route.method, path, answer)


async def test_the_refusal_says_why_and_for_how_long(api: Served) -> None:
    until = SystemClock().now() + timedelta(seconds=1000)
    await api.put_flag(reason="db upgrade", until=until)
    async with api.http.get("/jobs", headers={"X-Request-ID": "r-7"}) as response:
        assert response.status == 503
        assert response.headers["Cache-Control"] == "no-store"
        assert 790 <= int(response.headers["Retry-After"]) <= 1200
        told = await problem(response)
    assert told["type"] == "/problems/bridge-up"
    assert told["request_id"] == "r-7"
    assert told["reason"] == "db upgrade"
    assert told["until"].startswith(until.isoformat()[:19])


async def test_it_opens_again_without_a_restart(api: Served) -> None:
    await api.put_flag()
    assert await status(api, "GET", "/jobs") == 503
    await api.put_flag(value=False)
    assert await status(api, "GET", "/jobs") == 200
    assert await status(api, "POST", "/optimize", data=MODEL, headers=MPS) == 202


LOOK_ALIKES = (
    "/healthy-jobs", "/control-room", "/statuses", "/readyz", "/metricsx", "/docsx",
    "/control/../optimize", "//control/../optimize", "/control/%2e%2e/optimize",
    "/control%2f..%2foptimize", "/health/../jobs", "/health/%2E%2E/jobs", "/./jobs",
    "//health/..//jobs", "/no/such/thing", "/Control/flags", "/history.rssx",
    BASE + "/app-health-statuses", BASE, "/base-pricing/api/v1/../v1/jobs",
)  # fmt: skip


async def test_what_only_looks_excluded_is_not(api: Served) -> None:
    """No spelling routes to a guarded handler, and none passes for an excluded path."""
    await api.put_flag()
    for path in LOOK_ALIKES:
        assert await status(api, "GET", path) == 503, path


async def test_what_is_excluded_keeps_its_own_errors(api: Served) -> None:
    await api.put_flag()
    assert await status(api, "DELETE", "/health") == 405
    assert await status(api, "GET", "/control/nothing") == 404
    assert await status(api, "GET", "/control/flags") == 401


def test_the_excluded_paths_are_those_of_the_contract() -> None:
    named = ["/health", "/health/", "/health/detailed", "/ready", "/api/system/health/readiness",
             "/api/v1/health/live/", "/api/v1/status/", "/metrics", "/control/flags/{flag}",
             "/status", "/api/status/incidents", "/api/v2/summary.json", "/history.rss",
             "/history.atom", "/openapi.json", "/docs/{file}", "/problems/{name}",
             "/b/app-health-status", "/b/reset-app-data-ingestion-status"]  # fmt: skip
    assert excluded([*named, "/optimize", "/jobs", "/api/v1/jobs", "/"], "/b") == set(named)
    assert len([path for path in EXCLUDED_API if "app-" in path]) == 6


async def test_the_description_says_which_routes_it_holds_up(api: Served) -> None:
    async with api.http.get("/openapi.json") as response:
        paths = (await response.json())["paths"]
    open_paths = excluded(paths, BASE)
    for path, methods in paths.items():
        for operation in methods.values():
            told = operation["responses"].get("503", {}).get("description", "")
            gated = "/problems/bridge-up" in told and "/problems/control_state_stale" in told
            assert gated is (path not in open_paths), path
            assert operation["tags"] != ["App Status"] or operation["description"]


async def test_read_only_lets_reading_pass(api: Served) -> None:
    await api.put_flag(mode="read_only")
    assert await status(api, "GET", "/jobs") == 200
    assert await status(api, "HEAD", "/jobs") == 200
    assert await status(api, "POST", "/optimize", data=MODEL, headers=MPS) == 503
    assert await status(api, "DELETE", "/jobs/x") == 503


async def test_the_script_knows_it_first(api: Served, redis) -> None:
    """Where this instance has not heard yet, the accept script refuses, in the gate's words."""
    async with submitted_under(api, redis, b"1") as response:
        assert response.status == 503
        assert response.headers["Cache-Control"] == "no-store"
        assert 48 <= int(response.headers["Retry-After"]) <= 72
        told = await problem(response)
    assert (told["type"], told["reason"], told["until"]) == ("/problems/bridge-up", None, None)


@contextlib.asynccontextmanager
async def submitted_under(api: Served, redis, word: bytes) -> AsyncIterator[aiohttp.ClientResponse]:
    """The answer to a model that met ``word`` in Redis. The beacon mends that within a second."""
    while True:
        await redis.hset(keys.FLAGS, MAINTENANCE, word)
        async with api.http.post("/optimize", data=MODEL, headers=MPS) as response:
            await response.read()
            if await redis.hget(keys.FLAGS, MAINTENANCE) == word:
                yield response
                return


async def test_a_redis_that_does_not_tell_lets_nothing_in(api: Served, redis) -> None:
    async with submitted_under(api, redis, b"perhaps") as response:
        assert response.status == 503
        assert response.headers["Retry-After"] in ("1", "2")
        assert (await problem(response))["type"] == "/problems/control_state_stale"


async def test_an_instance_that_knows_nothing_lets_nothing_in() -> None:
    async with served(NOWHERE, knowing=False) as api:
        async with api.http.get("/jobs") as response:
            assert response.status == 503
            assert response.headers["Retry-After"] in ("1", "2")
            assert (await problem(response))["type"] == "/problems/control_state_stale"
        async with api.http.get("/ready") as response:
            assert (await response.json())["detail"]["control_state"] == "stale"
        async with api.http.get("/health") as response:
            assert response.status == 200


async def test_ready_says_nothing_of_it_while_all_is_well(api: Served) -> None:
    async with api.http.get("/ready") as response:
        assert "control_state" not in str(await response.json())


async def test_quiesced_once_what_was_let_in_has_ended(api: Served) -> None:
    """An upload that began before the change holds the quiet up, and is told by number."""
    begun, held = asyncio.Event(), asyncio.Event()

    async def slowly() -> AsyncIterator[bytes]:
        begun.set()
        yield MODEL[:100]
        await held.wait()
        yield MODEL[100:]

    upload = asyncio.create_task(
        status(api, "POST", "/optimize", data=slowly(), headers=MPS, expect100=True)
    )
    await begun.wait()
    await api.put_flag()
    assert reported(api) == ("draining", 1, False)
    assert await status(api, "GET", "/jobs") == 503
    assert reported(api) == ("draining", 1, False)
    held.set()
    assert await upload == 503  # the script had the last word
    await wait_until(lambda: reported(api) == ("raised", 0, True))
    await api.put_flag(value=False)
    assert reported(api) == ("serving", 0, False)


async def test_reading_does_not_count_in_read_only_mode(api: Served) -> None:
    run_id = await api.put()
    async with asyncio.timeout(WITHIN_S), api.http.get(f"/jobs/{run_id}/events") as response:
        await response.content.readline()
        await api.put_flag(mode="read_only")
        assert reported(api) == ("raised", 0, True)
        await api.put_flag(mode="full")
        await response.content.read()
    await wait_until(lambda: reported(api) == ("raised", 0, True))


async def test_event_streams_end_with_the_reason(api: Served) -> None:
    run_id = await api.put()
    async with asyncio.timeout(WITHIN_S), api.http.get(f"/jobs/{run_id}/events") as response:
        await response.content.readuntil(b"\n\n")
        await response.content.readuntil(b"\n\n")
        await api.put_flag(reason="db upgrade")
        last = (await response.content.read()).decode().strip().splitlines()
    assert last[0] == "event: maintenance", "without an id, so that the stream resumes in place"
    data = json.loads(last[1].removeprefix("data: "))
    assert data.keys() == {"reason", "until", "retry_after_s"}
    assert data["reason"] == "db upgrade"
    assert await status(api, "GET", f"/jobs/{run_id}/events") == 503


async def test_a_client_that_does_not_read_holds_no_quiet_up(api: Served) -> None:
    run_id = await api.put()
    claim = await api.claim()
    url = URL(api.url)
    reader, writer = await asyncio.open_connection(url.host, url.port, limit=1024)
    writer.write(f"GET /jobs/{run_id}/events HTTP/1.1\r\nHost: x\r\n\r\n".encode())
    await reader.readuntil(b"event: status")
    for number in range(200):  # more than every buffer on the way holds
        filled = {"nodes": number, "filling": "x" * 100_000}
        assert await api.jobs.report(Progress(claim.run_id, claim.token, filled))
    await api.put_flag()
    await wait_until(lambda: reported(api) == ("raised", 0, True))
    writer.transport.abort()


async def test_a_bypass_opens_the_gate_and_no_more(api: Served) -> None:
    await api.put_flag()
    async with api.http.post(
        "/control/bypass", json={"ttl_s": 60, "reason": "smoke test"}, headers=OPERATOR
    ) as response:
        assert response.status == 201
        issued = await response.json()
    headers = {HEADER: issued["token"]}
    claims = jwt.decode(issued["token"], SECRET, algorithms=["HS256"], audience=AUDIENCE)
    assert claims["sub"] == "admin-token"
    with structlog.testing.capture_logs(
        processors=[structlog.contextvars.merge_contextvars]
    ) as lines:
        assert await status(api, "GET", "/jobs", headers={**headers, "X-Request-ID": "r-9"}) == 200
    (used,) = [line for line in lines if line["event"] == "[AUDIT] bypass used"]
    assert used["jti"] == claims["jti"]
    assert (used["actor"], used["route"], used["request_id"]) == ("admin-token", "/jobs", "r-9")
    assert issued["token"] not in str(lines)
    assert await status(api, "POST", "/optimize", data=MODEL, headers={**MPS, **headers}) == 503
    page = await api.plane.audit.page(limit=5)
    (row,) = [row for row in page.rows if row.action == "bypass issued"]
    assert (row.actor, row.reason, row.detail) == ("admin-token", "smoke test", claims["jti"])


def forged(**changes: object) -> str:
    claims = {"aud": AUDIENCE, "sub": "eve", "jti": "j", "exp": 1 << 40, **changes}
    return jwt.encode({k: v for k, v in claims.items() if v is not None}, SECRET)


async def test_a_bad_bypass_counts_for_nothing(api: Served) -> None:
    bad = [
        "", "nonsense", "a.b.c", forged(exp=1), forged(aud="else"), forged(aud=None),
        forged(sub=None), forged(jti=None), forged(exp=None), forged(exp="soon"), forged(sub=7),
        jwt.encode({"aud": AUDIENCE, "sub": "e", "jti": "j", "exp": 1 << 40}, "another" * 9),
        jwt.encode({"aud": AUDIENCE, "sub": "e", "jti": "j", "exp": 1 << 40}, None, "none"),
    ]  # fmt: skip
    await api.put_flag()
    with structlog.testing.capture_logs() as lines:
        for token in bad:
            assert await status(api, "GET", "/jobs", headers={HEADER: token}) == 503, token
    assert len([line for line in lines if line["event"] == "bypass refused"]) == len(bad)
    assert not [line for line in lines if line["event"] == "unforeseen error"]
    await api.put_flag(value=False)
    assert await status(api, "GET", "/jobs", headers={HEADER: bad[-1]}) == 200


async def test_a_stream_under_a_bypass_goes_on(api: Served) -> None:
    run_id = await api.put()
    await api.put_flag()
    async with (
        asyncio.timeout(WITHIN_S),
        api.http.get(f"/jobs/{run_id}/events", headers={HEADER: forged()}) as response,
    ):
        assert response.status == 200
        await api.put_flag(reason="changed")
        assert b"maintenance" not in await response.content.readuntil(b"event: status")
        assert reported(api) == ("raised", 0, True)
        response.close()


async def test_a_stopping_instance_tells_the_fleet(api: Served) -> None:
    api.gate.stopping()
    assert reported(api) == ("stopping", 0, False)


def reported(api: Served) -> tuple[str, int, bool]:
    now = api.plane.presence.current()
    return now.phase, now.running, now.quiesced
