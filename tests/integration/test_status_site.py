"""The status page as a running service serves it: open to all, in every state of the stores."""

import asyncio
from collections.abc import AsyncIterator
from dataclasses import replace
from datetime import timedelta
from typing import Any

import aiohttp
import feedparser
import icalendar
import msgspec
import pytest

from control.clock import SystemClock
from control.config import PostgresSection
from control.status import board as boards
from control.status.components import configured
from control.status.incident_store import Incidents
from control.status.incidents import NewIncident, Said
from control.status.publishing import Publisher
from control.status.rounds import declare
from control.status.states import Severity, Status
from control.status.view import IncidentView
from control.stores.postgres import Database
from service.appkeys import STATUS
from tests.conftest import LiveStores
from tests.markup import Page, words
from tests.serving import NOWHERE, Served, served
from tests.stack import wait_until

PAGES = (
    "/status", "/status/", "/status/history", "/status/history/", "/status/widget",
    "/status/widget/",
)  # fmt: skip
SHARED = {
    "/api/status/rss": "application/rss+xml",
    "/api/status/rss/": "application/rss+xml",
    "/history.rss": "application/rss+xml",
    "/history.atom": "application/atom+xml",
    "/status/maintenance.ics": "text/calendar",
    "/badge.svg": "image/svg+xml",
    "/badge/api.svg": "image/svg+xml",
    **{f"/api/v2/{name}.json": "application/json" for name in (
        "summary", "status", "components", "incidents", "incidents/unresolved",
        "scheduled-maintenances", "scheduled-maintenances/upcoming",
        "scheduled-maintenances/active",
    )},
}  # fmt: skip
NEW = NewIncident(
    title="Slow <answers>", description="We are **looking**.", severity=Severity.MAJOR,
    impacts={"api": Status.PARTIAL_OUTAGE},
)  # fmt: skip


@pytest.fixture
async def api(
    stores: LiveStores, redis: Any, database: Database, database_url: str
) -> AsyncIterator[Served]:
    config = replace(stores.config, postgres=PostgresSection(url=database_url))
    async with database.acquire() as connection:
        await declare(connection, configured("", ()), SystemClock().now())
    async with served(config, admin_token="the-admin-token") as running:
        await wait_until(lambda: running.app[STATUS].board.known)
        yield running


@pytest.fixture
async def incidents(api: Served, database: Database) -> Incidents:
    return Incidents(Publisher(database), SystemClock())


async def get(api: Served, path: str, **headers: str) -> tuple[aiohttp.ClientResponse, str]:
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    async with api.http.get(path, headers=named, allow_redirects=False) as response:
        return response, await response.text()


async def kept(api: Served, path: str, **headers: str) -> None:
    """Who has it is told so, and HEAD agrees; asked again where there was news in between."""

    async def so() -> bool:
        first, _ = await get(api, path, **headers)
        again, body = await get(api, path, If_None_Match=first.headers["ETag"], **headers)
        async with api.http.head(path) as head:
            assert head.status == first.status == 200
            assert await head.read() == b""
            return (again.status, body, head.headers["ETag"], head.headers["Content-Length"]) == (
                304, "", first.headers["ETag"], first.headers["Content-Length"],
            )  # fmt: skip

    await wait_until(so)


async def shown(api: Served) -> None:
    """The board has read what was written a moment ago."""
    await api.app[STATUS].board.refresh()


async def opened(api: Served, incidents: Incidents, **changes: Any) -> IncidentView:
    made = await incidents.create(msgspec.structs.replace(NEW, **changes), "tester")
    await shown(api)
    return made


async def test_pages_are_for_everybody_and_the_same_to_head(api: Served) -> None:
    for path in PAGES:
        response, text = await get(api, path, Authorization="Bearer nonsense")
        assert response.status == 200
        assert response.content_type == "text/html"
        assert response.charset == "utf-8"
        policy = response.headers["Content-Security-Policy"]
        assert policy.startswith("default-src 'none'")
        framed = path.startswith("/status/widget")
        assert ("frame-ancestors *" in policy) is framed
        assert ("X-Frame-Options" in response.headers) is not framed
        assert response.headers["X-Content-Type-Options"] == "nosniff"
        Page(text)
        await kept(api, path)


async def test_feeds_and_json_may_be_read_by_pages_of_others(api: Served) -> None:
    for path, kind in SHARED.items():
        response, _ = await get(api, path, Origin="https://elsewhere.example")
        assert response.status == 200, path
        assert response.content_type == kind
        assert response.headers["Access-Control-Allow-Origin"] == "*"
        assert response.headers["Cross-Origin-Resource-Policy"] == "cross-origin"
        await kept(api, path)


async def test_an_incident_from_its_beginning_to_its_end(api: Served, incidents: Incidents) -> None:
    before, _ = await get(api, "/status")
    made = await opened(api, incidents)
    page, text = await get(api, "/status", If_None_Match=before.headers["ETag"])
    assert page.status == 200
    assert "Partial outage" in words(text)
    assert "Slow <answers>" in words(text)
    assert "<strong>looking</strong>" in text
    later = SystemClock().now() + timedelta(hours=1)
    said = Said(message="A disk is full.", estimated_resolution=later, next_update=later)
    await incidents.update(made.id, said, "tester")
    await shown(api)
    own, text = await get(api, f"/status/incidents/{made.id}")
    assert own.status == 200
    assert "Next update by" in words(text)
    assert words(text).index("A disk is full.") < words(text).index("We are looking .")
    await incidents.resolve(made.id, "A log was never rotated.", "It is now.", "tester")
    await shown(api)
    _, text = await get(api, f"/status/incidents/{made.id}")
    assert "What caused it A log was never rotated." in words(text)
    _, text = await get(api, "/status")
    assert "Open incidents" not in text
    assert "Past incidents Slow <answers>" in words(text)
    _, text = await get(api, f"/status/history/{made.started_at:%Y-%m}")
    assert "Slow <answers>" in words(text)
    _, text = await get(api, "/api/status/rss")
    feed = feedparser.parse(text)
    assert [entry.title.partition(":")[0] for entry in feed.entries] == [
        "Resolved", "Investigating", "Investigating",
    ]  # fmt: skip
    assert all(entry.link.startswith(f"{api.url}/status/incidents/") for entry in feed.entries)


async def test_page_and_api_never_differ_on_the_whole(api: Served, incidents: Incidents) -> None:
    """Not even where an incident is of no component."""
    await opened(api, incidents, severity=Severity.CRITICAL, impacts={})
    _, text = await get(api, "/api/status")
    assert msgspec.json.decode(text)["overall_status"] == "major_outage"
    _, text = await get(api, "/api/v2/status.json")
    assert msgspec.json.decode(text)["status"]["indicator"] == "critical"
    assert "Major outage" in words((await get(api, "/status"))[1])


async def test_drafts_are_nowhere(api: Served, incidents: Incidents) -> None:
    made = await opened(api, incidents, title="A secret draft", draft=True)
    for path in (*PAGES, *SHARED):
        _, text = await get(api, path)
        assert "secret" not in text, path
        assert made.id not in text, path
    response, text = await get(api, f"/status/incidents/{made.id}")
    assert response.status == 404
    assert "There is no such page" in text


NOT_THERE = (
    "/status/incidents/01M8F000000000000000000000", "/status/incidents/..%2f..%2fetc",
    "/status/incidents/%00", "/status/maintenance/x", "/status/history/2026-13",
    "/status/history/2999-01", "/status/history/1999-01", "/status/history/x",
)  # fmt: skip


async def test_what_is_not_there_is_said_in_words(api: Served) -> None:
    for path in NOT_THERE:
        response, text = await get(api, path)
        assert response.status == 404, path
        assert response.content_type == "text/html"
        assert response.headers["Cache-Control"] == "no-store"
        Page(text)


async def test_a_browser_is_shown_a_page_wherever_below_the_status_it_looks(api: Served) -> None:
    browser = "text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8"
    response, expected = await get(api, "/status/incidents/nope", Accept=browser)
    for path in (
        "/status/nonsense",
        "/status/incidents",
        "/status/history/2026-11/x/",
        "/status//",
    ):
        response, text = await get(api, path, Accept=browser)
        assert (response.status, response.content_type) == (404, "text/html"), path
        assert response.headers["Content-Security-Policy"].startswith("default-src 'none'")
        assert text == expected
        for accept in ("*/*", "application/json"):
            response, _ = await get(api, path, Accept=accept)
            assert (response.status, response.content_type) == (404, "application/problem+json")
    for path in ("/nonsense", "/statusnonsense", "/api/status/nonsense"):
        response, _ = await get(api, path, Accept=browser)
        assert (response.status, response.content_type) == (404, "application/problem+json")


async def test_pages_have_an_address_with_a_slash_too(api: Served, incidents: Incidents) -> None:
    made = await opened(api, incidents)
    month = f"/status/history/{made.started_at:%Y-%m}"
    for path in (f"/status/incidents/{made.id}", month, "/status/subscribe"):
        response, text = await get(api, path)
        slashed, same = await get(api, path + "/")
        assert (slashed.status, slashed.content_type, same) == (
            response.status, response.content_type, text,
        )  # fmt: skip


async def test_old_incidents_are_read_from_the_records(
    api: Served, incidents: Incidents, database: Database
) -> None:
    made = await opened(api, incidents, title="Long ago")
    await incidents.resolve(made.id, None, "Done.", "tester")
    async with database.acquire() as connection:
        await connection.execute(
            "UPDATE drawbridge.status_incidents SET started_at = started_at - interval '500 days',"
            " resolved_at = resolved_at - interval '500 days' WHERE id = $1", made.id,
        )  # fmt: skip
        await connection.execute("UPDATE drawbridge.status_state SET told = told + 1")
    await shown(api)
    assert api.app[STATUS].board.view.incident(made.id) is None
    response, text = await get(api, f"/status/incidents/{made.id}")
    assert response.status == 200
    assert "Long ago" in text
    began = made.started_at - timedelta(days=500)
    response, text = await get(api, f"/status/history/{began:%Y-%m}")
    assert response.status == 200
    assert "Long ago" in text


async def test_maintenance_shows_at_once_and_passes_the_gate(api: Served) -> None:
    before, _ = await get(api, "/status")
    await api.put_flag(reason="db <upgrade>")
    assert (await get(api, "/jobs"))[0].status == 503
    page, text = await get(api, "/status", If_None_Match=before.headers["ETag"])
    assert page.status == 200
    assert "Reason: db <upgrade>" in words(text)
    assert "Under maintenance" in words(text)
    for path in (*PAGES, *SHARED):
        assert (await get(api, path))[0].status == 200, path
    _, text = await get(api, "/api/v2/status.json")
    assert msgspec.json.decode(text)["status"]["indicator"] == "maintenance"
    await api.put_flag(value=False)
    assert "db &lt;upgrade&gt;" not in (await get(api, "/status"))[1]


async def test_the_documents_are_what_their_readers_read(api: Served, incidents: Incidents) -> None:
    await opened(api, incidents)
    _, text = await get(api, "/status/maintenance.ics")
    assert icalendar.Calendar.from_ical(text)["version"] == "2.0"
    _, text = await get(api, "/api/v2/summary.json")
    summary = msgspec.json.decode(text)
    assert summary["page"]["url"] == api.url + "/status"
    [told] = summary["incidents"]
    assert [each["name"] for each in told["components"]] == ["API"]
    [api_now] = [each for each in summary["components"] if each["id"] == "api"]
    assert api_now["status"] == "partial_outage"
    assert summary["status"] == {"indicator": "major", "description": "Partial System Outage"}
    for path in ("/badge/nothing.svg", "/badge/.svg"):
        assert (await get(api, path))[0].status == 404


async def test_without_any_store_from_the_beginning(redis: Any) -> None:
    """Nothing was ever read: the page is there and says so, and feeds do not lie."""
    async with served(NOWHERE, knowing=False) as lost:
        response, text = await get(lost, "/status")
        assert response.status == 200
        assert "We cannot read our records at the moment" in text
        assert "All systems operational" not in text
        assert "API Not known" in words(text)
        assert (await get(lost, "/badge.svg"))[0].status == 200
        for path in ("/api/status/rss", "/api/v2/summary.json", "/status/maintenance.ics"):
            response, _ = await get(lost, path)
            assert response.status == 503, path
            assert "Retry-After" in response.headers
        response, text = await get(lost, "/status/incidents/01M8F000000000000000000000")
        assert response.status == 503
        assert response.headers["Retry-After"] == "30"
        assert response.content_type == "text/html"


async def test_both_stores_stop_and_the_page_stays(
    stores: LiveStores, api: Served, incidents: Incidents, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(boards, "STALE_S", 0.5)
    monkeypatch.setattr(boards, "POLL_S", 0.1)
    made = await opened(api, incidents)
    await asyncio.gather(stores.stop("postgres"), stores.stop("redis"))
    try:

        async def dated() -> bool:
            response, text = await get(api, "/status")
            assert response.status == 200
            return "We cannot read our records at the moment" in text

        await wait_until(dated)
        _, text = await get(api, "/status")
        assert "Slow <answers>" in words(text)
        assert "All systems operational" not in text
        assert (await get(api, f"/status/incidents/{made.id}"))[0].status == 200
        await kept(api, "/status")  # dated by the last reading, not by now
        _, text = await get(api, "/api/v2/summary.json")
        assert "Slow <answers>" in text
    finally:
        await asyncio.gather(stores.restart("postgres"), stores.restart("redis"))

    async def back() -> bool:
        return "We cannot read our records" not in (await get(api, "/status"))[1]

    await wait_until(back)
