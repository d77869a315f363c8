"""Reading, listing and cancelling jobs, whose transitions are made by hand here."""

from collections.abc import AsyncIterator

import msgspec
import pytest

from control.ids import new_id
from service import results
from tests.serving import MODEL, MPS, Served, problem, served
from worker.jobs.job import JobError, JobState
from worker.jobs.manager import Progress

RESULT = {
    "outcome": "optimal",
    "objective": 9.0,
    "bound": 9.0,
    "gap": 0.0,
    "solution": {"x": 3.0, "y,1": 1.0, 'q"2': -0.5},
    "solver": "HiGHS",
    "solve_s": 0.01,
}
FAMILIES = pytest.mark.parametrize("family", ["/optimize", "/jobs"])


@pytest.fixture
async def api(stores, redis) -> AsyncIterator[Served]:
    async with served(stores.config) as running:
        yield running


async def solved(api: Served, result: object = RESULT) -> str:
    run_id = await api.put()
    claim = await api.claim()
    await api.finish(claim, JobState.COMPLETED, result=msgspec.json.encode(result))
    return run_id


@FAMILIES
@pytest.mark.parametrize("part", ["", "/status"])
async def test_a_record_shows_live_progress(api: Served, family: str, part: str) -> None:
    run_id = await api.put()
    claim = await api.claim()
    progress = {"phase": "branch and bound", "nodes": 17, "gap": 0.25}
    assert await api.jobs.report(Progress(run_id, claim.token, progress))
    async with api.http.get(f"{family}/{run_id}{part}") as response:
        record = await response.json()
    assert response.status == 200
    assert response.headers["Cache-Control"] == "no-store"
    assert record["status"] == "running"
    assert record["progress"] == progress
    assert record["links"]["result"] == f"{family}/{run_id}/result"
    assert record.keys() >= {"run_id", "kind", "correlation_id", "submitted_at", "started_at",
                             "finished_at", "attempt", "max_attempts", "priority", "run_at",
                             "timeout_s", "error", "worker", "drain_requeues"}  # fmt: skip


@FAMILIES
@pytest.mark.parametrize(
    "run_id", ["nonsense", "01m7y2n3t3y84vnnx6kmefgvxz", "01M7Y2N3T3Y84VNNX6KMEFGVXZ"]
)
@pytest.mark.parametrize("part", ["", "/status", "/result", "/events"])
async def test_an_unknown_or_malformed_id_is_404(
    api: Served, family: str, run_id: str, part: str
) -> None:
    async with api.http.get(f"{family}/{run_id}{part}") as response:
        assert response.status == 404
        await problem(response)


async def test_a_job_of_another_kind_is_no_optimisation(api: Served) -> None:
    run_id = await api.put("other")
    async with api.http.get(f"/optimize/{run_id}") as response:
        assert response.status == 404
    async with api.http.delete(f"/optimize/{run_id}") as response:
        assert response.status == 404
    async with api.http.get(f"/jobs/{run_id}") as response:
        assert response.status == 200
        assert (await response.json())["status"] == "queued"


async def test_a_result_carries_its_run_id(api: Served) -> None:
    run_id = await solved(api)
    async with api.http.get(f"/optimize/{run_id}/result") as response:
        assert response.content_type == "application/json"
        assert await response.json() == {"run_id": run_id, **RESULT}


@pytest.mark.parametrize(
    ("returned", "shown"),
    [
        ({}, {}), ([1, 2], {"result": [1, 2]}), (None, {"result": None}), ("a", {"result": "a"}),
        ({"run_id": "mine"}, {"result": {"run_id": "mine"}}),
        ({"of": {"run_id": "mine"}}, {"of": {"run_id": "mine"}}),
    ],
)  # fmt: skip
async def test_whatever_a_kind_returns_is_shown(api: Served, returned: object, shown: dict) -> None:
    run_id = await solved(api, returned)
    async with api.http.get(f"/jobs/{run_id}/result") as response:
        assert await response.json() == {"run_id": run_id, **shown}


@pytest.mark.parametrize("accept", ["text/csv", "text/*, application/json;q=0.5", "TEXT/CSV;q=1"])
async def test_a_result_as_csv(api: Served, accept: str) -> None:
    run_id = await solved(api)
    headers = {"Accept": accept}
    async with api.http.get(f"/optimize/{run_id}/result", headers=headers) as response:
        assert response.content_type == "text/csv"
        assert response.headers["Vary"] == "Accept"
        text = await response.text()
    assert text == 'column,value\r\nx,3.0\r\n"y,1",1.0\r\n"q""2",-0.5\r\n'


async def test_what_has_no_columns_is_not_given_as_csv(api: Served) -> None:
    run_id = await solved(api, {"rows": [1, 2, 3]})
    async with api.http.get(f"/jobs/{run_id}/result", headers={"Accept": "text/csv"}) as response:
        assert response.status == 406
        assert (await problem(response))["available"] == ["application/json"]


@pytest.mark.parametrize("accept", ["*/*", "application/*", "text/csv;q=0.5, */*", ""])
async def test_json_is_the_default(api: Served, accept: str) -> None:
    run_id = await solved(api)
    headers = {"Accept": accept}
    async with api.http.get(f"/optimize/{run_id}/result", headers=headers) as response:
        assert response.content_type == "application/json"


@pytest.mark.parametrize("accept", ["text/html", "application/json;q=0, text/csv;q=0"])
async def test_what_cannot_be_given_is_406(api: Served, accept: str) -> None:
    run_id = await solved(api)
    headers = {"Accept": accept}
    async with api.http.get(f"/optimize/{run_id}/result", headers=headers) as response:
        assert response.status == 406
        assert (await problem(response))["available"] == list(results.MEDIA)


async def test_no_picture_is_made_of_what_is_no_flow(api: Served) -> None:
    run_id = await solved(api)
    headers = {"Accept": "image/svg+xml"}
    async with api.http.get(f"/optimize/{run_id}/result", headers=headers) as response:
        assert response.status == 406
        assert (await problem(response))["available"] == ["application/json", "text/csv"]


async def test_a_result_that_is_not_there_is_409_with_the_status(api: Served) -> None:
    run_id = await api.put()
    for status in ("queued", "running"):
        async with api.http.get(f"/optimize/{run_id}/result") as response:
            assert response.status == 409
            assert (await problem(response))["job_status"] == status
        if status == "queued":
            claim = await api.claim()
    await api.finish(claim, JobState.FAILED, error=JobError("BadModel", "line 3: no such row"))
    async with api.http.get(f"/optimize/{run_id}/result") as response:
        assert response.status == 409
        told = await problem(response)
    assert told["job_status"] == "failed"
    assert "line 3: no such row" in told["detail"]


async def test_a_cancelled_job_may_have_left_its_incumbent(api: Served) -> None:
    run_id = await api.put()
    incumbent = {**RESULT, "outcome": "interrupted"}
    result = msgspec.json.encode(incumbent)
    await api.finish(await api.claim(), JobState.CANCELLED, result=result)
    async with api.http.get(f"/optimize/{run_id}/result") as response:
        assert (await response.json())["outcome"] == "interrupted"


@FAMILIES
async def test_cancel(api: Served, family: str) -> None:
    run_id = await api.put()
    async with api.http.delete(f"{family}/{run_id}") as response:
        assert response.status == 202
        assert (await response.json())["status"] == "cancelled"
    async with api.http.delete(f"{family}/{run_id}") as response:
        assert response.status == 409
        assert (await problem(response))["job_status"] == "cancelled"
    async with api.http.get(f"{family}/{run_id}/result") as response:
        assert response.status == 409
        assert "The job was cancelled without a result" in (await problem(response))["detail"]
    async with api.http.delete(f"{family}/{new_id()}") as response:
        assert response.status == 404


async def test_cancelling_a_running_job_is_accepted(api: Served) -> None:
    run_id = await api.put()
    await api.claim()
    async with api.http.delete(f"/optimize/{run_id}") as response:
        assert response.status == 202
        assert (await response.json())["status"] == "running"


async def test_the_list_goes_page_by_page_newest_first(api: Served) -> None:
    made = [await api.put() for _ in range(5)]
    other = await api.put("other")
    seen, cursor = [], ""
    while cursor is not None:
        query = {"limit": "2"} | ({"cursor": cursor} if cursor else {})
        async with api.http.get("/optimize", params=query) as response:
            page = await response.json()
        assert len(page["jobs"]) <= 2
        seen += [job["run_id"] for job in page["jobs"]]
        cursor = page["cursor"]
    assert seen == sorted(made, reverse=True)
    async with api.http.get("/jobs") as response:
        everything = [job["run_id"] for job in (await response.json())["jobs"]]
    assert set(everything) == {*made, other}


async def test_the_list_by_status(api: Served) -> None:
    done = await solved(api)
    waiting = await api.put()
    for status, expected in (("completed", [done]), ("queued", [waiting]), ("failed", [])):
        async with api.http.get(f"/optimize?status={status}") as response:
            assert [job["run_id"] for job in (await response.json())["jobs"]] == expected


@pytest.mark.parametrize(
    ("query", "field"),
    [
        ("limit=0", "limit"),
        ("limit=201", "limit"),
        ("limit=x", "limit"),
        ("status=done", "status"),
        ("cursor=zz", "cursor"),
        ("page=2", "page"),
    ],
)
async def test_a_bad_list_query_names_its_parameter(api: Served, query: str, field: str) -> None:
    async with api.http.get(f"/optimize?{query}") as response:
        assert response.status == 422
        assert (await problem(response))["field"] == field


async def test_who_may_cancel_and_rerun(stores, redis) -> None:
    admin = {"Authorization": "Bearer the-admin-token"}
    async with served(stores.config, admin_token="the-admin-token") as api:
        async with api.http.post("/optimize", data=MODEL, headers={**MPS, **admin}) as response:
            run_id = (await response.json())["run_id"]
        async with api.http.delete(f"/optimize/{run_id}") as response:
            assert response.status == 403
            await problem(response)
        async with api.http.post(f"/optimize/{run_id}/rerun") as response:
            assert response.status == 403
        async with api.http.delete(f"/optimize/{run_id}", headers=admin) as response:
            assert response.status == 202
            assert (await response.json())["submitted_by"] == "admin-token"


async def dead(api: Served, kind: str = "optimize") -> str:
    run_id = await api.put(kind, max_attempts=1)
    await api.finish(await api.claim(), JobState.FAILED, error=JobError("E", "m"))
    return run_id


@FAMILIES
async def test_a_failed_job_is_run_again(api: Served, family: str) -> None:
    run_id = await dead(api)
    async with api.http.get(f"{family}?status=failed") as response:
        assert [job["run_id"] for job in (await response.json())["jobs"]] == [run_id]
    async with api.http.post(f"{family}/{run_id}/rerun") as response:
        assert response.status == 202
        record = await response.json()
    assert (record["run_id"], record["status"], record["attempt"]) == (run_id, "queued", 0)
    async with api.http.post(f"{family}/{run_id}/rerun") as response:
        assert response.status == 409
        told = await problem(response)
    assert (told["type"], told["job_status"]) == ("/problems/not-failed", "queued")
    async with api.http.post(f"{family}/{new_id()}/rerun") as response:
        assert response.status == 404


async def test_a_failed_job_whose_unique_key_is_taken(api: Served) -> None:
    run_id = await api.put(unique="u")
    await api.finish(await api.claim(), JobState.FAILED, error=JobError("E", "m"))
    holder = await api.put(unique="u")
    async with api.http.post(f"/jobs/{run_id}/rerun") as response:
        assert response.status == 409
        told = await problem(response)
    assert (told["type"], told["run_id"]) == ("/problems/unique-key-taken", holder)


async def test_the_list_of_what_a_job_submitted(api: Served) -> None:
    parent = await api.put()
    child = await api.put("other", parent=parent)
    async with api.http.get(f"/jobs?parent={parent}") as response:
        [job] = (await response.json())["jobs"]
    assert (job["run_id"], job["parent"]) == (child, parent)
    async with api.http.get("/jobs?parent=x") as response:
        assert (await problem(response))["field"] == "parent"


async def test_the_list_of_one_kind(api: Served) -> None:
    await api.put()
    other = await api.put("other")
    async with api.http.get("/jobs?kind=other") as response:
        assert [job["run_id"] for job in (await response.json())["jobs"]] == [other]
    async with api.http.get("/optimize?kind=other") as response:
        assert (await problem(response))["field"] == "kind"
