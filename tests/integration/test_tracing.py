"""One trace from the request through the job to the solver; nothing where none is wanted."""

import asyncio
import sys
from collections.abc import AsyncIterator
from dataclasses import dataclass, field, replace

import pytest
from aiohttp import web
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.proto.trace.v1.trace_pb2 import Span
from redis.asyncio import Redis

from control.errors import ConfigError
from control.tracing import opened
from tests.conftest import LiveStores
from tests.processes import replica
from tests.serving import MODEL, MPS, served
from tests.stack import clean_environment, wait_until

TRACE, CALLER = "4bf92f3577b34da6a3ce929d0e0e4736", "00f067aa0ba902b7"
FAST = "OTEL_BSP_SCHEDULE_DELAY"


@dataclass
class Collector:
    """Takes spans as a collector does, over OTLP."""

    url: str = ""
    spans: dict[str, Span] = field(default_factory=dict)
    """By name."""

    async def take(self, request: web.Request) -> web.Response:
        sent = ExportTraceServiceRequest.FromString(await request.read())
        for resource in sent.resource_spans:
            for scope in resource.scope_spans:
                self.spans |= {span.name: span for span in scope.spans}
        return web.Response()


@pytest.fixture
async def collector() -> AsyncIterator[Collector]:
    found, app = Collector(), web.Application()
    app.router.add_post("/v1/traces", found.take)
    runner = web.AppRunner(app)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    found.url = f"http://127.0.0.1:{runner.addresses[0][1]}/v1/traces"
    yield found
    await runner.cleanup()


def said(span: Span) -> dict[str, object]:
    return {each.key: each.value.string_value or each.value.int_value for each in span.attributes}


async def test_one_trace_from_the_request_to_the_solver(
    stores: LiveStores, redis: Redis, collector: Collector, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(FAST, "50")
    log = replace(stores.config.log, otlp_url=collector.url)
    config = replace(stores.config, log=log)
    settings = {"DRAWBRIDGE_OTLP_URL": collector.url, FAST: "50"}
    async with (
        served(config) as api,
        replica("worker", stores.environment, **settings) as worker,
    ):
        await worker.logged("working")
        headers = {**MPS, "traceparent": f"00-{TRACE}-{CALLER}-01", "X-Request-ID": "r-1"}
        async with api.http.post("/optimize", data=MODEL, headers=headers) as response:
            run_id = (await response.json())["run_id"]
        names = {"POST /optimize", "run optimize", "process"}
        await wait_until(lambda: names <= collector.spans.keys())
    request, run, process = (
        collector.spans[name] for name in ("POST /optimize", "run optimize", "process")
    )
    assert {each.trace_id.hex() for each in (request, run, process)} == {TRACE}
    assert request.parent_span_id.hex() == CALLER
    assert run.parent_span_id == request.span_id
    assert process.parent_span_id == run.span_id
    assert said(request) == {
        "http.route": "/optimize", "http.request.method": "POST",
        "http.response.status_code": 202, "drawbridge.request_id": "r-1",
    }  # fmt: skip
    assert said(run) == {
        "drawbridge.run_id": run_id, "drawbridge.attempt": 1, "drawbridge.outcome": "completed",
    }  # fmt: skip
    assert run.start_time_unix_nano < process.start_time_unix_nano
    assert process.end_time_unix_nano <= run.end_time_unix_nano


async def test_who_decided_against_a_trace_is_heeded(
    stores: LiveStores, redis: Redis, collector: Collector, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(FAST, "50")
    log = replace(stores.config.log, otlp_url=collector.url)
    config = replace(stores.config, log=log)
    async with served(config) as api:
        for flags, path in (("00", "/jobs/unsampled"), ("01", "/jobs")):
            headers = {"traceparent": f"00-{TRACE}-{CALLER}-{flags}"}
            async with api.http.get(path, headers=headers) as response:
                await response.read()
    assert collector.spans.keys() == {"GET /jobs"}  # all were sent by the end


async def test_without_a_collector_nothing_of_it_is_imported() -> None:
    """Nor is the extra needed."""
    program = (
        "import sys; sys.modules['opentelemetry'] = None; import service.app, worker.app\n"
        "assert 'control.tracing.spans' not in sys.modules"
    )
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-c", program, env=clean_environment()
    )
    assert await process.wait() == 0


async def test_without_the_extra_one_line_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delitem(sys.modules, "control.tracing.spans", raising=False)
    monkeypatch.setitem(sys.modules, "opentelemetry.sdk.trace", None)
    with pytest.raises(ConfigError, match=r"drawbridge\[otel\]"):
        async with opened("http://x/v1/traces", process="p", instance="i"):
            pass
