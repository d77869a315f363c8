"""The fleet over HTTP: waiting until every instance has confirmed, who is live, what happens."""

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import aclosing
from datetime import datetime
from typing import Any

import aiohttp
import pytest

from control.config import Config
from control.flags.document import MAINTENANCE
from service.appkeys import CLOSING
from tests.serving import Served, served, with_database
from tests.stack import wait_until
from tests.steering import FLAG, ON, TOKEN, ask, etag, fleet_of, held_upload, rested, settled

WITHIN_S = 60


@pytest.fixture
async def config(stores, redis, database_url) -> Config:
    await settled(redis)
    return await with_database(stores.config, database_url)


@pytest.fixture
async def api(config: Config) -> AsyncIterator[Served]:
    async with served(config, admin_token="the-admin-token") as running:
        yield running


async def test_wait_until_all_have_applied_and_quiesced(api: Served, config: Config, redis) -> None:
    async with served(config) as other:
        await wait_until(lambda: fleet_of(api, 2))
        for want in ("applied", "quiesced"):
            status, told, _ = await ask(api, "POST", f"{FLAG}/toggle?wait={want}", {})
            assert status == 200
            assert told["acknowledged"] == {"complete": True, "replicas": 2, "stragglers": []}
            raised = told["document"]["flags"][MAINTENANCE]["is_active"]
            assert (other.plane.replica.raised is not None) is raised
            await rested(redis)


async def test_lowering_has_nothing_to_quiesce(api: Served) -> None:
    await api.put_flag()
    status, told, _ = await ask(api, "POST", f"{FLAG}/reset?wait=quiesced&timeout=30", {})
    assert (status, told["acknowledged"]["complete"]) == (200, True)


async def test_stragglers_are_named_and_waited_for_again(api: Served, config: Config) -> None:
    async with served(config) as other, held_upload(other) as let_go:
        await wait_until(lambda: fleet_of(api, 2))
        change = ("PUT", f"{FLAG}?wait=quiesced&timeout=0.3", ON)
        status, told, headers = await ask(api, *change, Idempotency_Key="k")
        assert (status, told["type"]) == (504, "/problems/acknowledgement-timeout")
        (late,) = told["stragglers"]
        assert late["id"] == other.plane.instance
        assert (late["kind"], late["phase"], late["running"]) == ("service", "draining", 1)
        assert late["host"] in told["detail"]
        assert late["id"] in told["detail"]
        assert told["acknowledged"]["replicas"] == 2
        assert told["document"]["flags"][MAINTENANCE]["is_active"] is True
        assert headers["ETag"] == etag(api)
        let_go.set()
        again = ("PUT", f"{FLAG}?wait=quiesced&timeout=20", ON)
        status, told, _ = await ask(api, *again, Idempotency_Key="k")
        assert (status, told["acknowledged"]["complete"]) == (200, True)


async def test_after_wait_applied_nobody_admits(api: Served, config: Config) -> None:
    async with served(config) as other:
        await wait_until(lambda: fleet_of(api, 2))
        assert (await ask(api, "PUT", FLAG + "?wait=applied", ON))[0] == 200
        for each in (api, other):
            async with each.http.get("/jobs") as response:
                assert response.status == 503


async def test_replicas(api: Served, config: Config) -> None:
    async with served(config) as other:
        await wait_until(lambda: fleet_of(api, 2))
        _, told, _ = await ask(api, "GET", "/control/replicas")
        assert {each["id"] for each in told["replicas"]} == {
            api.plane.instance, other.plane.instance,
        }  # fmt: skip
        for each in told["replicas"]:
            assert each.keys() >= {"id", "kind", "host", "version", "phase", "running", "source"}
            assert each["phase"] == "serving"
    await wait_until(lambda: fleet_of(api, 1))


async def test_events_tell_what_is_and_what_happens(api: Served, config: Config) -> None:
    async with (
        asyncio.timeout(WITHIN_S),
        api.http.get("/control/events", headers=TOKEN) as response,
        aclosing(events(response)) as coming,
    ):
        assert response.content_type == "text/event-stream"
        kind, first = await anext(coming)
        assert (kind, first["flags"][MAINTENANCE]["is_active"]) == ("flags", False)
        assert (first["type"], first["v"], first["id"]) == ("flags", 1, etag(api).strip('"'))
        assert first["command_id"] is first["outcome"] is None
        assert datetime.fromisoformat(first["at"]).tzinfo
        kind, fleet = await anext(coming)
        assert kind == "replicas"
        assert [each["id"] for each in fleet["replicas"]] == [api.plane.instance]
        async with held_upload(api) as let_go:
            changed = await api.put_flag(reason="db upgrade")
            _, told = await until(coming, lambda kind, data: kind == "flags")
            assert told["flags"][MAINTENANCE]["reason"] == "db upgrade"
            assert told.keys() == first.keys()
            assert told["id"] == etag(api).strip('"')
            assert (told["command_id"], told["outcome"]["verdict"]) == (
                changed.command_id, "applied",
            )  # fmt: skip
            _, told = await until(coming, lambda kind, data: data.get("phase") == "draining")
            assert (told["id"], told["running"]) == (api.plane.instance, 1)
            let_go.set()
            _, told = await until(coming, lambda kind, data: data.get("phase") == "raised")
            assert told["quiesced"] is True
        async with served(config) as other:
            await until(coming, lambda kind, data: data.get("id") == other.plane.instance)
        _, told = await until(coming, lambda kind, data: kind == "left")
        assert told["id"] == other.plane.instance
        api.app[CLOSING].set()
        assert [event async for event in coming] == []


async def events(response: aiohttp.ClientResponse) -> AsyncIterator[tuple[str, dict[str, Any]]]:
    """Kind and data of each event; its id, where it has one, is ``id`` of the data."""
    kind, own = "", {}
    async for raw in response.content:
        name, _, value = raw.decode().rstrip("\n").partition(": ")
        if name == "id":
            own = {"id": value}
        elif name == "event":
            kind = value
        elif name == "data":
            yield kind, json.loads(value) | own
            own = {}


async def until(coming: Any, wanted: Any) -> tuple[str, dict[str, Any]]:
    """The first event that is wanted."""
    while True:
        kind, data = await anext(coming)
        if wanted(kind, data):
            return kind, data
