"""What Redis, PostgreSQL and the system count while something goes on."""

import time
from collections.abc import Mapping
from dataclasses import dataclass
from importlib.resources import files
from typing import Any

import asyncpg
import psutil
from redis.asyncio import Redis

from control.flags import projection
from tests.benchmarks.fleet.model import Load
from worker.jobs.scripts import names, text_of

SENT = ("evalsha", "eval", "ping", "publish", "subscribe")
"""What clients send; all else runs inside scripts. A script that publishes counts as sent: rare."""


@dataclass(frozen=True)
class Spent:
    """What Redis did meanwhile."""

    seconds: float
    calls: Mapping[str, int]
    """By command."""
    received_bytes: int
    answered_bytes: int
    cpu_s: float

    @property
    def sent(self) -> int:
        """Commands that clients sent."""
        return sum(self.calls.get(name, 0) for name in SENT)

    @property
    def inside(self) -> int:
        """Commands that scripts ran."""
        return sum(self.calls.values()) - self.sent

    @property
    def load(self) -> Load:
        """The same for each second."""
        return Load(self.sent, self.inside, self.received_bytes, self.answered_bytes).times(
            1 / self.seconds
        )


class Meter:
    """Reads Redis's counters, without counting itself."""

    def __init__(self, redis: Redis) -> None:
        self._redis: Any = redis
        self._began: tuple[float, dict[str, Any], dict[str, Any]] = (0.0, {}, {})

    async def start(self) -> None:
        """From now on."""
        counted = await self._redis.info("commandstats", "cpu")
        traffic = await self._redis.info("stats")
        self._began = time.monotonic(), counted, traffic

    async def stop(self) -> Spent:
        """Until now."""
        at, counted, traffic = self._began
        traffic_now = await self._redis.info("stats")
        counted_now = await self._redis.info("commandstats", "cpu")
        seconds = time.monotonic() - at
        before, after = _calls(counted), _calls(counted_now)
        calls = {name: count - before.get(name, 0) for name, count in after.items()}
        calls["info"] -= 2  # the two of `start` and `stop` that were counted
        return Spent(
            seconds,
            {name: count for name, count in calls.items() if count > 0},
            traffic_now["total_net_input_bytes"] - traffic["total_net_input_bytes"],
            traffic_now["total_net_output_bytes"]
            - traffic["total_net_output_bytes"]
            - _told(traffic),
            _cpu(counted_now) - _cpu(counted),
        )

    async def connections(self) -> int:
        """How many connections others have."""
        return len(await self._redis.client_list()) - 1

    async def memory(self) -> int:
        """Bytes that Redis uses."""
        said = await self._redis.info("memory")
        return int(said["used_memory"])


async def load_scripts(redis: Redis) -> None:
    """Load every script, as any fleet has that has run for a minute."""
    texts = [text_of(name) for name in names()]
    texts += projection.texts().values()
    texts += [item.read_text() for item in files("control.health").joinpath("lua").iterdir()]
    for text in texts:
        await redis.script_load(text)


async def database_connections(url: str) -> int:
    """How many connections the instances have to this database."""
    connection = await asyncpg.connect(url)
    try:
        found: int = await connection.fetchval(
            "SELECT count(*) FROM pg_stat_activity"
            " WHERE datname = current_database() AND application_name = 'drawbridge'"
        )
        return found
    finally:
        await connection.close()


def resident_mb(pid: int) -> float:
    """Memory of a process."""
    return float(psutil.Process(pid).memory_info().rss / (1 << 20))


def processor_s(pid: int) -> float:
    """Processor time that a process has used."""
    times = psutil.Process(pid).cpu_times()
    return float(times.user + times.system)


def _calls(said: Mapping[str, Any]) -> dict[str, int]:
    return {
        name.removeprefix("cmdstat_"): entry["calls"]
        for name, entry in said.items()
        if name.startswith("cmdstat_")
    }


def _told(said: Mapping[str, Any]) -> int:
    """About the bytes of the answer to `start` itself."""
    return sum(len(name) + len(str(value)) + len(":\r\n") for name, value in said.items())


def _cpu(said: Mapping[str, Any]) -> float:
    return float(said["used_cpu_user"] + said["used_cpu_sys"])
