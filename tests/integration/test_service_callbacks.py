"""`callback_url` where a job is submitted."""

import json
from collections.abc import AsyncIterator
from dataclasses import replace
from typing import Any

import pytest

from control.delivery_settings import CallbacksSection
from tests.serving import MODEL, MPS, Served, problem, served
from tests.stack import clean_environment, drawbridge
from tests.webhooks import SECRET

URL = "http://127.1.2.3:9/told"


@pytest.fixture
async def api(stores, redis) -> AsyncIterator[Served]:
    jobs = replace(stores.config.jobs, modules=("tests.models.user_kinds",))
    callbacks = CallbacksSection(secrets=(SECRET,), networks=("127.1.0.0/16",))
    async with served(replace(stores.config, jobs=jobs, callbacks=callbacks)) as running:
        yield running


def greeting(**terms: object) -> dict[str, Any]:
    return {"payload": {"name": "Ada"}, **terms}


async def refused(api: Served, url: object, to: str = "/jobs/greet") -> dict[str, Any]:
    async with api.http.post(to, json=greeting(callback_url=url)) as response:
        assert response.status == 422
        return await problem(response)


async def test_every_way_to_submit_takes_one(api: Served) -> None:
    async with api.http.post("/jobs/greet", json=greeting(callback_url=URL)) as response:
        assert response.status == 202, await response.text()
    assert (await api.claim("io")).spec.callback_url == URL
    query = {"callback_url": URL}
    async with api.http.post("/optimize", params=query, data=MODEL, headers=MPS) as response:
        assert response.status == 202, await response.text()
    assert (await api.claim()).spec.callback_url == URL
    environ = clean_environment(DRAWBRIDGE_API=api.url, HOME="/nonexistent")
    asked = ("jobs", "submit", "greet", "--payload", '{"name": "Ada"}', "--callback-url", URL)
    status, _, err = await drawbridge(*asked, environ=environ)
    assert (status, err) == (0, "")
    assert (await api.claim("io")).spec.callback_url == URL


@pytest.mark.parametrize(
    ("url", "why"),
    [
        ("https://127.0.0.1/", "not a public one"),
        ("http://169.254.169.254/latest/", "not a public one"),
        ("ftp://example.org/", "must be a URL that starts with"),
        ("https://ada:secret@example.org/", "must not hold a user or a password"),
    ],
)
async def test_one_that_cannot_be_is_refused(api: Served, url: str, why: str) -> None:
    found = await refused(api, url)
    assert found["field"] == "callback_url"
    assert why in found["detail"]
    assert "secret" not in json.dumps(found)


async def test_a_batch_names_the_one_that_is_wrong(api: Served) -> None:
    many = [greeting(callback_url=URL), greeting(), greeting(callback_url="http://10.0.0.1/")]
    async with api.http.post("/jobs/greet:batch", json=many) as response:
        assert response.status == 422
        found = await problem(response)
    assert (found["index"], found["field"]) == (2, "callback_url")
    assert (await api.jobs.list_jobs()).jobs == []


async def test_a_key_stands_for_the_callback_too(api: Served) -> None:
    headers, statuses = {"Idempotency-Key": "one"}, []
    for url in (URL, URL, URL + "/other"):
        body = greeting(callback_url=url)
        async with api.http.post("/jobs/greet", json=body, headers=headers) as response:
            statuses.append(response.status)
    assert statuses == [202, 200, 422]


async def test_nobody_submits_a_callback_itself(api: Served) -> None:
    async with api.http.post("/jobs/callback", json={"payload": {}}) as response:
        assert response.status == 404
        assert "callback" not in (await problem(response))["kinds"]
    async with api.http.get("/openapi.json") as response:
        assert "/jobs/callback" not in (await response.json())["paths"]


async def test_without_a_secret_there_are_none(stores, redis) -> None:
    jobs = replace(stores.config.jobs, modules=("tests.models.user_kinds",))
    async with served(replace(stores.config, jobs=jobs)) as api:
        found = await refused(api, "https://example.org/")
    assert found["field"] == "callback_url"
    assert "DRAWBRIDGE_CALLBACK_SECRET" in found["detail"]
