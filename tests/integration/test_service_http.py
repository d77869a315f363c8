"""What every route shares: ids, problems, headers, tokens, the description of the API."""

from dataclasses import replace

import msgspec
import pytest
import structlog

from control.clock import SystemClock
from control.migrations import migrate
from control.principals import ApiKeys, Role
from control.stores.postgres import Database
from service.appkeys import JOBS
from tests.serving import MODEL, MPS, problem, served

TOKEN = "the-admin-token"


@pytest.fixture
async def api(stores, redis):
    async with served(stores.config, admin_token=TOKEN) as running:
        yield running


@pytest.mark.parametrize("name", ["X-Request-ID", "X-Correlation-ID", "x-request-id"])
async def test_a_callers_id_is_taken(api, name: str) -> None:
    async with api.http.get("/jobs", headers={name: "build-17"}) as response:
        assert response.headers["X-Request-ID"] == "build-17"


@pytest.mark.parametrize("bad", ["", "x" * 129, "tab\there", "umlaut-ä"])
async def test_an_id_that_cannot_be_is_replaced(api, bad: str) -> None:
    async with api.http.get("/jobs", headers={"X-Request-ID": bad}) as response:
        assert response.headers["X-Request-ID"] != bad
        assert len(response.headers["X-Request-ID"]) == 26


async def test_unknown_addresses_and_methods_are_problems(api) -> None:
    async with api.http.get("/no/such/thing") as response:
        assert response.status == 404
        assert (await problem(response))["type"] == "/problems/not-found"
    async with api.http.put("/optimize", data=b"x") as response:
        assert response.status == 405
        assert response.headers["Allow"] == "GET, HEAD, POST"
        await problem(response)


async def test_every_type_of_problem_is_told_at_its_address(api) -> None:
    async with api.http.get("/no/such/thing") as response:
        address = (await problem(response))["type"]
    async with api.http.get(address) as response:
        assert response.status == 200
    async with api.http.get("/problems/nonsense") as response:
        assert response.status == 404


async def test_our_own_fault_is_logged_and_tells_the_caller_nothing(api, monkeypatch) -> None:
    async def broken(**_query: object) -> None:
        raise ValueError("secret detail")

    monkeypatch.setattr(api.app[JOBS], "list_jobs", broken)
    with structlog.testing.capture_logs() as lines:
        async with api.http.get("/jobs") as response:
            assert response.status == 500
            told = await problem(response)
    assert "secret detail" not in str(told)
    faults = [line for line in lines if line["event"] == "unforeseen error"]
    assert len(faults) == 1
    assert faults[0]["exc_info"] is True


async def test_one_log_line_a_request_without_its_query(api) -> None:
    with structlog.testing.capture_logs(
        processors=[structlog.contextvars.merge_contextvars]
    ) as lines:
        async with api.http.get("/jobs/nonsense?token=abc", headers={"X-Request-ID": "r-1"}):
            pass
    (line,) = [line for line in lines if line["event"] == "request"]
    assert (line["method"], line["route"], line["status"]) == ("GET", "/jobs/{run_id}", 404)
    assert line["request_id"] == "r-1"
    assert line["ms"] >= 0
    assert "abc" not in str(line)


async def test_the_line_of_a_request_about_a_job_has_its_id(api) -> None:
    with structlog.testing.capture_logs() as lines:
        async with api.http.post("/optimize", data=MODEL, headers=MPS) as response:
            run_id = (await response.json())["run_id"]
        async with api.http.get(f"/jobs/{run_id}"), api.http.get("/jobs/nonsense"):
            pass
    told = [line.get("run_id") for line in lines if line["event"] == "request"]
    assert told == [run_id, run_id, None]


async def test_security_headers_are_on_every_answer(api) -> None:
    for path in ("/health", "/jobs", "/nowhere", "/docs"):
        async with api.http.get(path) as response:
            assert response.headers["X-Content-Type-Options"] == "nosniff"
            assert "default-src 'none'" in response.headers["Content-Security-Policy"]
            assert "aiohttp" not in response.headers["Server"]


async def test_a_bad_token_is_always_refused(api) -> None:
    for header in ("Bearer wrong", "Basic eDp5", "Bearer", ""):
        headers = {**MPS, "Authorization": header}
        async with api.http.post("/optimize", data=MODEL, headers=headers) as response:
            assert response.status == 401
            assert 'error="invalid_token"' in response.headers["WWW-Authenticate"]
            assert (await problem(response))["type"] == "/problems/unauthorised"


async def test_api_keys_and_what_their_roles_may(stores, redis, database_url) -> None:
    section = replace(stores.config.postgres, url=database_url)
    await migrate(database_url)
    async with served(replace(stores.config, postgres=section)) as api, Database(section) as db:
        keys = ApiKeys(db, SystemClock())
        bearer = {}
        for name, role in (("anna", Role.VIEWER), ("otto", Role.VIEWER), ("op", Role.OPERATOR)):
            _, secret = await keys.create(name, role)
            bearer[name] = {"Authorization": f"Bearer {secret}"}
        unknown = {"Authorization": "Bearer dbk_" + "x" * 43}
        async with api.http.get("/jobs", headers=unknown) as response:
            assert response.status == 401
        for owner, caller, status in (
            ("anna", "otto", 403),
            ("anna", "anna", 202),
            ("anna", "op", 202),
        ):
            headers = {**MPS, **bearer[owner]}
            async with api.http.post("/optimize", data=MODEL, headers=headers) as response:
                cancel = (await response.json())["links"]["cancel"]
            async with api.http.delete(cancel, headers=bearer[caller]) as response:
                assert response.status == status


async def test_without_a_token_only_where_the_configuration_allows(stores, redis) -> None:
    async with served(stores.config, admin_token=TOKEN, anonymous="none") as api:
        async with api.http.get("/jobs") as response:
            assert response.status == 401
            assert response.headers["WWW-Authenticate"].startswith("Bearer")
            await problem(response)
        async with api.http.get("/health") as response:
            assert response.status == 200
        async with api.http.get("/jobs", headers={"Authorization": f"Bearer {TOKEN}"}) as response:
            assert response.status == 200


async def test_the_description_covers_every_route(api) -> None:
    async with api.http.get("/openapi.json") as response:
        document = msgspec.json.decode(await response.read())
    assert document["openapi"].startswith("3.1")
    described = {
        (method.upper(), path.rstrip("/"))
        for path, methods in document["paths"].items()
        for method in methods
    }
    served_routes = {
        (route.method, route.resource.canonical.rstrip("/").replace("{kind}", "optimize"))
        for route in api.app.router.routes()
        if route.method != "HEAD" and route.resource is not None
    }
    assert served_routes == described
    for path, methods in document["paths"].items():
        for method, operation in methods.items():
            assert operation["summary"], f"{method} {path}"
            assert operation["tags"]
    body = document["paths"]["/optimize"]["post"]["requestBody"]["content"]
    reference = body["application/json"]["schema"]["$ref"].rpartition("/")[2]
    fields = document["components"]["schemas"][reference]["properties"]
    assert fields.keys() >= {"problem", "options", "priority", "run_at", "timeout_s"}


async def test_the_documentation_needs_nothing_from_elsewhere(api) -> None:
    async with api.http.get("/docs") as response:
        page = await response.text()
        assert response.content_type == "text/html"
    assert "http://" not in page
    assert "https://" not in page
    for file, media in (
        ("swagger-ui.css", "text/css"),
        ("swagger-ui-bundle.js", "text/javascript"),
        ("start.js", "text/javascript"),
    ):
        assert f"/docs/{file}" in page
        async with api.http.get(f"/docs/{file}") as response:
            assert (response.status, response.content_type) == (200, media)
    async with api.http.get("/docs/LICENSE") as response:
        assert response.status == 404


async def test_head_answers_like_get(api) -> None:
    for path in ("/health", "/ready", "/jobs", "/openapi.json"):
        async with api.http.head(path) as response:
            assert response.status in (200, 503)
            assert await response.read() == b""


@pytest.mark.parametrize("path", ["/ready", "/ready/", "/health", "/health/"])
async def test_a_plain_probe_is_answered_like_one_that_took_the_whole_way(api, path) -> None:
    """What is answered before it is routed keeps every promise that middlewares keep for others."""
    asked = {"X-Request-ID": "probe-1"}
    for method in ("GET", "HEAD"):
        async with (
            api.http.request(method, path, headers=asked) as short,
            api.http.request(method, path + "?x=1", headers=asked) as long,
        ):
            bodies = [await each.read() for each in (short, long)]
        assert short.status == long.status
        assert bool(bodies[0]) is bool(bodies[1]) is (method == "GET")
        told, expected = dict(short.headers), dict(long.headers)
        for varies in ("Date", "Content-Length"):
            del told[varies], expected[varies]
        assert told == expected
        assert told["X-Request-ID"] == "probe-1"
    async with api.http.post(path) as response:
        assert (response.status, response.headers["Allow"]) == (405, "GET, HEAD")
