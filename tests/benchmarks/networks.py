"""How long a large network takes to be stored, and how much memory: `python -m
tests.benchmarks.networks [EDGES] [--solve]` (a million).

A service, a worker and stores of its own; the upload is made of CSV tables on the fly, a tenth as
many nodes as edges. What is told of memory is the largest resident size while it ran, less what the
process had before. With --solve the best flow is computed too and written back; then the phases of
that job and the memory of its process are told as well. Set NEO4J_JARS (see `make test-neo4j`) to
measure on Neo4j. With --json one JSON object.
"""

import asyncio
import json
import random
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import AsyncExitStack, suppress
from pathlib import Path
from typing import Any

import aiohttp
import psutil

from control.clock import SystemClock
from control.config import load
from control.lifespan import new_loop
from control.networks.reading import NetworkReader
from control.stores.graph import Graph
from deploy.embedded.folder import DataFolder
from tests.conftest import LiveStores, pytest_configure
from tests.processes import Replica, replica

EDGES = 1_000_000
SAMPLE_S = 0.2


def nodes(count: int) -> Iterator[str]:
    """The table of nodes; what the first half gives the second half takes."""
    yield "id,supply,x,y\n"
    for at in range(count):
        yield f"node-{at},{1 if at < count // 2 else -1},{at % 360},{at % 180}\n"


def edges(count: int, among: int) -> Iterator[str]:
    """The table of edges: a ring, which makes it feasible, then any."""
    drawn = random.Random(6)
    yield "source,target,cost,capacity,lower\n"
    for at in range(count):
        ring = at < among
        source = at if ring else drawn.randrange(among)
        target = (at + 1) % among if ring else drawn.randrange(among)
        capacity = "" if ring else drawn.randrange(1, 50)
        yield f"node-{source},node-{target},{drawn.randrange(1, 1000)},{capacity},0\n"


async def sent(lines: Iterator[str]) -> AsyncIterator[bytes]:
    """The lines in blocks."""
    waiting: list[str] = []
    for line in lines:
        waiting.append(line)
        if len(waiting) == 5_000:
            yield "".join(waiting).encode()
            waiting = []
            await asyncio.sleep(0)
    yield "".join(waiting).encode()


class Sizes:
    """The largest resident sizes of some processes, in MB."""

    def __init__(self, **pids: int) -> None:
        self._processes = {name: psutil.Process(pid) for name, pid in pids.items()}
        self.before = {name: self._of(process) for name, process in self._processes.items()}
        self.peak = dict(self.before)

    async def watch(self) -> None:
        """Look again and again, for ever."""
        while True:
            for name, process in self._processes.items():
                self.peak[name] = max(self.peak[name], self._of(process))
            await asyncio.sleep(SAMPLE_S)

    @staticmethod
    def _of(process: psutil.Process) -> int:
        return int(process.memory_info().rss / 1e6)


async def ended(http: aiohttp.ClientSession, receipt: dict[str, Any]) -> dict[str, Any]:
    """The record of the job once it has ended; its phases are told as they come."""
    phase = ""
    while True:
        async with http.get(receipt["links"]["status"]) as response:
            record: dict[str, Any] = await response.json()
        told = record["progress"] or {}
        if told.get("phase", phase) != phase:
            phase = told["phase"]
            print(f"{time.strftime('%X')} {phase}", file=sys.stderr)
        if record["status"] in ("completed", "failed"):
            return record
        await asyncio.sleep(0.5)


async def measure(count: int) -> dict[str, Any]:
    """The figures."""
    async with AsyncExitStack() as stack:
        name = stack.enter_context(tempfile.TemporaryDirectory())
        folder = DataFolder(Path(name) / "data")
        stores = LiveStores(folder)
        stack.callback(folder.close)
        stack.push_async_callback(stores.close)
        await stores.start_all()
        service = await stack.enter_async_context(replica("service", stores.environment))
        worker = await stack.enter_async_context(replica("worker", stores.environment))
        url = (await service.logged("serving"))["url"]
        await worker.logged("working")
        http = await stack.enter_async_context(aiohttp.ClientSession(url))
        return await _measured(count, http, stores, service, worker)


async def _measured(
    count: int, http: aiohttp.ClientSession, stores: LiveStores, service: Replica, worker: Replica
) -> dict[str, Any]:
    sizes = Sizes(service=service.pid, worker=worker.pid, graph=stores.pid("graph"))
    watching = asyncio.create_task(sizes.watch())
    among = count // 10
    form = aiohttp.FormData()
    form.add_field("nodes", sent(nodes(among)), filename="nodes.csv")
    form.add_field("edges", sent(edges(count, among)), filename="edges.csv")
    began = time.perf_counter()
    async with http.post("/ingest", data=form, params={"name": "bench"}) as response:
        receipt = await response.json()
        assert response.status == 202, receipt
    uploaded = time.perf_counter()
    record = await ended(http, receipt)
    assert record["status"] == "completed", record
    stored = time.perf_counter()
    reader_s, seen = await _read(stores)
    assert seen == count
    watching.cancel()
    solved = await _solved(http, worker) if "--solve" in sys.argv else {}
    return {
        "edges": count,
        "nodes": among,
        "upload_s": round(uploaded - began, 1),
        "ingest_s": round(stored - uploaded, 1),
        "edges_per_s": round(count / (stored - uploaded)),
        "read_s": round(reader_s, 1),
        "peak_mb": sizes.peak,
        "grown_mb": {name: sizes.peak[name] - sizes.before[name] for name in sizes.peak},
        **solved,
    }


async def _solved(http: aiohttp.ClientSession, worker: Replica) -> dict[str, Any]:
    """The figures of a job that computes the flow and writes it back."""
    asked = {"problem": {"format": "network", "network": "bench"}, "write_back": True}
    began, phases, peak = time.perf_counter(), dict[str, float](), 0
    async with http.post("/optimize", json=asked) as response:
        receipt = await response.json()
    while True:
        async with http.get(receipt["links"]["status"]) as response:
            record = await response.json()
        now = time.perf_counter()
        phases.setdefault(
            (record["progress"] or {}).get("phase", "starting"), round(now - began, 1)
        )
        for process in psutil.Process(worker.pid).children():
            with suppress(psutil.Error):
                peak = max(peak, int(process.memory_info().rss / 1e6))
        if record["status"] in ("completed", "failed"):
            break
        await asyncio.sleep(SAMPLE_S)
    assert record["status"] == "completed", record
    async with http.get(receipt["links"]["result"]) as response:
        body = await response.read()
    result = json.loads(body)
    return {
        "flow": [result["outcome"], result["objective"], result["written_back"]],
        "phases_at_s": phases,
        "solve_s": round(result["solve_s"], 1),
        "job_s": round(now - began, 1),
        "job_peak_mb": peak,
        "result_mb": round(len(body) / 1e6, 1),
    }


async def _read(stores: LiveStores) -> tuple[float, int]:
    """Seconds that reading all pages took, and how many arcs there were."""
    began, seen = time.perf_counter(), 0
    async with Graph(load(("stores", stores.environment)).graph) as graph:
        reader = NetworkReader(graph, SystemClock())
        network = await reader.open("bench")
        async for piece in reader.arcs(network):
            seen += len(piece)
    return time.perf_counter() - began, seen


def main() -> None:
    """Measure and print."""
    pytest_configure()
    given = [int(each) for each in sys.argv[1:] if each.isdecimal()]
    with asyncio.Runner(loop_factory=new_loop) as runner:
        figures = runner.run(measure(given[0] if given else EDGES))
    if "--json" in sys.argv:
        print(json.dumps(figures))
        return
    for label, figure in figures.items():
        print(f"{label:12} {figure}")


if __name__ == "__main__":
    main()
