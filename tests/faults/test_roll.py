"""A roll at noon: every instance restarted under traffic, the bridge raised and lowered, kill -9.

HAProxy stands in front with the configuration that is shipped; a client of its own counts.
"""

import asyncio
import json
import signal
import socket
import sys
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, ExitStack, asynccontextmanager
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from control.migrations import migrate
from tests.conftest import LiveStores
from tests.faults import haproxy
from tests.faults.haproxy import Balancer, balancing
from tests.faults.servers import own_redis
from tests.processes import Replica, replica
from tests.stack import ROOT, SO_S, clean_environment, wait_until

TOKEN = "of-the-test-of-the-roll"
LEASE_S = 2
DONE = "job ended"

Line = dict[str, Any]


class Roll:
    """The fleet under traffic."""

    def __init__(self, environment: dict[str, str], ports: dict[str, int], log: Path) -> None:
        self._environment = environment
        self._ports = ports
        self._log = log
        self._running: dict[str, tuple[Replica, AsyncExitStack]] = {}
        self.retired: list[Replica] = []

    @property
    def replicas(self) -> list[Replica]:
        """All that run or ran."""
        return [*self.retired, *(running for running, _ in self._running.values())]

    async def start(self, name: str) -> None:
        """Start one instance and wait until it works."""
        role = name.partition("-")[0]
        stack = AsyncExitStack()
        running = await stack.enter_async_context(
            replica(role, self._environment, port=self._ports.get(name, 0))
        )
        self._running[name] = running, stack
        if role == "service":
            await running.logged("serving")
        else:
            await running.logged("phase", phase="running")

    async def end(self, name: str, number: signal.Signals) -> None:
        """Send it a signal and wait until it is gone."""
        running, stack = self._running.pop(name)
        running.send(number)
        await running.ended()
        await stack.aclose()
        self.retired.append(running)

    async def close(self) -> None:
        """End them all."""
        for running, stack in list(self._running.values()):
            running.send(signal.SIGKILL)
            await stack.aclose()

    def lines(self) -> list[Line]:
        """What the client noted so far."""
        text = self._log.read_text() if self._log.exists() else ""
        return [json.loads(line) for line in text.splitlines(keepends=True) if line.endswith("\n")]

    async def traffic_goes_on(self) -> None:
        """Wait until jobs were accepted and followed to their ends after this moment."""
        seen = len(self.lines())

        def so() -> bool:
            did = Counter(
                line["did"] for line in self.lines()[seen:] if line["status"] in (200, 202)
            )
            return did["submit"] >= 20 and did["read"] >= 20 and did["follow"] >= 5

        await wait_until(so)

    def completions(self) -> Counter[str]:
        """How often each job was completed, as the workers tell."""
        return Counter(
            line["run_id"]
            for each in self.replicas
            for line in each.lines
            if line["event"] == DONE and line.get("status") == "completed"
        )


def free_ports(names: list[str]) -> dict[str, int]:
    """A port of this machine for each name, nobody's at this moment."""
    with ExitStack() as held:
        sockets = {
            name: held.enter_context(socket.create_server(("127.0.0.1", 0))) for name in names
        }
        return {name: each.getsockname()[1] for name, each in sockets.items()}


@asynccontextmanager
async def traffic(url: str, log: Path) -> AsyncIterator[asyncio.subprocess.Process]:
    """The client, in a process of its own."""
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "tests.faults.caller", url, str(log), TOKEN,
        cwd=ROOT, env=clean_environment(),
    )  # fmt: skip
    try:
        yield process
    finally:
        if process.returncode is None:
            process.kill()
        await process.wait()


async def put_maintenance(url: str, raised: bool) -> None:
    path = f"{url}/control/flags/app_maintenance?wait=quiesced&timeout=30"
    headers = {"Authorization": f"Bearer {TOKEN}"}
    async with aiohttp.ClientSession(headers=headers) as http:

        async def done() -> bool:
            async with http.put(path, json={"is_active": raised}) as answer:
                if answer.status == 429:  # too soon after the last change
                    return False
                assert answer.status == 200, await answer.text()
                return True

        await wait_until(done)


def failures(lines: list[Line]) -> list[Line]:
    """What was not answered as it should be. A raised bridge is an answer."""
    return [
        line
        for line in lines
        if line["did"] != "ended"
        and line["status"] not in (200, 202, 204)
        and "bridge-up" not in str(line.get("error"))
    ]


@asynccontextmanager
async def rolling(
    stores: LiveStores, database_url: str, folder: Path, services: int, workers: int
) -> AsyncIterator[tuple[Roll, Balancer]]:
    """The fleet behind HAProxy, with a Redis of its own."""
    await migrate(database_url)
    names = [f"service-{number}" for number in range(services)]
    async with AsyncExitStack() as stack:
        server = await stack.enter_async_context(own_redis(folder / "redis"))
        ports = free_ports([*names, "haproxy"])
        environment = stores.environment | {
            "REDIS_URL": server.url,
            "DATABASE_URL": database_url,
            "DRAWBRIDGE_ADMIN_TOKEN": TOKEN,
            "DRAWBRIDGE_JOBS": "tests.kinds",
            "DRAWBRIDGE_LEASE_S": str(LEASE_S),
            "DRAWBRIDGE_LOG_LEVEL": "debug",
        }
        roll = Roll(environment, ports, folder / "calls.jsonl")
        stack.push_async_callback(roll.close)
        await asyncio.gather(
            *(roll.start(name) for name in names),
            *(roll.start(f"worker-{number}") for number in range(workers)),
        )
        port = ports.pop("haproxy")
        balancer = await stack.enter_async_context(balancing(port, list(ports.values())))
        await balancer.has(services)
        yield roll, balancer


async def roll_all(roll: Roll, balancer: Balancer, services: int, workers: int) -> None:
    """Restart each instance by SIGTERM, one after the other."""
    for number in range(services):
        await roll.end(f"service-{number}", signal.SIGTERM)
        await roll.start(f"service-{number}")
        await balancer.has(services)
    for number in range(workers):
        await roll.end(f"worker-{number}", signal.SIGTERM)
        await roll.start(f"worker-{number}")
    await roll.traffic_goes_on()


@pytest.mark.skipif(haproxy.PROGRAM is None, reason="haproxy is not installed")
@pytest.mark.parametrize(
    ("services", "workers"),
    [pytest.param(2, 1, id="short"), pytest.param(3, 2, id="whole", marks=pytest.mark.soak)],
)
async def test_a_roll_fails_no_request_and_kills_lose_no_job(
    stores: LiveStores, database_url: str, tmp_path: Path, services: int, workers: int
) -> None:
    async with rolling(stores, database_url, tmp_path, services, workers) as (roll, balancer):
        log = tmp_path / "calls.jsonl"
        async with traffic(balancer.url, log) as client:
            await roll.traffic_goes_on()
            await roll_all(roll, balancer, services, workers)
            await put_maintenance(balancer.url, True)
            await put_maintenance(balancer.url, False)
            await roll.traffic_goes_on()
            graceful = roll.lines()
            for name in ("service-0", "worker-0"):
                await roll.end(name, signal.SIGKILL)
                await roll.start(name)
            await balancer.has(services)
            await roll.traffic_goes_on()
            client.terminate()
            assert await asyncio.wait_for(client.wait(), 2 * SO_S) == 0

        assert failures(graceful) == []
        accepted = {line["run_id"] for line in roll.lines() if line["status"] == 202}
        ended = {line["run_id"]: line["job"] for line in roll.lines() if line["did"] == "ended"}
        assert ended.keys() == accepted
        assert set(ended.values()) == {"completed"}, "none was lost"
        assert max(roll.completions().values()) == 1, "none was completed twice"
        print(f"{len(graceful)} requests without a failure, {len(accepted)} jobs")
