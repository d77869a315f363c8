"""How many times a second /ready answers beside a bare handler: `python -m tests.benchmarks.ready`.

Each is asked over real sockets in the same run, in turn, by callers in a process of their own:
while the dependencies are well, and again while each of them is frozen (SIGSTOP). Prints requests
for each second of the server's processor, which other work on the machine does not change much; and
how many commands and transactions a second the stores were asked, with nobody asking for health
and with these callers. With --json one JSON object.
"""

import asyncio
import contextlib
import json
import signal
import socket
import statistics
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import asyncpg
import psutil
from aiohttp import web
from redis.asyncio import Redis

from control import ids, logs
from control.config import load
from control.health.probes import Probes
from control.lifespan import Lifespan, new_loop
from control.listener import serving
from service import app as service_app
from service.appkeys import PROBES
from tests.stack import STORES_ALONE, Stack, wait_until

ROUNDS, REQUESTS, CONNECTIONS = 5, 500, 8
IDLE_S = 5.0
BARE = "/bare"
PATHS = ("/ready", "/health", "/health/detailed", BARE)


async def bare(_request: web.Request) -> web.Response:
    """The least that answers JSON."""
    return web.json_response({"status": "ok"})


async def ask(port: int, path: str) -> None:
    """The callers: each keeps its connection and asks again as soon as it is answered."""
    request = f"GET {path} HTTP/1.1\r\nHost: x\r\n\r\n".encode()

    async def one() -> None:
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        for _ in range(REQUESTS):
            writer.write(request)
            head = await reader.readuntil(b"\r\n\r\n")
            length = int(head.lower().split(b"content-length: ")[1].split(b"\r\n")[0])
            await reader.readexactly(length)
        writer.close()
        with contextlib.suppress(ConnectionError):
            await writer.wait_closed()

    await asyncio.gather(*(one() for _ in range(CONNECTIONS)))


async def measured(port: int, path: str) -> float:
    """Requests for each second of this process's own time; the callers are another process."""
    command = (sys.executable, "-m", "tests.benchmarks.ready", "--ask", str(port), path)
    asking = await asyncio.create_subprocess_exec(*command)
    began = time.process_time()
    assert await asking.wait() == 0
    return REQUESTS * CONNECTIONS / (time.process_time() - began)


async def rates(ports: dict[str, int]) -> dict[str, int]:
    """The median of each path's rates."""
    found: dict[str, list[float]] = {path: [] for path in ports}
    for _ in range(ROUNDS):
        for path, port in ports.items():
            found[path].append(await measured(port, path))
    return {path: round(statistics.median(each)) for path, each in found.items()}


class Load:
    """What the stores have been asked."""

    def __init__(self, redis: Redis, postgres: asyncpg.Connection) -> None:
        self._redis = redis
        self._postgres = postgres
        self._before = (0.0, 0, 0)

    async def begin(self) -> None:
        """Count from here."""
        self._before = await self._now()

    async def each_second(self) -> dict[str, float]:
        """Commands and transactions since then."""
        now = await self._now()
        seconds, commands, transactions = (b - a for a, b in zip(self._before, now, strict=True))
        return {
            "redis_commands": round(commands / seconds, 1),
            "postgres_transactions": round(transactions / seconds, 1),
        }

    async def _now(self) -> tuple[float, int, int]:
        told = await self._redis.info("stats")
        transactions = await self._postgres.fetchval(
            "SELECT sum(xact_commit + xact_rollback)::bigint FROM pg_stat_database"
        )
        return time.monotonic(), told["total_commands_processed"], transactions


@contextlib.contextmanager
def frozen(stack: Stack) -> Iterator[None]:
    """Hold every process of the three stores."""
    held = []
    for name in ("redis", "postgres", "graph"):
        pid = stack.pid_of(name)
        assert pid is not None
        parent = psutil.Process(pid)
        held += [parent, *parent.children(recursive=True)]
    for process in held:
        process.send_signal(signal.SIGSTOP)
    try:
        yield
    finally:
        for process in held:
            with contextlib.suppress(psutil.NoSuchProcess):
                process.send_signal(signal.SIGCONT)


async def figures(stack: Stack) -> dict[str, dict[str, float]]:
    """All that is measured."""
    quiet = {"DRAWBRIDGE_LOG_LEVEL": "error", "DRAWBRIDGE_LOG_FORMAT": "json"}
    stores = {
        name.upper(): stack.line[name] for name in stack.line if name[:5] in ("redis", "neo4j")
    }
    stores["DATABASE_URL"] = stack.line["database_url"]
    config = load(("benchmark", stores | quiet))
    logs.configure(config.log, process="benchmark", instance="benchmark")
    least = web.Application()
    least.router.add_get(BARE, bare)
    async with Lifespan(signals=False) as life:
        ports = []
        app = await service_app.build(config, life, instance=ids.new_id())
        for each in (app, least):
            listening = socket.create_server(("127.0.0.1", 0))
            ports.append(listening.getsockname()[1])
            await life.enter(serving(each, listening))
        asked = {path: ports[path == BARE] for path in PATHS}
        probes: Probes = app[PROBES]
        await wait_until(lambda: probes.readiness()[0])
        load_ = Load(
            await life.enter(Redis.from_url(config.redis.url)),
            await asyncpg.connect(config.postgres.url),
        )
        await load_.begin()
        await asyncio.sleep(IDLE_S)
        told: dict[str, dict[str, float]] = {"unasked": await load_.each_second()}
        await load_.begin()
        told["well"] = dict(await rates(asked))
        told["asked"] = await load_.each_second()
        with frozen(stack):
            await wait_until(lambda: not probes.readiness()[0])
            told["frozen"] = dict(await rates(asked))
    return told


async def main() -> None:
    """Measure and print."""
    with tempfile.TemporaryDirectory() as folder:
        async with Stack(Path(folder) / "data", *STORES_ALONE) as stack:
            told = await figures(stack)
    if "--json" in sys.argv:
        print(json.dumps(told))
        return
    for mood in ("well", "frozen"):
        for path, rate in told[mood].items():
            share = rate / told[mood][BARE]
            print(f"{mood:7} {path:18} {rate:7.0f} requests/s   {share:.2f} of a bare handler")
    for mood in ("unasked", "asked"):
        print(mood, *(f"{rate} {what}/s" for what, rate in told[mood].items()), sep="   ")


if __name__ == "__main__":
    with asyncio.Runner(loop_factory=new_loop) as runner:
        if sys.argv[1:2] == ["--ask"]:
            runner.run(ask(int(sys.argv[2]), sys.argv[3]))
        else:
            runner.run(main())
