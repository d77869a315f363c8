"""Redis, PostgreSQL and the graph away: who notices, how fast, and what goes on."""

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest

from tests.serving import MODEL, MPS, Served, problem, served
from tests.stack import wait_for
from tests.timing import timed

LIMIT_S = 3.0 + 1.0
"""What the contract allows, and something for two busy cores."""


@pytest.fixture
async def api(stores, redis) -> AsyncIterator[Served]:
    async with served(stores.config) as running:
        yield running


@asynccontextmanager
async def frozen(stores, *names: str) -> AsyncIterator[None]:
    for name in names:
        stores.freeze(name)
    try:
        yield
    finally:
        for name in names:
            stores.thaw(name)


@asynccontextmanager
async def stopped(stores, *names: str) -> AsyncIterator[None]:
    for name in names:
        await stores.stop(name)
    try:
        yield
    finally:
        for name in names:
            await stores.restart(name)


async def refused(api: Served, method: str, path: str, **options: object) -> None:
    """The request is answered in time with 503 and the name of Redis."""
    began = time.monotonic()
    async with api.http.request(method, path, **options) as response:
        assert response.status == 503
        assert int(response.headers["Retry-After"]) > 0
        assert (await problem(response))["dependency"] == "redis"
    assert time.monotonic() - began < LIMIT_S


@pytest.mark.parametrize("away", [frozen, stopped])
@timed
async def test_without_redis_every_job_route_says_so_in_time(api: Served, stores, away) -> None:
    run_id = await api.put()
    async with away(stores, "redis"):
        await asyncio.gather(
            refused(api, "POST", "/optimize", data=MODEL, headers=MPS),
            refused(api, "GET", "/optimize"),
            refused(api, "GET", f"/optimize/{run_id}"),
            refused(api, "GET", f"/optimize/{run_id}/result"),
            refused(api, "GET", f"/optimize/{run_id}/events"),
            refused(api, "DELETE", f"/optimize/{run_id}"),
        )
        async with api.http.get("/health") as response:
            assert response.status == 200
    await wait_for(lambda: submitted(api), 202, LIMIT_S)


async def submitted(api: Served) -> int:
    async with api.http.post("/optimize", data=MODEL, headers=MPS) as response:
        return response.status


@pytest.mark.parametrize("away", [frozen, stopped])
@timed
async def test_jobs_need_redis_only(api: Served, stores, away) -> None:
    async with away(stores, "postgres", "graph"):
        async with api.http.post("/optimize", data=MODEL, headers=MPS) as response:
            assert response.status == 202
            links = (await response.json())["links"]
        for path in (links["status"], "/optimize", "/jobs"):
            async with api.http.get(path) as response:
                assert response.status == 200
        async with api.http.delete(links["cancel"]) as response:
            assert response.status == 202


@timed
async def test_a_key_that_cannot_be_looked_up_is_no_wrong_key(api: Served, stores) -> None:
    headers = {"Authorization": "Bearer dbk_" + "x" * 43}
    async with frozen(stores, "postgres"):
        began = time.monotonic()
        async with api.http.get("/jobs", headers=headers) as response:
            assert response.status == 503
            assert (await problem(response))["dependency"] == "database"
        assert time.monotonic() - began < LIMIT_S
