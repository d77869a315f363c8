"""How fast a change reaches everybody, and what an idle fleet costs: `make bench-control`.

Real processes on real stores of their own. Times are taken from the processes' own log lines, on
the clock that all processes of a machine share. Figures to compare, not to assert; with --json one
JSON object. ``--only NAME`` (repeated) takes some of: applied, light, waits, idle, repair, silence.
"""

import asyncio
import json
import os
import platform
import statistics
import sys
import tempfile
import time
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from datetime import datetime
from pathlib import Path
from typing import Any

import asyncpg

from control import ids, keys
from control.flags.document import Position
from control.lifespan import new_loop
from deploy.embedded.folder import DataFolder
from tests.benchmarks.listeners import listeners
from tests.conftest import LiveStores
from tests.faults.fleet import SPARE, Fleet, Instance, fleet_of
from tests.faults.servers import OwnRedis, own_redis
from tests.stack import wait_until

CHANGES = 200
WARM = 10
"""Changes that are not counted: instances that have just started have other things to do."""
REPLICAS = 20
LIGHT = (5, 20)
"""Processes, and replicas in each."""
IDLE_S = 10.0
STATISTICS_S = 12.0
"""Idle connections tell PostgreSQL's statistics what they did after ten seconds."""
_PAUSE_S = 0.05
"""Between two changes: what the last one stirs up is over."""
_STILL_S = 0.1
"""How long after a command nothing is read: who measures must not take the processor from those
that are measured."""

Figures = dict[str, Any]


class Bench:
    """The measurements. Each starts a fleet of its own."""

    def __init__(self, stores: LiveStores, server: OwnRedis) -> None:
        self._stores = stores
        self._server = server

    async def applied(self) -> Figures:
        """Command published, until the last of 20 services and workers has applied it."""
        async with self._fleet(REPLICAS // 2, REPLICAS // 2) as fleet:
            announced, last = [], []
            for number in range(-WARM, CHANGES):
                began, position = await self._published(fleet, number)
                await fleet.agreed(position)
                if number < 0:
                    continue
                announced.append((await _announced(fleet, position) - began) * 1000)
                last.append(
                    (max(applied_at(one, str(position)) for one in fleet.all) - began) * 1000
                )
                await asyncio.sleep(_PAUSE_S)
            return {
                "published to committed and announced, ms": spread(announced),
                f"published to last of {REPLICAS} applied, ms": spread(last),
            }

    async def light(self) -> Figures:
        """The same with 100 lightweight replicas beside a service and a worker."""
        async with self._fleet(1, 1) as fleet, listeners(self._server.url, *LIGHT) as others:
            took = []
            for number in range(CHANGES):
                began, position = await self._published(fleet, number)
                took.append((await others.last(str(position)) - began) * 1000)
                await asyncio.sleep(_PAUSE_S)
            count = LIGHT[0] * LIGHT[1]
            return {f"published to last of {count} light replicas applied, ms": spread(took)}

    async def waits(self) -> Figures:
        """PUT with wait=applied, from request to answer, with 4 instances."""
        async with self._fleet(2, 2) as fleet:
            await fleet.put(SPARE[0], True, wait="applied", timeout_s=15)  # the roll is whole now
            took = []
            for number in range(CHANGES):
                flag = SPARE[number % len(SPARE)]
                await fleet.undebounce(flag)
                began = time.perf_counter()
                url = f"{fleet.services[0].url}/control/flags/{flag}/toggle"
                async with fleet.http.post(url, params={"wait": "applied"}) as response:
                    assert response.status == 200, await response.text()
                took.append((time.perf_counter() - began) * 1000)
            return {"wait=applied with 4 instances, ms": spread(took)}

    async def idle(self) -> Figures:
        """What four instances without work send in ten seconds."""
        async with self._fleet(2, 2) as fleet:
            await fleet.put(SPARE[0], True, wait="applied", timeout_s=15)
            await asyncio.sleep(STATISTICS_S)
            scans = await flag_scans(fleet.database_url)
            counted = await commands_of(self._server.socket, IDLE_S)
            scans = await flag_scans(fleet.database_url) - scans
        reads = {name: count for name, count in counted.items() if keys.FLAGS in name}
        return {
            f"idle fleet of 4: commands a second of {IDLE_S:g} s": {
                name: round(count / IDLE_S, 1) for name, count in counted.most_common()
            },
            "idle fleet of 4: reads of the flags, Redis (PostgreSQL scans)": f"{reads} ({scans})",
        }

    async def repair(self) -> Figures:
        """FLUSHALL, until the projection is whole again."""
        async with self._fleet(2, 1) as fleet:
            took = []
            for _ in range(20):
                await asyncio.sleep(_PAUSE_S * len(took))  # another moment of the beacon's second
                await fleet.redis.flushall()
                began = time.perf_counter()
                await wait_until(lambda: fleet.projected(fleet.redis))
                took.append((time.perf_counter() - began) * 1000)
            return {"FLUSHALL to projected again, ms": spread(took)}

    async def silence(self) -> Figures:
        """A link that swallows everything: until the instance says that it is stale."""
        async with fleet_of(2, 1, self._server, self._stores) as fleet:
            noticed, caught_up = [], []
            one = fleet.services[1]
            for number in range(8):
                await fleet.settled(1)
                after = len(one.said("control state stale"))
                began = time.time()
                one.redis.swallow()
                position = await fleet.change(SPARE[number], True)
                stale = await one.says("control state stale", after=after)
                await one.applies(position)
                noticed.append((moment(stale) - began) * 1000)
                caught_up.append((moment(one.said("flags applied")[-1]) - began) * 1000)
                one.redis.heal()
            return {
                "link swallows to staleness noticed, ms": spread(noticed),
                "link swallows to change known by PostgreSQL, ms": spread(caught_up),
            }

    @asynccontextmanager
    async def _fleet(self, services: int, workers: int) -> AsyncIterator[Fleet]:
        async with fleet_of(services, workers, self._server, self._stores, proxied=False) as fleet:
            yield fleet

    async def _published(self, fleet: Fleet, number: int) -> tuple[float, Position]:
        """Publish one change; when, and the position that it made."""
        flag, command_id = SPARE[number % len(SPARE)], ids.new_id()
        await fleet.undebounce(flag)
        after, began = len(fleet.events.heard), time.time()
        value = number // len(SPARE) % 2 == 0
        await fleet.publish("set", flag, value=value, id=command_id, reason=f"number {number}")
        time.sleep(_STILL_S)
        event = await fleet.events.first(after=after, command_id=command_id)
        return began, Position(event["epoch"], event["version"])


async def _announced(fleet: Fleet, position: Position) -> float:
    """When the controller published what it had committed, in seconds since 1970."""
    epoch, version = position
    event = await fleet.events.first(type="flags", epoch=epoch, version=version)
    return datetime.fromisoformat(event["at"]).timestamp()


def applied_at(one: Instance, position: str) -> float:
    """When an instance applied that document, in seconds since 1970."""
    return moment(one.said("flags applied", position=position)[0])


def moment(line: dict[str, Any]) -> float:
    """When a line was logged."""
    return datetime.fromisoformat(line["timestamp"]).timestamp()


def spread(took: list[float]) -> dict[str, float]:
    """Median, 99th percentile and the worst."""
    ordered = sorted(took)
    p99 = ordered[min(len(ordered) - 1, round(len(ordered) * 0.99))]
    found = {"median": statistics.median(ordered), "p99": p99, "worst": ordered[-1]}
    return {name: round(value, 2) for name, value in found.items()}


async def commands_of(socket: str, seconds: float) -> Counter[str]:
    """What clients (scripts apart) send to Redis: the command and its first key."""
    reader, writer = await asyncio.open_unix_connection(socket, limit=1 << 24)
    writer.write(b"MONITOR\r\n")
    await reader.readline()
    found: Counter[str] = Counter()
    try:
        async with asyncio.timeout(seconds):
            while line := await reader.readline():
                if b"lua]" not in line:
                    words = line.decode(errors="replace").split('"')[1::2]
                    found[_shape(words)] += 1
    except TimeoutError:
        pass
    writer.transport.abort()
    return found


def _shape(words: list[str]) -> str:
    verb = words[0].upper()
    if verb == "EVALSHA":
        return f"EVALSHA on {words[3]}"
    return f"{verb} {words[1]}" if verb in ("GET", "HGET", "PUBLISH") else verb


async def flag_scans(database_url: str) -> int:
    """How often PostgreSQL has looked into the tables of the flags."""
    connection = await asyncpg.connect(database_url)
    try:
        await connection.execute("SELECT pg_stat_force_next_flush()")
        found: int = await connection.fetchval(
            "SELECT sum(seq_scan + coalesce(idx_scan, 0))::bigint FROM pg_stat_user_tables"
            " WHERE relname IN ('bp_app_status_master', 'flags_state')"
        )
        return found
    finally:
        await connection.close()


async def measure(wanted: list[str]) -> Figures:
    """All measurements, or those wanted by name."""
    figures: Figures = {"machine": machine()}
    with tempfile.TemporaryDirectory() as name:
        folder = DataFolder(Path(name) / "stores")
        stores = LiveStores(folder)
        try:
            await stores.start_all()
            for each in ("applied", "light", "waits", "idle", "repair", "silence"):
                if not wanted or each in wanted:
                    async with own_redis(Path(name) / each) as server:
                        run: Callable[[], Awaitable[Figures]] = getattr(Bench(stores, server), each)
                        figures |= await run()
        finally:
            await stores.close()
            folder.close()
    return figures


def machine() -> str:
    """What the figures are of."""
    python = platform.python_version()
    return f"{platform.system()} {platform.machine()}, {os.cpu_count()} processors, Python {python}"


def main() -> None:
    """Measure and print."""
    wanted = [sys.argv[at + 1] for at, word in enumerate(sys.argv) if word == "--only"]
    with asyncio.Runner(loop_factory=new_loop) as runner:
        figures = runner.run(measure(wanted))
    if "--json" in sys.argv:
        print(json.dumps(figures))
    else:
        for told, figure in figures.items():
            print(f"{told}: {figure}")


if __name__ == "__main__":
    main()
