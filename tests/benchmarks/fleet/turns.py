"""The measurements, each with a Redis and a fleet of its own."""

import asyncio
import json
import signal
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

from control import ids, keys
from control.config import Config, ControlSection
from tests.benchmarks.fleet import model, observed
from tests.benchmarks.fleet.model import Size
from tests.benchmarks.fleet.observed import Meter
from tests.benchmarks.listeners import Listeners, listeners
from tests.benchmarks.peers.report import percentile
from tests.conftest import LiveStores
from tests.faults.fleet import SPARE, Fleet, Instance, fleet_of
from tests.faults.servers import OwnRedis, own_redis
from worker.jobs.job import NewJob, Spec
from worker.jobs.manager import JobStateManager

Point = dict[str, Any]

CONFIG = Config(control=ControlSection(flags=SPARE))
"""Of the fleets that are measured."""

SIZES = (20, 50, 100, 200, 400)
PROCESSES = 2
"""Those that hold the light replicas."""
CHANGES = 60
PAUSE_S = 0.03
IDLE_S = 8.0
SETTLE_S = 3.0
JOBS = 60_000
AT_ONCE = 1_000
EVENTS = 1
"""The benchmark's own listener to the events."""


class Turns:
    """Measures on ``stores``; ``folder`` is for what it starts itself."""

    def __init__(self, stores: LiveStores, folder: Path) -> None:
        self._stores = stores
        self._folder = folder

    async def idle(self, size: Size, seconds: float = IDLE_S) -> Point:
        """What a fleet without work asks of its stores, and what the model says that it does."""
        heard = replace(size, listeners=EVENTS)
        async with self._fleet(size) as (fleet, _):
            await asyncio.sleep(SETTLE_S)
            meter, used_s = Meter(fleet.redis), _used_s(fleet.all)
            await meter.start()
            await asyncio.sleep(seconds)
            spent = await meter.stop()
            used_s = _used_s(fleet.all) - used_s
            connections = await meter.connections() - EVENTS
            return {
                **asdict(size),
                "seconds": round(spent.seconds, 1),
                "measured": _rounded(asdict(spent.load)) | {"connections": connections},
                "predicted": _rounded(asdict(model.idle(heard, CONFIG)))
                | {"connections": model.connections(size, CONFIG).redis},
                "database_connections": await observed.database_connections(fleet.database_url),
                "redis_cpu_percent": round(100 * spent.cpu_s / spent.seconds, 2),
                "redis_mb": round(await meter.memory() / (1 << 20), 1),
                "instance_cpu_percent": round(100 * used_s / spent.seconds / len(fleet.all), 2),
                "service_mb": _mb(fleet.services),
                "worker_mb": _mb(fleet.workers),
            }

    async def changes(self, replicas: int, count: int = CHANGES) -> Point:
        """How long a change takes to be applied, and to be acknowledged, by that many replicas:
        a service, a worker, and light ones."""
        size = Size(services=1, workers=1, light=replicas - 2)
        async with self._fleet(size) as (fleet, light):
            assert light is not None
            await fleet.put(SPARE[0], True, wait="applied", timeout_s=30)  # the roll is whole now
            meter = Meter(fleet.redis)
            applied, acknowledged = [], []
            await meter.start()
            for number in range(count):
                flag = SPARE[number % len(SPARE)]
                await fleet.undebounce(flag)
                began, wall = time.perf_counter(), time.time()
                url = f"{fleet.services[0].url}/control/flags/{flag}/toggle"
                query = {"wait": "applied", "timeout": "30"}
                async with fleet.http.post(url, params=query) as response:
                    told = await response.json()
                    acknowledged.append((time.perf_counter() - began) * 1000)
                    assert response.status == 200, told
                    assert told["acknowledged"]["replicas"] == replicas, told["acknowledged"]
                    position = response.headers["ETag"].strip('"')
                applied.append((await light.last(position) - wall) * 1000)
                await asyncio.sleep(PAUSE_S)
            spent = await meter.stop()
            [event] = [e for e in fleet.events.heard if e.get("type") == "flags"][-1:]
        size = replace(size, listeners=EVENTS)
        said = model.change(replicas, event=len(json.dumps(event))).times(count)
        said += model.between_changes(size, CONFIG).times(spent.seconds)
        return {
            "replicas": replicas,
            "changes": count,
            "seconds": round(spent.seconds, 1),
            "applied_ms": spread(applied),
            "acknowledged_ms": spread(acknowledged),
            "measured": _rounded(
                {
                    "sent": (spent.sent - spent.calls.get("publish", 0)) / count,
                    "answered_kb": spent.answered_bytes / count / 1000,
                }
            ),
            "predicted": _rounded(
                {"sent": said.sent / count, "answered_kb": said.answered_bytes / count / 1000}
            ),
            "roll_reads": round(spent.calls.get("hget", 0) / count / replicas, 1),
            "redis_ms": round(spent.cpu_s / count * 1000, 2),
        }

    async def jobs(self, workers: int, count: int = JOBS) -> Point:
        """Jobs a second that so many workers do, from a full queue, results stored."""
        settings = {"DRAWBRIDGE_JOBS": "tests.benchmarks.kinds"}
        async with (
            own_redis(self._folder / f"jobs-{workers}") as server,
            fleet_of(1, workers, server, self._stores, proxied=False, **settings) as fleet,
        ):
            for one in fleet.workers:
                await one.says("phase", phase="running")
            run_ids = await self._backlog(fleet, count)
            meter = Meter(fleet.redis)
            await meter.start()
            used_s = _used_s(fleet.workers)
            for one in fleet.workers:
                one.replica.send(signal.SIGCONT)
            while await fleet.redis.xlen(keys.queue("io", "normal")):
                await asyncio.sleep(0.1)
            spent = await meter.stop()
            used_s = _used_s(fleet.workers) - used_s
            per_s = await _pace(fleet, run_ids)
        return {
            "workers": workers,
            "jobs": count,
            "per_s": round(per_s),
            "commands": round(spent.sent / count, 3),
            "inside": round(spent.inside / count, 1),
            "redis_us": round(spent.cpu_s / count * 1e6, 1),
            "worker_us": round(used_s / count * 1e6, 1),
            "bytes": round((spent.received_bytes + spent.answered_bytes) / count),
        }

    async def _backlog(self, fleet: Fleet, count: int) -> Sequence[str]:
        """Submit while the workers stand still, so that all of them begin at once."""
        for one in fleet.workers:
            one.replica.send(signal.SIGSTOP)
        engine = JobStateManager.of(fleet.redis, CONFIG.jobs)
        spec = Spec(kind="noop", correlation_id="bench")
        new = [NewJob(run_id=ids.new_id(), spec=spec, payload=b"{}") for _ in range(count)]
        for at in range(0, count, AT_ONCE):
            await asyncio.gather(*map(engine.create_job, new[at : at + AT_ONCE]))
        return [job.run_id for job in new]

    @asynccontextmanager
    async def _fleet(self, size: Size) -> AsyncIterator[tuple[Fleet, Listeners | None]]:
        folder = self._folder / f"{size.services}-{size.workers}-{size.light}"
        async with (
            own_redis(folder) as server,
            fleet_of(size.services, size.workers, server, self._stores, proxied=False) as fleet,
            _light(server, size.light) as light,
        ):
            await observed.load_scripts(fleet.redis)
            yield fleet, light


@asynccontextmanager
async def _light(server: OwnRedis, count: int) -> AsyncIterator[Listeners | None]:
    if not count:
        yield None
        return
    assert count % PROCESSES == 0
    async with listeners(server.url, PROCESSES, count // PROCESSES) as found:
        yield found


async def _pace(fleet: Fleet, run_ids: Sequence[str]) -> float:
    """Jobs a second in the middle nine tenths: neither the start nor who comes last counts."""
    ends: list[int] = []
    for at in range(0, len(run_ids), AT_ONCE):
        pipeline = fleet.redis.pipeline(transaction=False)
        for run_id in run_ids[at : at + AT_ONCE]:
            pipeline.hget(keys.job(run_id), "finished_at")
        ends += map(int, await pipeline.execute())
    ends.sort()
    first, last = int(len(ends) * 0.05), int(len(ends) * 0.95) - 1
    return (last - first) / ((ends[last] - ends[first]) / 1000)


def spread(took: Sequence[float]) -> dict[str, float]:
    """Median, 99th percentile and the worst, in the unit that was given."""
    found = {"p50": percentile(took, 50), "p99": percentile(took, 99), "worst": max(took)}
    return {name: round(value or 0.0, 1) for name, value in found.items()}


def _used_s(instances: Sequence[Instance]) -> float:
    """Processor time that they have used so far."""
    return sum(observed.processor_s(one.replica.pid) for one in instances)


def _mb(instances: Sequence[Instance]) -> float | None:
    """Memory of one of them, on average."""
    taken = [observed.resident_mb(one.replica.pid) for one in instances]
    return round(sum(taken) / len(taken), 1) if taken else None


def _rounded(values: dict[str, float]) -> dict[str, float]:
    return {name: round(value, 1) for name, value in values.items()}
