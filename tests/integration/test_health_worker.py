"""The probes of a worker as a process, and its second listener."""

import socket

import aiohttp

from tests.conftest import LiveStores
from tests.processes import replica


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as found:
        return int(found.getsockname()[1])


async def test_a_worker_tells_how_it_is(stores: LiveStores, redis) -> None:
    port = free_port()
    settings = {"DRAWBRIDGE_LIVENESS_PORT": str(port)}
    async with replica("worker", stores.environment, **settings) as worker:
        line = await worker.logged("working")
        await worker.logged("health check passes", check="redis")
        for check in ("event_loop", "control_plane"):
            await worker.logged("health check passes", check=check)
        async with aiohttp.ClientSession(line["probes"]) as http:
            async with http.get("/ready?exclude=neo4j&verbose") as response:
                body = await response.json()
            assert body["dependencies"] == {"redis": "ok"}
            for check in ("event_loop", "control_plane"):
                assert body["checks"][check] == {
                    "status": "healthy", "response_time_ms": None, "required": False,
                }  # fmt: skip
            async with http.get("/ready/redis/") as response:
                assert response.status == 200
            async with http.get("/ready/nothing") as response:
                assert response.status == 404
            async with http.get(f"http://127.0.0.1:{port}/health") as response:
                alive = await response.json()
                assert response.headers["Cache-Control"] == "no-store"
        assert alive.keys() == {"status", "timestamp", "version", "uptime_seconds"}
