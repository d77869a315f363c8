"""`/metrics` of services and workers: well-formed, bounded, and read from memory alone."""

import asyncio
import re
import shutil
import subprocess
from collections.abc import AsyncIterator
from pathlib import Path

import aiohttp
import pytest
from prometheus_client.openmetrics.parser import (
    text_string_to_metric_families as openmetrics_families,
)
from prometheus_client.parser import text_string_to_metric_families
from redis.asyncio import Redis

from service.appkeys import HEALTH
from tests.conftest import LiveStores, open_gate
from tests.faults.conftest import Jobs
from tests.processes import replica
from tests.serving import Served, served
from tests.stack import wait_until
from tests.timing import timed

Samples = dict[str, dict[tuple[tuple[str, str], ...], float]]
SNAKE = re.compile(r"[a-z][a-z0-9_]*")


def read(text: str) -> Samples:
    """The samples of a scrape by name and labels. Checks what promtool checks of names."""
    samples: Samples = {}
    for family in text_string_to_metric_families(text):
        assert family.documentation, family.name
        assert SNAKE.fullmatch(family.name), family.name
        assert family.type != "unknown", family.name
        for sample in family.samples:
            known = samples.setdefault(sample.name, {})
            labels = tuple(sorted(sample.labels.items()))
            assert labels not in known, sample
            known[labels] = sample.value
    return samples


def labelled(**labels: str) -> tuple[tuple[str, str], ...]:
    return tuple(sorted(labels.items()))


async def scrape(http: aiohttp.ClientSession, path: str = "/metrics") -> Samples:
    async with http.get(path) as response:
        assert response.status == 200
        assert response.content_type == "text/plain"
        assert "version=0.0.4" in response.headers["Content-Type"]
        assert response.headers["Cache-Control"] == "no-store"
        return read(await response.text())


@pytest.fixture(scope="module")
async def api(stores: LiveStores) -> AsyncIterator[Served]:
    async with Redis.from_url(stores.addresses.redis_url) as redis:
        await redis.flushall()
    async with served(stores.config) as api:
        await wait_until(lambda: api.app[HEALTH].snapshot.results["workers"].at)
        yield api


@pytest.mark.parametrize("path", ["/metrics", "/metrics/", "/api/system/health/metrics"])
async def test_a_scrape_is_well_formed(api: Served, path: str) -> None:
    samples = await scrape(api.http, path)
    ours = {name for name in samples if name.startswith("drawbridge_")}
    assert samples["drawbridge_ready"][()] == 1
    assert samples["drawbridge_check_status"][labelled(check="redis", status="healthy")] == 1
    assert samples["drawbridge_control_stale"][()] == 0
    assert samples["drawbridge_jobs"][labelled(state="queued")] == 0
    assert len(ours) > 15  # some show only once there is something to count


async def test_openmetrics_for_who_asks(api: Served) -> None:
    accept = {"Accept": "application/openmetrics-text;version=1.0.0,text/plain;q=0.5"}
    async with api.http.get("/metrics", headers=accept) as response:
        assert response.content_type == "application/openmetrics-text"
        text = await response.text()
    assert text.endswith("# EOF\n")
    names = {family.name for family in openmetrics_families(text)}
    assert "drawbridge_http_requests" in names


@pytest.mark.parametrize("accept", ["application/openmetrics-text;version=no", "\xff", ";;,=", "x"])
async def test_an_odd_accept_is_no_error(api: Served, accept: str) -> None:
    async with api.http.get("/metrics", headers={"Accept": accept}) as response:
        assert response.status == 200


async def test_requests_are_counted_by_template_method_and_code(api: Served) -> None:
    before = (await scrape(api.http)).get("drawbridge_http_requests_total", {})
    unknown = "01ARZ3NDEKTSV4RRFFQ69G5FAV"
    for method, path in (
        ("GET", f"/jobs/{unknown}"), ("GET", f"/jobs/{unknown[::-1]}"), ("GET", "/nowhere/1"),
        ("GET", "/nowhere/2"), ("PROPFIND", "/nowhere/3"), ("GET", "/ready"), ("GET", "/ready/"),
    ):  # fmt: skip
        async with api.http.request(method, path) as response:
            await response.read()
    samples = await scrape(api.http)
    after = samples["drawbridge_http_requests_total"]

    def more(**labels: str) -> float:
        key = labelled(**labels)
        return after.get(key, 0) - before.get(key, 0)

    assert more(route="/jobs/{run_id}", method="GET", code="404") == 2
    assert more(route="unmatched", method="GET", code="404") == 2
    assert more(route="unmatched", method="other", code="404") == 1
    assert more(route="/ready", method="GET", code="200") == 2
    assert not any("nowhere" in str(labels) or unknown in str(labels) for labels in after)
    times = samples["drawbridge_http_request_duration_seconds_count"]
    assert times[labelled(route="/jobs/{run_id}", method="GET")] >= 2


async def test_a_stream_has_no_duration(api: Served, redis: Redis) -> None:
    run_id = await api.put()
    async with api.http.get(f"/jobs/{run_id}/events") as response:
        await response.content.readany()
    route = "/jobs/{run_id}/events"

    async def counted() -> bool:
        samples = await scrape(api.http)
        told = samples["drawbridge_http_requests_total"]
        times = samples["drawbridge_http_request_duration_seconds_count"]
        assert labelled(route=route, method="GET") not in times
        return any(("route", route) in labels for labels in told)

    await wait_until(counted)


async def test_jobs_are_counted_as_they_are_accepted_and_as_they_wait(
    api: Served, redis: Redis
) -> None:
    samples = await scrape(api.http)
    before = samples.get("drawbridge_jobs_accepted_total", {}).get(labelled(kind="optimize"), 0)
    await api.put()
    await api.put(run_at_ms=1 << 42)
    await api.checked("workers")
    samples = await scrape(api.http)
    assert samples["drawbridge_jobs_accepted_total"][labelled(kind="optimize")] == before + 2
    assert samples["drawbridge_jobs"] == {
        labelled(state="queued"): 1, labelled(state="running"): 0, labelled(state="scheduled"): 1,
    }  # fmt: skip
    assert samples["drawbridge_queue_depth"][labelled(lane="cpu")] == 1
    assert samples["drawbridge_workers_live"][()] == 0


async def test_a_change_of_a_flag_is_seen(api: Served, redis: Redis) -> None:
    before = await scrape(api.http)
    await api.put_flag(value=True)
    on = await scrape(api.http)
    await api.put_flag(value=False)
    off = await scrape(api.http)
    flag, count = labelled(flag="app_maintenance"), "drawbridge_flags_propagation_seconds_count"
    assert on["drawbridge_flag_active"][flag] == 1
    assert off["drawbridge_flag_active"][flag] == 0
    version = before["drawbridge_flags_version"][()]
    assert off["drawbridge_flags_version"][()] == version + 2
    assert off[count][()] == before.get(count, {}).get((), 0) + 2


@timed
async def test_a_scrape_asks_no_store(stores: LiveStores, api: Served) -> None:
    for store in ("redis", "postgres", "graph"):
        stores.freeze(store)
    try:
        async with asyncio.timeout(1.5):  # every check would take its two seconds
            samples = await scrape(api.http)
    finally:
        for store in ("redis", "postgres", "graph"):
            stores.thaw(store)
    assert samples["drawbridge_check_status"][labelled(check="redis", status="healthy")] == 1
    results = await api.checked("redis", "database", "neo4j")
    assert {results[name].state for name in ("redis", "database", "neo4j")} == {"ok"}


@pytest.fixture(scope="module")
async def of_worker(stores: LiveStores, api: Served) -> str:
    """What a worker tells once it has run a job."""
    settings = {"DRAWBRIDGE_JOBS": "tests.kinds"}
    async with (
        Redis.from_url(stores.addresses.redis_url) as redis,
        replica("worker", stores.environment, **settings) as worker,
    ):
        await open_gate(redis)
        line = await worker.logged("working")
        await Jobs(redis).submit("echo")
        async with aiohttp.ClientSession(line["probes"]) as http:

            async def told() -> str | None:
                async with http.get("/metrics") as response:
                    text = await response.text()
                return text if "drawbridge_jobs_ended_total{" in text else None

            found: str = await wait_until(told)
            return found


def test_a_worker_tells_what_it_ran(of_worker: str) -> None:
    samples, ended = read(of_worker), labelled(kind="echo", outcome="completed")
    assert samples["drawbridge_jobs_ended_total"][ended] == 1
    assert samples["drawbridge_job_duration_seconds_count"][ended] == 1
    assert samples["drawbridge_drain_phase"][labelled(phase="running")] == 1
    assert samples["drawbridge_drain_phase"][labelled(phase="paused")] == 0
    assert samples["drawbridge_event_loop_lag_seconds_count"][()] > 0
    assert samples["process_resident_memory_bytes"][()] > 1 << 20


@pytest.mark.skipif(shutil.which("promtool") is None, reason="promtool is not installed")
async def test_promtool_finds_nothing_wrong(api: Served, of_worker: str) -> None:
    async with api.http.get("/metrics") as response:
        of_service = await response.text()
    for text in (of_service, of_worker):
        command = ("promtool", "check", "metrics")
        done = subprocess.run(command, input=text, capture_output=True, text=True, check=False)
        assert (done.returncode, done.stdout + done.stderr) == (0, "")


def series(text: str) -> set[str]:
    """The names of all series that a process may show, those without a sample yet included."""
    parts = {"histogram": ("_bucket", "_sum", "_count")}
    return {
        name + part
        for _, _, name, kind in (line.split() for line in text.splitlines() if "# TYPE" in line)
        for part in parts.get(kind, ("",))
    }


DEPLOY = Path(__file__).parents[2] / "deploy"


@pytest.mark.parametrize("file", ["grafana/drawbridge.json", "prometheus/alerts.yml",
                                  "prometheus/alerts_test.yml"])  # fmt: skip
async def test_dashboards_and_alerts_read_what_there_is(
    api: Served, of_worker: str, file: str
) -> None:
    async with api.http.get("/metrics") as response:
        shown = series(await response.text()) | series(of_worker)
    asked = set(re.findall(r"\b(?:drawbridge|process)_[a-z_]+", (DEPLOY / file).read_text()))
    assert len(asked) > 10
    assert asked <= shown
