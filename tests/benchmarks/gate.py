"""What the gate costs a request while the bridge is down: `python -m tests.benchmarks.gate`.

Two applications that differ in nothing but the gate, asked in turn without a network between.
Prints microseconds a request; with --json one JSON object.
"""

import asyncio
import json
import statistics
import sys
import time

from aiohttp import web
from aiohttp.test_utils import make_mocked_request
from aiohttp.typedefs import Handler

from control.clock import SystemClock
from control.flags.document import MAINTENANCE, Document, Flag
from control.flags.presence import Presence
from control.flags.replica import Replica
from control.lifespan import new_loop
from control.stores import redis
from service.bypass import Bypass
from service.gate import Gate

ROUNDS = 41
REQUESTS = 5_000


async def answer(_request: web.Request) -> web.Response:
    """The least that a handler can do."""
    return web.Response()


@web.middleware
async def passing(request: web.Request, handler: Handler) -> web.StreamResponse:
    """In both, as the service has other middlewares anyway."""
    return await handler(request)


def application(*gates: Gate) -> web.Application:
    """An application with as many gates as given."""
    app = web.Application(middlewares=[passing, *(gate.check for gate in gates)])
    app.router.add_get("/jobs", answer)
    app.router.add_get("/health", answer)
    app.freeze()
    return app


def open_gate(client: redis.Redis) -> Gate:
    """A gate over a replica that knows, freshly, that the bridge is down."""
    clock = SystemClock()
    replica = Replica(clock)
    replica.apply(Document(1, 1, {MAINTENANCE: Flag()}), "benchmark")
    replica.prove("redis", clock.monotonic() + 3600)
    return Gate(
        replica,
        Presence("bench", "service", redis=client, replica=replica, clock=clock),
        open_paths=frozenset({"/health"}),
        app_status_base="/base",
        bypass=Bypass("", clock),
        clock=clock,
    )


async def microseconds(app: web.Application, path: str) -> float:
    """Of processor time, for one request, on average over a round."""
    request = make_mocked_request("GET", path, app=app)
    began = time.process_time()
    for _ in range(REQUESTS):
        await app._handle(request)
    return (time.process_time() - began) / REQUESTS * 1e6


async def measure() -> dict[str, float]:
    """Medians, and the median of the differences within each round."""
    client = redis.client("redis://127.0.0.1:1/0")
    without, with_gate = application(), application(open_gate(client))
    found: dict[str, float] = {}
    for path, what in (("/jobs", "guarded"), ("/health", "excluded")):
        pairs = [
            (await microseconds(without, path), await microseconds(with_gate, path))
            for _ in range(ROUNDS)
        ]
        found[f"{what} route, without the gate, µs"] = statistics.median(a for a, _ in pairs)
        found[f"{what} route, with the gate, µs"] = statistics.median(b for _, b in pairs)
        found[f"{what} route, what the gate adds, µs"] = statistics.median(b - a for a, b in pairs)
    await client.aclose()
    return found


def main() -> None:
    """Measure and print."""
    with asyncio.Runner(loop_factory=new_loop) as runner:
        figures = runner.run(measure())
    if "--json" in sys.argv:
        print(json.dumps(figures))
    else:
        for told, figure in figures.items():
            print(f"{figure:8.2f}  {told}")


if __name__ == "__main__":
    main()
