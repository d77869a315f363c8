"""What deploy/SCALE.md predicts is what instances that idle really send, and hold open."""

import asyncio
import json
import os
import signal
import sys
from pathlib import Path

from tests.benchmarks.fleet import model, observed, page
from tests.benchmarks.fleet.model import Size
from tests.benchmarks.fleet.observed import Meter
from tests.benchmarks.fleet.turns import CONFIG
from tests.conftest import LiveStores
from tests.faults.fleet import Instance, fleet_of
from tests.faults.servers import own_redis
from tests.stack import wait_until

SECONDS = 6.0
OFF = 0.25
"""How far a few seconds on a busy machine may be off; a habit more or less of every instance is
further."""

LOADED = Path(__file__).parents[1] / "models" / "loaded"
UNUSED = {
    "aiohttp.client", "aiohttp.connector", "attr.validators", "difflib", "frozenlist._frozenlist",
    "highspy", "neo4j._sync.driver", "neo4j._sync.work", "numpy", "opentelemetry",
    "prometheus_client.metrics", "redis.asyncio.cluster", "redis.cluster", "redis.commands.cluster",
    "redis.keyspace_notifications", "rich",
}  # fmt: skip
"""What an idle process has no use for; some of it is loaded when it is first used."""

OF_SERVICES = {"cryptography.hazmat", "icalendar", "jinja2", "markdown_it"}
OF_FIRST_JOBS = {"aiosmtplib", "worker.ingest.run"}
MOST_MB = {"worker": 70, "service": 92}
"""58 and 77 where this was written."""


async def test_an_idle_fleet_sends_what_the_model_says(tmp_path: Path, stores: LiveStores) -> None:
    size = Size(services=1, workers=1, listeners=1)  # the fleet's client listens to its events
    async with (
        own_redis(tmp_path) as server,
        fleet_of(1, 1, server, stores, proxied=False, **_tells(tmp_path / "modules")) as fleet,
    ):
        await observed.load_scripts(fleet.redis)
        await fleet.workers[0].says("joined")
        meter = Meter(fleet.redis)
        await meter.start()
        await asyncio.sleep(SECONDS)
        spent = await meter.stop()
        found, said = spent.load, model.idle(size, CONFIG)
        told = f"{found}\n{said}\n{spent.calls}"
        assert abs(found.sent - said.sent) < OFF * said.sent, told
        assert abs(found.inside - said.inside) < OFF * said.inside, told
        assert abs(found.received_bytes - said.received_bytes) < OFF * said.received_bytes, told
        for kind, one in (("service", fleet.services[0]), ("worker", fleet.workers[0])):
            await _takes_little(kind, one, tmp_path / "modules")
        held = model.connections(size, CONFIG)
        connected = await meter.connections() - size.listeners
        # What many callers needed at one moment, such as at the start, stays open in a pool.
        assert held.redis <= connected <= held.redis + 2 * size.instances
        busy = model.connections(size, CONFIG, busy=True)
        in_database = await observed.database_connections(fleet.database_url)
        assert held.postgres <= in_database <= busy.postgres


def test_the_model_grows_with_the_fleet_alone() -> None:
    one, many = (model.idle(Size(services=n, workers=n)) for n in (1, 1000))
    beacon = model.idle(Size())
    assert round((many.sent - beacon.sent) / (one.sent - beacon.sent)) == 1000
    assert model.change(1000).sent < 1010


def test_the_page_shows_what_its_results_say() -> None:
    told = json.loads(page.KEPT.read_text())
    text = page.PAGE.read_text()
    assert text == page.MARKS.replaced(text, page.section(told)), "run make bench-fleet"
    assert set(told) == {"idle", "changes", "jobs"}
    assert max(point["replicas"] for point in told["changes"]["points"]) >= 200


def test_the_measurements_on_the_page_agree_with_the_model() -> None:
    for point in json.loads(page.KEPT.read_text())["idle"]["points"]:
        for name in ("sent", "inside", "received_bytes", "answered_bytes"):
            said, found = point["predicted"][name], point["measured"][name]
            assert abs(found - said) < OFF * said, (point, name)


def _tells(path: Path) -> dict[str, str]:
    """The settings of an instance that tells which modules it has loaded."""
    places = os.pathsep.join((str(LOADED), *filter(None, sys.path)))
    return {"PYTHONPATH": places, "MODULES": str(path)}


async def _takes_little(kind: str, one: Instance, path: Path) -> None:
    one.replica.send(signal.SIGUSR1)
    written = path.with_name(f"{path.name}.{one.replica.pid}")
    await wait_until(written.exists)
    unused = UNUSED if kind == "service" else UNUSED | OF_SERVICES | OF_FIRST_JOBS
    loaded = unused & set(written.read_text().splitlines())
    assert not loaded, f"{kind}: {loaded}"
    assert observed.resident_mb(one.replica.pid) < MOST_MB[kind]
