"""Event streams: what is, what comes, resumption, their end, and clients that leave."""

import asyncio
import json
from collections.abc import AsyncIterator
from dataclasses import dataclass

import aiohttp
import pytest

from control import keys
from service import sse
from service.appkeys import CLOSING
from tests.serving import Served, problem, served
from tests.stack import wait_for
from worker.jobs.job import Claim, JobState
from worker.jobs.manager import Progress

WITHIN_S = 60


@pytest.fixture
async def api(stores, redis) -> AsyncIterator[Served]:
    async with served(stores.config) as running:
        yield running


@dataclass(frozen=True)
class Seen:
    """One event as a client sees it."""

    id: str
    event: str
    data: dict


async def read(response: aiohttp.ClientResponse) -> AsyncIterator[Seen]:
    """The events of a stream, until it ends."""
    fields: dict[str, str] = {}
    async for raw in response.content:
        line = raw.decode().rstrip("\n")
        if not line:
            if "data" in fields:
                yield Seen(fields["id"], fields["event"], json.loads(fields["data"]))
            fields = {}
        elif not line.startswith(":"):
            name, _, value = line.partition(": ")
            fields[name] = value


async def advance(api: Served, claim: Claim, first: int, last: int) -> None:
    """Report progress ``first`` to ``last``."""
    for number in range(first, last + 1):
        assert await api.jobs.report(Progress(claim.run_id, claim.token, {"nodes": number}))


async def all_events(api: Served, run_id: str, **headers: str) -> list[Seen]:
    async with asyncio.timeout(WITHIN_S):
        async with api.http.get(f"/jobs/{run_id}/events", headers=headers) as response:
            assert response.status == 200
            return [event async for event in read(response)]


async def ended(api: Served) -> str:
    run_id = await api.put()
    claim = await api.claim()
    await advance(api, claim, 1, 3)
    await api.finish(claim, JobState.COMPLETED, result=b"{}")
    return run_id


@pytest.mark.parametrize("family", ["/optimize", "/jobs"])
async def test_a_finished_job_is_told_as_it_stands(api: Served, family: str) -> None:
    run_id = await ended(api)
    async with api.http.get(f"{family}/{run_id}/events") as response:
        assert response.content_type == "text/event-stream"
        assert response.headers["X-Accel-Buffering"] == "no"
        assert response.headers["Cache-Control"] == "no-store"
        assert (await response.content.readline()).startswith(b"retry: ")
        events = [event async for event in read(response)]
    progress, status, end = events
    assert (progress.event, progress.data) == ("progress", {"nodes": 3})
    assert (status.event, status.data["status"], status.data["run_id"]) == (
        "status", "completed", run_id,
    )  # fmt: skip
    assert (end.event, end.data["status"], end.data["run_id"]) == ("end", "completed", run_id)


@pytest.mark.parametrize("by", ["header", "query"])
async def test_it_resumes_after_any_event_without_gap_or_repetition(api: Served, by: str) -> None:
    run_id = await ended(api)
    events = await all_events(api, run_id)
    for at, event in enumerate(events[:-1]):
        headers = {"Last-Event-ID": event.id} if by == "header" else {}
        query = {} if headers else {"last_event_id": event.id}
        path = f"/jobs/{run_id}/events"
        async with api.http.get(path, headers=headers, params=query) as response:
            assert [each async for each in read(response)] == events[at + 1 :]


async def test_after_the_last_event_there_is_nothing_to_come_back_for(api: Served) -> None:
    run_id = await ended(api)
    last = (await all_events(api, run_id))[-1]
    async with api.http.get(
        f"/jobs/{run_id}/events", headers={"Last-Event-ID": last.id}
    ) as response:
        assert response.status == 204


async def test_a_bad_last_event_id_is_refused(api: Served) -> None:
    run_id = await api.put()
    for value in ("x", "-1", "1-2-3", "$"):
        async with api.http.get(
            f"/jobs/{run_id}/events", headers={"Last-Event-ID": value}
        ) as response:
            assert response.status == 422
            assert (await problem(response))["field"] == "Last-Event-ID"


async def test_live_events_survive_reconnections(api: Served) -> None:
    """A client that loses its connection again and again sees no event twice, and in the end
    what is."""
    run_id = await api.put()
    claim = await api.claim()
    seen: list[Seen] = []

    async def client() -> None:
        while not seen or seen[-1].event != "end":
            headers = {"Last-Event-ID": seen[-1].id} if seen else {}
            async with api.http.get(f"/jobs/{run_id}/events", headers=headers) as response:
                count = 0
                async for event in read(response):
                    seen.append(event)
                    count += 1
                    if count == 7:
                        response.close()
                        break

    async with asyncio.timeout(WITHIN_S):
        watching = asyncio.create_task(client())
        await advance(api, claim, 1, 100)
        await api.finish(claim, JobState.COMPLETED, result=b"{}")
        await watching
    nodes = [event.data["nodes"] for event in seen if event.event == "progress"]
    assert nodes == sorted(set(nodes))
    assert nodes[-1] == 100
    assert [event.event for event in seen][-2:] == ["status", "end"]
    assert len({event.id for event in seen}) == len(seen)


async def test_a_stream_lives_through_a_lost_subscription(api: Served, redis) -> None:
    run_id = await api.put()
    claim = await api.claim()
    async with asyncio.timeout(WITHIN_S), api.http.get(f"/jobs/{run_id}/events") as response:
        events = read(response)
        assert (await anext(events)).data["status"] == "running"
        await redis.client_kill_filter(_type="pubsub", skipme=True)
        await advance(api, claim, 1, 3)
        await api.finish(claim, JobState.COMPLETED, result=b"{}")
        rest = [event async for event in events]
    nodes = [event.data["nodes"] for event in rest if event.event == "progress"]
    assert nodes == sorted(set(nodes))
    assert nodes[-1] == 3
    assert [event.event for event in rest][-2:] == ["status", "end"]


async def test_a_stream_tells_of_everything_from_the_moment_it_is_there(api: Served) -> None:
    run_id = await api.put()
    async with asyncio.timeout(WITHIN_S), api.http.get(f"/jobs/{run_id}/events") as response:
        events = read(response)
        assert (await anext(events)).data["status"] == "queued"
        claim = await api.claim()
        await advance(api, claim, 1, 50)
        await api.finish(claim, JobState.COMPLETED, result=b"{}")
        rest = [event async for event in events]
    assert [e.data.get("nodes") for e in rest if e.event == "progress"] == list(range(1, 51))
    assert [e.data["status"] for e in rest if e.event == "status"] == ["running", "completed"]
    assert [int(event.id) for event in rest] == list(range(2, 55))


async def test_a_client_that_leaves_is_forgotten(api: Served, redis) -> None:
    run_id = await api.put()
    channel = keys.events_channel(run_id).encode()
    async with asyncio.timeout(WITHIN_S):
        async with api.http.get(f"/jobs/{run_id}/events") as response:
            await anext(read(response))
            assert dict(await redis.pubsub_numsub(channel)) == {channel: 1}
            response.close()
        await wait_for(lambda: redis.pubsub_numsub(channel), [(channel, 0)])


async def test_streams_end_when_the_service_stops(api: Served) -> None:
    run_id = await api.put()
    async with asyncio.timeout(WITHIN_S), api.http.get(f"/jobs/{run_id}/events") as response:
        events = read(response)
        await anext(events)
        api.app[CLOSING].set()
        assert [event async for event in events] == []


async def test_silence_is_filled_with_comments(api: Served, monkeypatch) -> None:
    monkeypatch.setitem(sse.stream.__kwdefaults__, "heartbeat_s", 0.05)
    run_id = await api.put()
    async with asyncio.timeout(WITHIN_S), api.http.get(f"/jobs/{run_id}/events") as response:
        comments = 0
        async for line in response.content:
            comments += line.startswith(b":")
            if comments == 3:
                break
        response.close()
