"""What one caller may do: requests, made-up tokens, pages of other sites, the audit."""

from collections.abc import AsyncIterator
from dataclasses import replace
from typing import Any

import pytest
from redis.asyncio import Redis

from control.clock import SystemClock
from control.config import Config
from control.entrance_settings import EntranceSection
from control.principals import ApiKeys, Role
from control.stores.postgres import Database
from service.limits import ATTEMPTS_A_MINUTE
from tests.conftest import LiveStores
from tests.serving import Served, problem, served, with_database

TOKEN = "an-admin-token-of-the-test"
ADMIN = {"Authorization": f"Bearer {TOKEN}"}


def limited(config: Config, rate: str) -> Config:
    return replace(config, entrance=EntranceSection(rate_limit=rate))


@pytest.fixture
async def api(stores: LiveStores, redis: Redis) -> AsyncIterator[Served]:
    async with served(stores.config, admin_token=TOKEN) as running:
        yield running


async def test_only_so_many_requests_for_each_principal(stores: LiveStores, redis: Redis) -> None:
    config = limited(stores.config, "3/h")
    async with (
        served(config, admin_token=TOKEN) as one,
        served(config, admin_token=TOKEN) as other,
    ):
        for api, left in ((one, 2), (other, 1), (one, 0)):
            async with api.http.get("/jobs", headers=ADMIN) as response:
                assert response.status == 200
                assert response.headers["RateLimit-Policy"] == '"requests";q=3;w=3600'
                assert response.headers["RateLimit"].startswith(f'"requests";r={left};t=')
        async with other.http.get("/jobs", headers=ADMIN) as response:
            assert response.status == 429
            told = await problem(response)
            assert told["type"] == "/problems/too-often"
            assert 1_100 < int(response.headers["Retry-After"]) == told["retry_after_s"] <= 1_200
            assert response.headers["RateLimit"].startswith('"requests";r=0;')
        # Each for himself; what steers the fleet counts apart, and probes do not count.
        for path, headers in (("/jobs", {}), *[("/health", {}), ("/ready", {})] * 5):
            async with one.http.get(path, headers=headers) as response:
                assert response.status != 429
        async with one.http.post("/control/bypass", headers=ADMIN) as response:
            assert response.status == 409  # no secret to sign with


async def asked_from(api: Served, address: str) -> int:
    async with api.http.get("/jobs", headers={"X-Forwarded-For": address}) as response:
        return response.status


async def test_an_address_is_believed_of_our_own_proxies_alone(
    stores: LiveStores, redis: Redis
) -> None:
    config = limited(stores.config, "1/h")
    async with served(config) as api:
        assert [await asked_from(api, f"192.0.2.{n}") for n in (1, 2)] == [200, 429]
    await redis.delete(*[key async for key in redis.scan_iter("drawbridge:rate:*")])
    async with served(config, proxies=("127.0.0.0/8",)) as api:
        assert [await asked_from(api, f"192.0.2.{n}") for n in (1, 2)] == [200, 200]
        assert await asked_from(api, "198.51.100.9, 192.0.2.1") == 429, (
            "a client may forge the first"
        )


async def test_made_up_tokens_do_not_keep_the_database_busy(
    stores: LiveStores, redis: Redis, database_url: str, monkeypatch: Any
) -> None:
    looked_up: list[bytes] = []
    find = ApiKeys.find

    async def counted(self: ApiKeys, digest: bytes) -> Any:
        looked_up.append(digest)
        return await find(self, digest)

    monkeypatch.setattr(ApiKeys, "find", counted)
    config = await with_database(stores.config, database_url)
    async with served(limited(config, "4/h"), admin_token=TOKEN) as api:
        statuses = []
        for n in range(12):
            made_up = {"Authorization": f"Bearer dbk_{n:043}"}
            async with api.http.get("/jobs", headers=made_up) as response:
                statuses.append(response.status)
        assert statuses == [401] * 4 + [429] * 8
        assert len(looked_up) == 4
        async with api.http.get("/jobs", headers=ADMIN) as response:
            assert response.status == 200, "the same address, with a good token"


async def test_without_a_limit_nothing_is_counted(api: Served, redis: Redis) -> None:
    async with api.http.get("/jobs") as response:
        assert "RateLimit" not in response.headers
    assert [key async for key in redis.scan_iter("drawbridge:rate:*")] == []


@pytest.mark.parametrize("site", ["cross-site", "same-site"])
async def test_a_page_of_another_site_changes_nothing(api: Served, site: str) -> None:
    run_id = await api.put()
    sent = {"Sec-Fetch-Site": site, "Origin": "https://evil.example"}
    for method, path in (("DELETE", f"/jobs/{run_id}"), ("POST", f"/jobs/{run_id}/rerun")):
        async with api.http.request(method, path, headers=sent) as response:
            assert response.status == 403
            await problem(response)
    async with api.http.options(
        "/jobs", headers={**sent, "Access-Control-Request-Method": "POST"}
    ) as response:
        assert response.status == 405
        assert not [name for name in response.headers if name.lower().startswith("access-control")]
    for own in ({**sent, **ADMIN}, {"Sec-Fetch-Site": "same-origin"}):
        async with api.http.delete(f"/jobs/{await api.put()}", headers=own) as response:
            assert response.status == 202
            assert "Set-Cookie" not in response.headers


async def test_who_may_not_cannot_flood_the_audit(
    stores: LiveStores, redis: Redis, database_url: str
) -> None:
    config = await with_database(stores.config, database_url)
    async with served(config, admin_token=TOKEN) as api, Database(config.postgres) as database:
        _, key = await ApiKeys(database, SystemClock()).create("nosy", Role.VIEWER)
        for n in range(3 * ATTEMPTS_A_MINUTE):
            nosy = {"Authorization": f"Bearer {key}"}
            async with api.http.post(f"/control/flags/f{n}/toggle", headers=nosy) as response:
                assert response.status == 403
        rows = await database.fetch("SELECT 1 FROM drawbridge.audit WHERE actor = 'nosy'")
    assert len(rows) == ATTEMPTS_A_MINUTE
