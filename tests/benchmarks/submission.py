"""How many jobs a second a service takes over HTTP: `python -m tests.benchmarks.submission`.

A real service on a Redis of its own, beside a bare aiohttp handler that reads the same body and
answers JSON; each is asked in turn over the same sockets. What is told is requests for each second
of the server's own processor, which other work on the machine does not change much, and those of
the clock. With --json one JSON object.
"""

import asyncio
import json
import statistics
import sys
import tempfile
import time
from pathlib import Path
from urllib.parse import urlsplit

import psutil
from aiohttp import web

from control.lifespan import new_loop
from deploy.embedded.folder import DataFolder
from tests.conftest import LiveStores
from tests.processes import replica

ROUNDS, REQUESTS, CONNECTIONS = 5, 250, 32
BODY = b'{"payload": {"numbers": [1, 2, 3], "name": "a small payload"}}'
_BARE = "from tests.benchmarks.submission import serve_bare; serve_bare()"


async def bare(request: web.Request) -> web.Response:
    """The least that takes JSON and answers it."""
    return web.json_response({"took": len(await request.json())}, status=202)


def serve_bare() -> None:
    """Serve the bare handler, and say on which port."""
    app = web.Application()
    app.router.add_post("/jobs/noop", bare)

    async def serve() -> None:
        runner = web.AppRunner(app, access_log=None)
        await runner.setup()
        site = web.TCPSite(runner, "127.0.0.1", 0)
        await site.start()
        print(runner.addresses[0][1], flush=True)
        await asyncio.Event().wait()

    with asyncio.Runner(loop_factory=new_loop) as runner:
        runner.run(serve())


async def asked(port: int, pid: int) -> tuple[float, float]:
    """Requests a second of the processor of ``pid``, and of the clock."""
    head = ("POST /jobs/noop HTTP/1.1", "Host: x", f"Content-Length: {len(BODY)}")
    lines = (*head, "Content-Type: application/json", "", "")
    request = "\r\n".join(lines).encode() + BODY

    async def one() -> None:
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        for _ in range(REQUESTS):
            writer.write(request)
            answer = await reader.readuntil(b"\r\n\r\n")
            assert answer.startswith(b"HTTP/1.1 202 "), answer
            await reader.readexactly(int(answer.lower().split(b"content-length: ")[1].split()[0]))
        writer.close()

    process = psutil.Process(pid)
    began, before = time.perf_counter(), sum(process.cpu_times()[:2])
    await asyncio.gather(*(one() for _ in range(CONNECTIONS)))
    count = REQUESTS * CONNECTIONS
    spent = sum(process.cpu_times()[:2]) - before
    return count / spent, count / (time.perf_counter() - began)


async def measure() -> dict[str, dict[str, int]]:
    """The medians of both."""
    found: dict[str, list[tuple[float, float]]] = {"service": [], "bare": []}
    with tempfile.TemporaryDirectory() as name:
        folder = DataFolder(Path(name) / "data")
        stores = LiveStores(folder)
        try:
            await stores.start_all()
            async with replica(
                "service", stores.environment, DRAWBRIDGE_JOBS="tests.benchmarks.kinds"
            ) as service:
                port = urlsplit((await service.logged("serving"))["url"]).port
                least = await asyncio.create_subprocess_exec(
                    sys.executable, "-c", _BARE, stdout=asyncio.subprocess.PIPE
                )
                assert least.stdout is not None
                ports = {
                    "service": (port, service.pid),
                    "bare": (int(await least.stdout.readline()), least.pid),
                }
                for _ in range(ROUNDS):
                    for which, (where, pid) in ports.items():
                        found[which].append(await asked(int(where or 0), pid))
                least.terminate()
                await least.wait()
        finally:
            await stores.close()
            folder.close()
    return {
        which: {
            "requests a second of its processor": round(statistics.median(cpu for cpu, _ in took)),
            "requests a second": round(statistics.median(wall for _, wall in took)),
        }
        for which, took in found.items()
    }


def main() -> None:
    """Measure and print."""
    with asyncio.Runner(loop_factory=new_loop) as runner:
        figures = runner.run(measure())
    if "--json" in sys.argv:
        print(json.dumps(figures))
        return
    for which, told in figures.items():
        print(which, *(f"{name}: {figure}" for name, figure in told.items()), sep="   ")


if __name__ == "__main__":
    main()
