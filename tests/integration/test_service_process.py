"""`drawbridge service` as a process: its start without stores, its socket, and how it stops."""

import asyncio
import os
import signal
import socket
import sys
import time

import aiohttp

from tests.processes import Replica, replica
from tests.serving import MODEL, MPS
from tests.stack import wait_for

WITHIN_S = 60
NOWHERE = {
    "REDIS_URL": "redis://127.0.0.1:1/0",
    "DATABASE_URL": "postgresql://127.0.0.1:1/none",
    "NEO4J_URI": "bolt://127.0.0.1:1",
}


async def url_of(service: Replica) -> str:
    return (await service.logged("serving"))["url"]


async def test_it_starts_without_any_store() -> None:
    async with (
        replica("service", NOWHERE) as service,
        aiohttp.ClientSession(await url_of(service)) as http,
    ):
        assert await status(http, "/health") == 200
        async with http.get("/ready") as response:
            assert response.status == 503
            assert "redis" in (await response.json())["detail"]["dependencies"]


async def test_sigterm_says_so_on_ready_and_serves_on(stores, redis) -> None:
    settings = {"DRAWBRIDGE_DRAIN_DELAY_S": "300"}
    async with replica("service", stores.environment, **settings) as service:
        async with aiohttp.ClientSession(await url_of(service)) as http, asyncio.timeout(WITHIN_S):
            await wait_for(lambda: status(http, "/ready"), 200)
            service.send(signal.SIGTERM)
            await wait_for(lambda: status(http, "/ready"), 503)
            async with http.post("/optimize", data=MODEL, headers=MPS) as response:
                assert response.status == 202
                events = (await response.json())["links"]["events"]
            async with http.get(events) as following:
                await following.content.readline()
                service.send(signal.SIGTERM)
                await following.content.read()  # ends by itself, in good order
        assert await service.ended() == 0
        await service.logged("stopped")


async def test_what_is_under_way_is_finished(stores, redis) -> None:
    async with replica("service", stores.environment) as service:
        async with aiohttp.ClientSession(await url_of(service)) as http:
            begun, held = asyncio.Event(), asyncio.Event()

            async def slowly():
                begun.set()  # only once the service has asked for the body
                yield MODEL[:100]
                await held.wait()
                yield MODEL[100:]

            upload = asyncio.create_task(post(http, slowly()))
            await begun.wait()
            service.send(signal.SIGINT)
            await service.logged("stopping")
            held.set()
            assert await upload == 202
        assert await service.ended() == 0


async def test_sigint_does_not_wait_for_load_balancers() -> None:
    settings = {"DRAWBRIDGE_DRAIN_DELAY_S": "300"}
    async with replica("service", NOWHERE, **settings) as service:
        await service.logged("serving")
        began = time.monotonic()
        service.send(signal.SIGINT)
        assert await service.ended() == 0
        assert time.monotonic() - began < WITHIN_S


async def test_a_busy_port_is_one_clear_line() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        status, out, err = await command("service", "--port", str(port), environment=NOWHERE)
    assert status == 1
    assert out == ""
    assert err.count("\n") == 1
    assert str(port) in err


async def test_an_inherited_socket_is_served() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listening:
        listening.set_inheritable(True)
        fd = listening.fileno()
        environ = {**os.environ, **NOWHERE, "DRAWBRIDGE_LOG_FORMAT": "json"}
        process = await asyncio.create_subprocess_exec(
            sys.executable, "-m", "control.cli", "service", "--fd", str(fd),
            env=environ, pass_fds=[fd], stdout=asyncio.subprocess.DEVNULL,
        )  # fmt: skip
        try:
            url = f"http://127.0.0.1:{listening.getsockname()[1]}"
            async with aiohttp.ClientSession(url) as http, asyncio.timeout(WITHIN_S):
                assert await status(http, "/health") == 200
            process.send_signal(signal.SIGINT)
            assert await asyncio.wait_for(process.wait(), WITHIN_S) == 0
        finally:
            if process.returncode is None:
                process.kill()
                await process.wait()


async def status(http: aiohttp.ClientSession, path: str) -> int:
    async with http.get(path) as response:
        return response.status


async def post(http: aiohttp.ClientSession, body: object) -> int:
    async with http.post("/optimize", data=body, headers=MPS, expect100=True) as response:
        return response.status


async def command(*arguments: str, environment: dict[str, str]) -> tuple[int, str, str]:
    """Run `drawbridge` to its end: exit status, stdout, stderr."""
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "control.cli", *arguments,
        env={**os.environ, **environment},
        stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE,
    )  # fmt: skip
    out, err = await asyncio.wait_for(process.communicate(), WITHIN_S)
    assert process.returncode is not None
    return process.returncode, out.decode(), err.decode()
