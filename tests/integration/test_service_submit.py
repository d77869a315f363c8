"""POST /optimize: what is accepted, how it is stored, and what is refused with which words."""

import gzip
import json
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta

import msgspec
import pytest

from control.clock import iso
from service.handlers.optimize import ModelQuery
from service.submission import Terms
from tests.serving import MODEL, MPS, Served, problem, served
from worker.optimize.problem import Options


@pytest.fixture
async def api(stores, redis) -> AsyncIterator[Served]:
    async with served(stores.config) as running:
        yield running


def document(**more: object) -> dict[str, object]:
    return {"problem": {"format": "mps", "content": MODEL.decode()}, **more}


async def test_a_raw_model_is_accepted_with_its_options(api: Served) -> None:
    query = {"time_limit_s": "5", "threads": "2", "priority": "9", "timeout_s": "60.5"}
    async with api.http.post("/optimize", data=MODEL, headers=MPS, params=query) as response:
        receipt = await response.json()
        assert response.status == 202
        assert response.headers["Location"] == f"/optimize/{receipt['run_id']}"
    assert receipt.keys() == {"run_id", "status", "correlation_id", "submitted_at", "links"}
    at = f"/optimize/{receipt['run_id']}"
    assert receipt["status"] == "queued"
    assert receipt["links"] == {
        "status": f"{at}/status",
        "result": f"{at}/result",
        "events": f"{at}/events",
        "cancel": at,
    }
    claim = await api.claim()
    assert claim.run_id == receipt["run_id"]
    assert claim.spec.priority == "high"
    assert claim.spec.timeout_s == 60.5
    payload = json.loads(claim.payload)
    assert payload["problem"] == {"format": "mps", "content": MODEL.decode()}
    assert payload["options"]["time_limit_s"] == 5
    assert payload["options"]["threads"] == 2


async def test_the_receipt_says_queued_however_quick_a_worker_is(api: Served, monkeypatch) -> None:
    create = api.jobs.create_job

    async def create_and_claim(new):
        accepted = await create(new)
        await api.claim()
        return accepted

    monkeypatch.setattr(api.jobs, "create_job", create_and_claim)
    async with api.http.post("/optimize", data=MODEL, headers=MPS) as response:
        assert (await response.json())["status"] == "queued"


async def test_json_and_raw_give_the_worker_the_same_payload(api: Served) -> None:
    async with api.http.post("/optimize", json=document(options={"seed": 7})) as response:
        assert response.status == 202
    async with api.http.post("/optimize?seed=7", data=MODEL, headers=MPS) as response:
        assert response.status == 202
    first, second = await api.claim(), await api.claim()
    assert first.payload == second.payload


@pytest.mark.parametrize("encoding", ["gzip", "x-gzip", "GZIP"])
async def test_a_gzipped_model_is_unpacked(api: Served, encoding: str) -> None:
    headers = {**MPS, "Content-Encoding": encoding}
    packed = gzip.compress(MODEL[:100]) + gzip.compress(MODEL[100:])
    async with api.http.post("/optimize", data=packed, headers=headers) as response:
        assert response.status == 202, await response.text()
    assert json.loads((await api.claim()).payload)["problem"]["content"] == MODEL.decode()


async def test_ids_travel_with_the_job(api: Served) -> None:
    trace = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"
    headers = {**MPS, "X-Correlation-ID": "order-17", "traceparent": trace}
    async with api.http.post("/optimize", data=MODEL, headers=headers) as response:
        assert response.headers["X-Request-ID"] == "order-17"
        assert (await response.json())["correlation_id"] == "order-17"
    spec = (await api.claim()).spec
    assert (spec.correlation_id, spec.traceparent) == ("order-17", trace)


async def test_a_malformed_traceparent_is_ignored(api: Served) -> None:
    headers = {**MPS, "traceparent": f"00-{'0' * 32}-00f067aa0ba902b7-01"}
    async with api.http.post("/optimize", data=MODEL, headers=headers) as response:
        assert response.status == 202
    assert (await api.claim()).spec.traceparent is None


async def test_a_later_run_is_scheduled(api: Served) -> None:
    due = datetime.now(UTC) + timedelta(hours=1)
    async with api.http.post("/optimize", json=document(run_at=iso(due))) as response:
        receipt = await response.json()
    assert (response.status, receipt["status"]) == (202, "scheduled")
    async with api.http.get(receipt["links"]["status"]) as response:
        assert (await response.json())["run_at"].startswith(iso(due)[:19])


async def test_an_idempotency_key_gives_the_first_job_back(api: Served) -> None:
    headers = {**MPS, "Idempotency-Key": "order 17"}
    async with api.http.post("/optimize", data=MODEL, headers=headers) as response:
        first = await response.json()
        assert response.status == 202
    async with api.http.post("/optimize", data=MODEL, headers=headers) as response:
        assert response.status == 200
        assert await response.json() == first
    other = {"data": MODEL + b"\n", "headers": headers}
    async with api.http.post("/optimize", **other) as response:
        assert response.status == 422
        assert (await problem(response))["type"] == "/problems/idempotency-key-reused"
    async with api.http.post("/optimize?seed=1", data=MODEL, headers=headers) as response:
        assert response.status == 422


@pytest.mark.parametrize("key", ["", "k" * 256])
async def test_a_bad_idempotency_key_is_named(api: Served, key: str) -> None:
    headers = {**MPS, "Idempotency-Key": key}
    async with api.http.post("/optimize", data=MODEL, headers=headers) as response:
        assert response.status == 422
        assert (await problem(response))["field"] == "Idempotency-Key"


@pytest.mark.parametrize(
    ("more", "field"),
    [
        ({"bogus": 1}, "bogus"),
        ({"options": {"bogus": 1}}, "options.bogus"),
        ({"options": {"threads": "two"}}, "options.threads"),
        ({"options": {"time_limit_s": 0}}, "options.time_limit_s"),
        ({"priority": "urgent"}, "priority"),
        ({"priority": 10}, "priority"),
        ({"run_at": "2026-11-21T03:04:05"}, "run_at"),
        ({"run_at": "tomorrow"}, "run_at"),
        ({"timeout_s": 0}, "timeout_s"),
        ({"max_attempts": 0}, "max_attempts"),
        ({"max_attempts": 101}, "max_attempts"),
        ({"callback_url": "https://example.org/"}, "callback_url"),
        ({"problem": {"format": "xml", "content": ""}}, "problem.format"),
        ({"problem": {"format": "mps"}}, "problem.content"),
        ({"problem": {"format": "lp", "content": ""}}, "problem.content"),
        ({"problem": {"format": "mps", "content": " \n"}}, "problem.content"),
        ({"problem": {"format": "mps", "content": "x", "extra": 1}}, "problem.extra"),
    ],
)
async def test_what_is_wrong_in_json_is_named(api: Served, more: dict, field: str) -> None:
    async with api.http.post("/optimize", json={**document(), **more}) as response:
        assert response.status == 422, await response.text()
        assert (await problem(response))["field"] == field


async def test_a_missing_problem_is_named(api: Served) -> None:
    async with api.http.post("/optimize", json={}) as response:
        assert response.status == 422
        assert (await problem(response))["field"] == "problem"


@pytest.mark.parametrize(
    ("query", "field"),
    [
        ("bogus=1", "bogus"),
        ("time_limit_s=nan", "time_limit_s"),
        ("time_limit_s=-1", "time_limit_s"),
        ("timeout_s=nan", "timeout_s"),
        ("timeout_s=inf", "timeout_s"),
        ("mip_rel_gap=inf", "mip_rel_gap"),
        ("threads=two", "threads"),
        ("seed=1&seed=2", "seed"),
        ("priority=10", "priority"),
        ("priority=010", "priority"),
        ("priority=00", "priority"),
        ("priority=%D9%A3", "priority"),  # an Arabic three
        ("priority=99999999999999999999", "priority"),
        ("run_at=1700000000", "run_at"),
        ("callback_url=https://example.org/", "callback_url"),
    ],
)
async def test_what_is_wrong_in_the_query_is_named(api: Served, query: str, field: str) -> None:
    async with api.http.post(f"/optimize?{query}", data=MODEL, headers=MPS) as response:
        assert response.status == 422, await response.text()
        assert (await problem(response))["field"] == field


async def test_the_query_knows_every_option_of_the_solver() -> None:
    options = {field.name for field in msgspec.structs.fields(Options)}
    query = {field.name for field in msgspec.structs.fields(ModelQuery)}
    assert query - {field.name for field in msgspec.structs.fields(Terms)} == options


async def test_a_model_that_cannot_be_is_refused_with_its_line(api: Served) -> None:
    broken = MODEL.replace(b"UP bnd       x         3.0", b"UP bnd       x         NaN")
    async with api.http.post("/optimize", data=broken, headers=MPS) as response:
        assert response.status == 422, await response.text()
        assert (await problem(response))["line"] == 11


async def test_a_row_that_a_model_does_not_have_is_named(api: Served) -> None:
    broken = MODEL.replace(b"UP bnd       x ", b"UP bnd       X ")
    async with api.http.post("/optimize", data=broken, headers=MPS) as response:
        assert response.status == 422, await response.text()
        told = await problem(response)
    assert told["line"] == 11
    assert "there is no column 'X'" in told["detail"]


async def test_a_blank_model_is_refused_as_the_body(api: Served) -> None:
    async with api.http.post("/optimize", data=b" \n", headers=MPS) as response:
        assert response.status == 422, await response.text()
        assert (await problem(response))["field"] == "body"


@pytest.mark.parametrize("packed", [False, True])
async def test_the_mark_of_utf8_is_ignored(api: Served, packed: bool) -> None:
    marked = b"\xef\xbb\xbf" + MODEL
    data = gzip.compress(marked) if packed else marked
    headers = {**MPS, "Content-Encoding": "gzip"} if packed else MPS
    async with api.http.post("/optimize", data=data, headers=headers) as response:
        assert response.status == 202, await response.text()


async def test_a_truncated_model_is_refused(api: Served) -> None:
    async with api.http.post("/optimize", data=MODEL[:150], headers=MPS) as response:
        assert response.status == 422, await response.text()
        await problem(response)


async def test_nothing_that_was_refused_is_stored(api: Served, redis) -> None:
    async with api.http.post("/optimize?bogus=1", data=MODEL, headers=MPS) as response:
        assert response.status == 422
    assert [key async for key in redis.scan_iter(match="*:job:*")] == []
