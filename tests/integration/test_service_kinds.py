"""POST /jobs/{kind} and POST /jobs/{kind}:batch."""

import asyncio
import gzip
import json
from collections.abc import AsyncIterator, Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import msgspec
import pytest

from control.clock import iso
from control.errors import BridgeUp, StoreUnavailable
from service.submission import MOST_AT_ONCE
from tests.serving import MODEL, Served, problem, served, with_database
from tests.timing import timed
from worker.jobs.job import Accepted, JobState, NewJob

USERS = "tests.models.user_kinds"
NDJSON = {"Content-Type": "application/x-ndjson"}


@pytest.fixture
async def api(stores, redis) -> AsyncIterator[Served]:
    jobs = replace(stores.config.jobs, modules=(USERS,))
    async with served(replace(stores.config, jobs=jobs)) as running:
        yield running


def greeting(name: str = "Ada", **terms: object) -> dict[str, object]:
    return {"payload": {"name": name}, **terms}


async def stored(api: Served) -> list[str]:
    """The run ids of all jobs, oldest first."""
    return [job.run_id for job in (await api.jobs.list_jobs(limit=1_000)).jobs][::-1]


async def test_a_job_is_accepted_with_its_terms(api: Served) -> None:
    terms = {"priority": "high", "timeout_s": 5, "max_attempts": 7}
    trace = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"
    headers = {"X-Request-ID": "order-17", "traceparent": trace}
    async with api.http.post("/jobs/greet", json=greeting(**terms), headers=headers) as response:
        receipt = await response.json()
        assert response.status == 202, receipt
        assert response.headers["Location"] == f"/jobs/{receipt['run_id']}"
    at = f"/jobs/{receipt['run_id']}"
    assert receipt["status"] == "queued"
    assert receipt["correlation_id"] == "order-17"
    assert receipt["links"] == {
        "status": f"{at}/status",
        "result": f"{at}/result",
        "events": f"{at}/events",
        "cancel": at,
    }
    claim = await api.claim("io")
    assert json.loads(claim.payload) == {"name": "Ada", "times": 1}
    assert (claim.spec.kind, claim.spec.priority, claim.spec.timeout_s) == ("greet", "high", 5)
    assert (claim.spec.max_attempts, claim.spec.traceparent) == (7, trace)


async def test_a_later_run_is_scheduled(api: Served) -> None:
    due = iso(datetime.now(UTC) + timedelta(hours=1))
    async with api.http.post("/jobs/greet", json=greeting(run_at=due)) as response:
        assert (await response.json())["status"] == "scheduled"


async def test_a_kind_that_takes_anything_may_do_without(api: Served) -> None:
    for sent, got in (({}, None), ({"payload": [1, "é"]}, [1, "é"])):
        async with api.http.post("/jobs/shout", json=sent) as response:
            assert response.status == 202
        assert json.loads((await api.claim("io")).payload) == got


async def test_optimize_by_either_route_is_the_same_job(api: Served) -> None:
    asked = {"problem": {"format": "mps", "content": MODEL.decode()}, "options": {"seed": 7}}
    headers = {"Idempotency-Key": "one"}
    async with api.http.post("/jobs/optimize", json={"payload": asked}, headers=headers) as first:
        assert first.status == 202
        run_id = (await first.json())["run_id"]
    async with api.http.post("/optimize", json=asked, headers=headers) as second:
        assert second.status == 200
        assert (await second.json())["run_id"] == run_id


@pytest.mark.parametrize(
    ("kind", "sent", "field"),
    [
        ("greet", {}, "payload"),
        ("greet", {"payload": {}}, "payload.name"),
        ("greet", {"payload": {"name": "x", "nam": 1}}, "payload.nam"),
        ("greet", {"payload": {"name": 1}}, "payload.name"),
        ("greet", {"payload": []}, "payload"),
        ("greet", [], "body"),
        ("greet", greeting(bogus=1), "bogus"),
        ("greet", greeting(priority="urgent"), "priority"),
        ("greet", greeting(run_at="tomorrow"), "run_at"),
        ("greet", greeting(timeout_s=0), "timeout_s"),
        ("add", {"payload": {"terms": [1, "2"]}}, "payload.terms[1]"),
        ("weather", {"payload": {}}, "payload.city"),
        (
            "optimize",
            {"payload": {"problem": {"format": "picture"}}},
            "payload.problem.format",
        ),
    ],
)
async def test_what_is_wrong_is_named(api: Served, kind: str, sent: Any, field: str) -> None:
    async with api.http.post(f"/jobs/{kind}", json=sent) as response:
        assert response.status == 422, await response.text()
        assert (await problem(response))["field"] == field
    assert await stored(api) == []


async def test_a_bad_model_is_named_by_its_line(api: Served) -> None:
    broken = MODEL.replace(b"3.0\nENDATA", b"NaN\nENDATA").decode()
    sent = {"payload": {"problem": {"format": "mps", "content": broken}}}
    async with api.http.post("/jobs/optimize", json=sent) as response:
        assert response.status == 422
        assert (await problem(response))["line"] == 11


@pytest.mark.parametrize("path", ["/jobs/nonesuch", "/jobs/nonesuch:batch", "/jobs/greet:bath"])
async def test_an_unknown_kind_is_told_those_that_there_are(api: Served, path: str) -> None:
    async with api.http.post(path, json=greeting()) as response:
        assert response.status == 404
        told = await problem(response)
    assert {"greet", "optimize", "shout"} <= set(told["kinds"])


async def test_other_bodies_and_queries_are_refused(api: Served) -> None:
    async with api.http.post("/jobs/greet", data=b"x", headers=NDJSON) as response:
        assert response.status == 415
    async with api.http.post("/jobs/greet?priority=high", json=greeting()) as response:
        assert (await problem(response))["field"] == "priority"
    async with api.http.post("/jobs/greet", data=b'{"payload":') as response:
        assert response.status == 415  # aiohttp calls bytes application/octet-stream
    headers = {"Content-Type": "application/json"}
    async with api.http.post("/jobs/greet", data=b'{"payload":', headers=headers) as response:
        assert response.status == 400
        await problem(response)


async def test_an_idempotency_key_gives_the_first_job_back(api: Served) -> None:
    headers = {"Idempotency-Key": "order 17"}
    async with api.http.post("/jobs/greet", json=greeting(), headers=headers) as response:
        first = await response.json()
        assert response.status == 202
    async with api.http.post("/jobs/greet", json=greeting(), headers=headers) as response:
        assert (response.status, await response.json()) == (200, first)
    async with api.http.post("/jobs/greet", json=greeting("Bob"), headers=headers) as response:
        assert (await problem(response))["type"] == "/problems/idempotency-key-reused"
        assert response.status == 422


async def test_a_unique_key_gives_the_live_job_back(api: Served) -> None:
    sent = greeting(unique="Ada's")
    async with api.http.post("/jobs/greet", json=sent) as response:
        first = await response.json()
        assert response.status == 202
    for body in (sent, greeting("Bob", unique="Ada's")):
        async with api.http.post("/jobs/greet", json=body) as response:
            assert (response.status, await response.json()) == (200, first)
    await api.finish(await api.claim("io"), JobState.COMPLETED, result=b"1")
    async with api.http.post("/jobs/greet", json=sent) as response:
        assert response.status == 202
    async with api.http.post("/jobs/greet", json=greeting(unique="")) as response:
        assert (await problem(response))["field"] == "unique"


async def test_a_kind_may_say_what_makes_its_jobs_unique(api: Served) -> None:
    answers = []
    for payload in ({"city": "Bonn"}, {"city": "Bonn"}, {"city": "Ulm"}):
        async with api.http.post("/jobs/weather", json={"payload": payload}) as response:
            answers.append((response.status, (await response.json())["run_id"]))
    assert [status for status, _ in answers] == [202, 200, 202]
    assert answers[0][1] == answers[1][1]


@pytest.mark.parametrize(
    ("error", "name"),
    [
        (BridgeUp("maintenance is on"), "bridge-up"),
        (StoreUnavailable("redis", "timeout"), "dependency-unavailable"),
    ],
)
async def test_the_bridge_and_a_redis_that_is_away(
    api: Served, monkeypatch, error: Exception, name: str
) -> None:
    async def refused(_new: NewJob) -> Accepted:
        raise error

    async def all_refused(many: Sequence[NewJob], **_: object) -> list[Accepted | Exception]:
        return [error for _ in many]

    monkeypatch.setattr(api.jobs, "create_job", refused)
    monkeypatch.setattr(api.jobs, "create_jobs", all_refused)
    for path, sent in (("/jobs/greet", greeting()), ("/jobs/greet:batch", [greeting()])):
        async with api.http.post(path, json=sent) as response:
            assert response.status == 503
            assert "Retry-After" in response.headers
            assert (await problem(response))["type"] == f"/problems/{name}"


async def test_a_raised_bridge_holds_both_routes_up(stores, redis, database_url) -> None:
    config = await with_database(stores.config, database_url)
    async with served(config) as api:
        await api.put_flag()
        for path in ("/jobs/optimize", "/jobs/optimize:batch", "/jobs/nonesuch"):
            async with api.http.post(path, json={}) as response:
                assert (response.status, response.headers["Cache-Control"]) == (503, "no-store")
                assert (await problem(response))["type"] == "/problems/bridge-up"


# Batches -----------------------------------------------------------------------------------


async def batch(
    api: Served, sent: list[Any], key: str | None = None, status: int = 202
) -> dict[str, Any]:
    headers = {"Idempotency-Key": key} if key else {}
    async with api.http.post("/jobs/greet:batch", json=sent, headers=headers) as response:
        document: dict[str, Any] = await response.json(content_type=None)
        assert response.status == status, document
        return document


@pytest.mark.parametrize("packed", [False, True])
async def test_a_thousand_at_once_in_their_order(api: Served, packed: bool) -> None:
    lines = b"\n".join(msgspec.json.encode(greeting(str(n))) for n in range(MOST_AT_ONCE))
    headers = {**NDJSON, "X-Request-ID": "parent-1"}
    if packed:
        lines, headers["Content-Encoding"] = gzip.compress(lines), "gzip"
    async with api.http.post("/jobs/greet:batch", data=lines, headers=headers) as response:
        assert response.status == 202
        receipts = (await response.json())["jobs"]
    assert len({each["run_id"] for each in receipts}) == MOST_AT_ONCE
    await api.jobs.heartbeat("w", [], join=True)
    names: dict[str, str] = {}
    while claims := await api.jobs.claim("w", "io", 128):
        names |= {claim.run_id: json.loads(claim.payload)["name"] for claim in claims}
    assert [names[each["run_id"]] for each in receipts] == [str(n) for n in range(MOST_AT_ONCE)]
    assert {each["correlation_id"] for each in receipts} == {"parent-1"}


async def test_terms_are_each_jobs_own(api: Served) -> None:
    due = iso(datetime.now(UTC) + timedelta(hours=1))
    told = await batch(api, [greeting(priority="low"), greeting(run_at=due)])
    assert [each["status"] for each in told["jobs"]] == ["queued", "scheduled"]
    assert (await api.claim("io")).spec.priority == "low"


@pytest.mark.parametrize(
    ("wrong", "members"),
    [
        ({"payload": {"name": 7}}, {"index": 2, "field": "payload.name"}),
        (greeting(priority="urgent"), {"index": 2, "field": "priority"}),
        ("x", {"index": 2, "field": "body"}),
    ],
)
async def test_one_that_is_wrong_stops_them_all(api: Served, wrong: Any, members: dict) -> None:
    told = await batch(api, [greeting(), greeting(), wrong, greeting()], status=422)
    assert {name: told[name] for name in members} == members
    assert told["detail"].startswith("Job 2 of the batch: ")
    assert await stored(api) == []


async def test_a_line_that_is_no_json(api: Served) -> None:
    lines = json.dumps(greeting()).encode() + b"\r\n\n{oops\n"
    async with api.http.post("/jobs/greet:batch", data=lines, headers=NDJSON) as response:
        assert response.status == 400
        assert (await problem(response))["index"] == 1
    assert await stored(api) == []


@pytest.mark.parametrize("count", [0, MOST_AT_ONCE + 1])
async def test_too_few_and_too_many(api: Served, count: int) -> None:
    told = await batch(api, [greeting()] * count, status=422)
    assert f"1 to {MOST_AT_ONCE} jobs" in told["detail"]
    assert await stored(api) == []


async def test_an_array_is_needed_and_a_body_has_its_limit(api: Served) -> None:
    async with api.http.post("/jobs/greet:batch", json=greeting()) as response:
        assert response.status == 422
    headers = {**NDJSON, "Content-Length": str(33 << 20)}
    async with api.http.post(
        "/jobs/greet:batch", data=b"", headers=headers, expect100=True
    ) as response:
        assert response.status == 413


async def test_a_key_covers_the_whole_batch(api: Served) -> None:
    sent = [greeting("a"), greeting("b")]
    first = await batch(api, sent, key="k")
    again = await batch(api, sent, key="k", status=200)
    assert again == first
    for other in ([greeting("a"), greeting("c")], [greeting("a")], [*sent, greeting("c")]):
        told = await batch(api, other, key="k", status=422)
        assert told["type"] == "/problems/idempotency-key-reused"
    assert await stored(api) == sorted(each["run_id"] for each in first["jobs"])
    async with api.http.post(
        "/jobs/greet", json=greeting("a"), headers={"Idempotency-Key": "k"}
    ) as response:
        assert response.status == 202  # one job and a batch do not share keys


async def test_a_batch_that_stops_halfway_says_so_and_may_be_sent_again(
    api: Served, monkeypatch
) -> None:
    create = api.jobs.create_jobs
    sent = [greeting(name) for name in "abcd"]

    async def faulty(many: Sequence[NewJob], **_: object) -> list[Accepted | Exception]:
        away = StoreUnavailable("redis", "connection failed")
        named = {json.loads(new.payload)["name"]: new for new in many}
        ends = await create([new for name, new in named.items() if name != "b"])
        told = dict(zip((name for name in named if name != "b"), ends, strict=True))
        told["c"] = away  # it was accepted, and the answer was lost
        return [told.get(name, away) for name in named]

    monkeypatch.setattr(api.jobs, "create_jobs", faulty)
    told = await batch(api, sent, key="k", status=503)
    assert told["dependency"] == "redis"
    assert [each["index"] for each in told["accepted"]] == [0, 3]
    assert [each["index"] for each in told["unknown"]] == [1, 2]
    before = await stored(api)
    assert {each["run_id"] for each in told["accepted"]} < set(before)
    assert told["unknown"][1]["run_id"] in before
    monkeypatch.setattr(api.jobs, "create_jobs", create)
    done = await batch(api, sent, key="k")
    assert [done["jobs"][at]["run_id"] for at in (0, 3)] == [
        each["run_id"] for each in told["accepted"]
    ]
    assert len(await stored(api)) == 4
    assert set(before) < set(await stored(api))


async def test_a_bridge_that_is_raised_halfway(api: Served, monkeypatch) -> None:
    create = api.jobs.create_jobs

    async def closing(many: Sequence[NewJob], **_: object) -> list[Accepted | Exception]:
        return [*await create(many[:1]), BridgeUp("maintenance is on")]

    monkeypatch.setattr(api.jobs, "create_jobs", closing)
    told = await batch(api, [greeting("a"), greeting("b")], status=503)
    assert told["type"] == "/problems/bridge-up"
    assert [each["index"] for each in told["accepted"]] == [0]
    assert told["unknown"] == []


@timed
async def test_a_frozen_redis_is_told_in_time(api: Served, stores) -> None:
    await batch(api, [greeting()])
    stores.freeze("redis")
    try:
        async with asyncio.timeout(5):
            told = await batch(api, [greeting("a"), greeting("b")], status=503)
    finally:
        stores.thaw("redis")
    assert told["dependency"] == "redis"
    assert [each["index"] for each in told["unknown"]] == [0, 1]


# The description ---------------------------------------------------------------------------


async def test_each_kind_is_described_with_its_payload(api: Served) -> None:
    async with api.http.get("/openapi.json") as response:
        document = msgspec.json.decode(await response.read())
    paths, schemas = document["paths"], document["components"]["schemas"]
    assert not [path for path in paths if "{kind}" in path]
    body = paths["/jobs/greet"]["post"]["requestBody"]["content"]["application/json"]["schema"]
    described = schemas[body["$ref"].rpartition("/")[2]]
    assert described["properties"].keys() >= {"payload", "priority", "run_at", "timeout_s"}
    assert described["required"] == ["payload"]
    payload = described["properties"]["payload"]["$ref"].rpartition("/")[2]
    assert schemas[payload]["properties"].keys() == {"name", "times"}
    many = paths["/jobs/greet:batch"]["post"]["requestBody"]["content"]
    assert many["application/json"]["schema"]["items"] == body
    assert many["application/json"]["schema"]["maxItems"] == MOST_AT_ONCE
    assert "application/x-ndjson" in many
    operations = [each["operationId"] for path in paths.values() for each in path.values()]
    assert len(set(operations)) == len(operations)
    assert {"/jobs/optimize", "/jobs/optimize:batch"} <= paths.keys()


async def test_jobs_of_own_kinds_are_read_like_all_others(api: Served) -> None:
    async with api.http.post("/jobs/greet", json=greeting()) as response:
        links = (await response.json())["links"]
    await api.finish(await api.claim("io"), JobState.COMPLETED, result=b'{"hello":"Ada"}')
    async with api.http.get(links["result"]) as response:
        assert (await response.json())["hello"] == "Ada"
    async with api.http.get("/jobs") as response:
        assert [job["kind"] for job in (await response.json())["jobs"]] == ["greet"]
