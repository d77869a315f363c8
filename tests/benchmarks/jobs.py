"""What the job engine does on this machine: `make bench`. Figures to compare, not to assert.

Stores of its own, one process that submits, one real worker with default settings. Prints one line
a measurement; with --json one JSON object.
"""

import asyncio
import json
import statistics
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import msgspec
import psutil

from control import keys
from control.ids import new_id
from control.lifespan import new_loop
from control.stores import redis
from control.stores.wire import Wire
from deploy.embedded.folder import DataFolder
from tests.benchmarks.propagation import commands_of
from tests.conftest import LiveStores, open_gate
from tests.processes import Replica, replica
from worker.jobs.job import NewJob, Spec
from worker.jobs.manager import JobStateManager

ROUNDS = 3
ONE_BY_ONE, TOGETHER, DRAINED = 4_000, 20_000, 40_000
SAMPLES = 1_000
IDLE_S = 10.0
AT_ONCE = 1_000
WARM = 0.05
"""The part of a drain that is not counted, while the worker has just begun."""

# What clients send; whatever else Redis counts happens inside scripts.
_SENT = ("evalsha", "eval", "ping", "subscribe", "ssubscribe", "hgetall")
Figures = dict[str, float]


class Bench:
    """The measurements. ``client`` is Redis, ``jobs`` the engine on it."""

    def __init__(self, stores: LiveStores) -> None:
        self._stores = stores
        self.client = redis.client(stores.addresses.redis_url, timeout_s=60)
        self.jobs = JobStateManager(self.client, result_ttl_s=600, lease_s=15)
        self._wire = Wire(self.client)

    async def enqueue(self) -> Figures:
        """Submissions a second: one by one, and many at the same time."""
        await self._empty()
        began = time.perf_counter()
        for _ in range(ONE_BY_ONE):
            await self.jobs.create_job(_new("noop"))
        between = time.perf_counter()
        await asyncio.gather(*(self.jobs.create_job(_new("noop")) for _ in range(TOGETHER)))
        return {
            "submissions/s, each waiting for the one before": ONE_BY_ONE / (between - began),
            "submissions/s, all at once": TOGETHER / (time.perf_counter() - between),
        }

    async def drain(self) -> Figures:
        """Jobs a second that a worker runs, with status and result stored, from a full queue; what
        that costs in commands and in both processes' time."""
        await self._empty()
        new = [_new("noop") for _ in range(DRAINED)]
        for at in range(0, DRAINED, AT_ONCE):
            await asyncio.gather(*map(self.jobs.create_job, new[at : at + AT_ONCE]))
        before = await self._spent()
        async with self._worker() as worker:
            last = keys.job(new[-1].run_id)
            while await self._wire("XLEN", keys.queue("io", "normal")):
                await asyncio.sleep(0.05)
            assert await self._wire("HGET", last, "result") is not None
            redis_s = await self._spent() - before
            worker_s = sum(psutil.Process(worker.pid).cpu_times()[:2])
            sent = sum((await self._sent()).values())
            rss = psutil.Process(worker.pid).memory_info().rss
        ends = []
        for at in range(0, DRAINED, AT_ONCE):
            some = (keys.job(job.run_id) for job in new[at : at + AT_ONCE])
            ends += await asyncio.gather(*(self._wire("HGET", k, "finished_at") for k in some))
        moments = sorted(map(int, ends))
        first = int(DRAINED * WARM)
        return {
            "jobs/s drained by a worker": (DRAINED - first)
            / ((moments[-1] - moments[first]) / 1000),
            "commands a job": sent / DRAINED,
            "µs of Redis a job": redis_s / DRAINED * 1e6,
            "µs of the worker a job (with its start)": worker_s / DRAINED * 1e6,
            "MiB of the worker afterwards": rss / (1 << 20),
        }

    async def idle(self) -> Figures:
        """What an idle worker sends, and how soon it takes up a job."""
        await self._empty()
        async with self._worker() as worker:
            await worker.logged("joined")
            for _ in range(20):
                await self._picked_up()
            took = sorted([await self._picked_up() for _ in range(SAMPLES)])
            rss = psutil.Process(worker.pid).memory_info().rss
            sent = await commands_of(urlsplit(self._stores.addresses.redis_url).path, IDLE_S)
        return {
            "ms until an idle worker begins a job, median": statistics.median(took) * 1000,
            "ms until an idle worker begins a job, p99": took[int(SAMPLES * 0.99)] * 1000,
            "MiB of an idle worker": rss / (1 << 20),
            **{
                f"commands/s of an idle worker: {purpose}": count / IDLE_S
                for purpose, count in _by_purpose(sent).items()
            },
        }

    async def _picked_up(self) -> float:
        """Seconds from the submission of a job to its beginning."""
        job = _new("pickup", msgspec.json.encode(time.time()))
        await self.jobs.create_job(job)
        while (result := await self.jobs.get_result(job.run_id)) is None:
            await asyncio.sleep(0.001)
        took: float = msgspec.json.decode(result)
        return took

    @asynccontextmanager
    async def _worker(self) -> AsyncIterator[Replica]:
        settings = {"DRAWBRIDGE_JOBS": "tests.benchmarks.kinds"}
        await self._sent()
        async with replica("worker", self._stores.environment, **settings) as running:
            await running.logged("phase", phase="running")
            yield running

    async def _empty(self) -> None:
        await self.client.flushall()
        await open_gate(self.client)

    async def _sent(self) -> dict[str, float]:
        """The commands that were sent since the last call of this, by name."""
        stats: dict[str, Any] = await self.client.info("commandstats")
        await self.client.config_resetstat()
        calls = {name.removeprefix("cmdstat_"): said["calls"] for name, said in stats.items()}
        return {name: calls[name] for name in _SENT if calls.get(name)}

    async def _spent(self) -> float:
        """Seconds of processor time that Redis has used."""
        said: dict[str, Any] = await self.client.info("cpu")
        return float(said["used_cpu_user"] + said["used_cpu_sys"])


def _by_purpose(sent: Mapping[str, int]) -> dict[str, int]:
    """The commands of the job engine (waiting for work, its lease), those of the control plane
    (presence, proof of the link, beacon) and those of the health check of Redis."""
    found = {"jobs": 0, "control plane": 0, "health check": 0}
    for shape, count in sent.items():
        if shape.startswith(("INFO", "SET", "GET")):
            found["health check"] += count
        elif "{jobs}" in shape and keys.FLAGS not in shape:
            found["jobs"] += count
        else:
            found["control plane"] += count
    return found


def _new(kind: str, payload: bytes = b"{}") -> NewJob:
    return NewJob(run_id=new_id(), spec=Spec(kind=kind, correlation_id="bench"), payload=payload)


async def measure(chosen: Callable[[str], bool]) -> Figures:
    """The median of each measurement over the rounds."""
    found: dict[str, list[float]] = {}
    with tempfile.TemporaryDirectory() as name:
        folder = DataFolder(Path(name) / "data")
        stores = LiveStores(folder)
        try:
            await stores.start_all()
            bench = Bench(stores)
            for _ in range(ROUNDS):
                for measurement in (bench.enqueue, bench.drain, bench.idle):
                    if chosen(measurement.__name__):
                        for told, figure in (await measurement()).items():
                            found.setdefault(told, []).append(figure)
            await bench.client.aclose()
        finally:
            await stores.close()
            folder.close()
    return {told: statistics.median(values) for told, values in found.items()}


def main() -> None:
    """Measure and print; arguments name what to measure (enqueue, drain, idle), none: all."""
    named = [argument for argument in sys.argv[1:] if not argument.startswith("-")]
    with asyncio.Runner(loop_factory=new_loop) as runner:
        figures = runner.run(measure(lambda name: not named or name in named))
    if "--json" in sys.argv:
        print(json.dumps(figures))
    else:
        for told, figure in figures.items():
            print(f"{figure:12,.2f}  {told}")


if __name__ == "__main__":
    main()
