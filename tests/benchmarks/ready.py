"""How many times a second /ready answers beside a bare handler: `python -m tests.benchmarks.ready`.

Each is asked over real sockets in the same run, in turn, by callers in a process of their own; the
dependencies do not exist, so that /ready says 503. Prints requests for each second of the server's
processor, which other work on the machine does not change much; with --json one JSON object.
"""

import asyncio
import contextlib
import json
import socket
import statistics
import sys
import time

from aiohttp import web

from control import ids, logs
from control.config import load
from control.lifespan import Lifespan, new_loop
from control.listener import serving
from service import app as service_app

ROUNDS, REQUESTS, CONNECTIONS = 5, 500, 8
NOWHERE = {
    "REDIS_URL": "redis://127.0.0.1:1/0",
    "DATABASE_URL": "postgresql://127.0.0.1:1/none",
    "NEO4J_URI": "bolt://127.0.0.1:1",
    "DRAWBRIDGE_LOG_LEVEL": "error",
    "DRAWBRIDGE_LOG_FORMAT": "json",
}


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


async def main() -> None:
    """Measure in turn and print the medians."""
    config = load(("benchmark", NOWHERE))
    logs.configure(config.log, process="benchmark", instance="benchmark")
    least = web.Application()
    least.router.add_get("/bare", bare)
    async with Lifespan(signals=False) as life:
        ports = []
        for app in (await service_app.build(config, life, instance=ids.new_id()), least):
            listening = socket.create_server(("127.0.0.1", 0))
            ports.append(listening.getsockname()[1])
            await life.enter(serving(app, listening))
        rates: dict[str, list[float]] = {"/ready": [], "/health": [], "/health/detailed": []}
        rates["bare"] = []
        for _ in range(ROUNDS):
            for path, found in rates.items():
                whose, asked = (ports[1], "/bare") if path == "bare" else (ports[0], path)
                found.append(await measured(whose, asked))
    medians = {path: round(statistics.median(found)) for path, found in rates.items()}
    if "--json" in sys.argv:
        print(json.dumps(medians))
        return
    for path, rate in medians.items():
        print(f"{path:18} {rate:7} requests/s   {rate / medians['bare']:.2f} of a bare handler")


if __name__ == "__main__":
    with asyncio.Runner(loop_factory=new_loop) as runner:
        if sys.argv[1:2] == ["--ask"]:
            runner.run(ask(int(sys.argv[2]), sys.argv[3]))
        else:
            runner.run(main())
