"""A loop that is blocked: noticed by a thread, told in the log, and /health answered meanwhile."""

import asyncio
import contextlib
import json
import socket
import threading
import time
import urllib.error
import urllib.request
from collections.abc import AsyncIterator, Mapping
from typing import Any

import pytest
from structlog.testing import capture_logs

from control.clock import SystemClock
from control.health import liveness
from control.health.check import Check, State
from control.health.engine import LATE_S, Engine
from control.health.networks import ProbeNetworks
from control.health.watchdog import BLOCKED_S, Watchdog
from tests.stack import wait_until
from tests.timing import timed

ALIVE = b'{"status":"ok"}'
LOOPBACK = ProbeNetworks(("127.0.0.0/8", "::1"))


@contextlib.asynccontextmanager
async def watching() -> AsyncIterator[Watchdog]:
    watchdog = Watchdog(SystemClock())
    task = asyncio.create_task(watchdog.run())
    await asyncio.sleep(0)  # it beats
    try:
        yield watchdog
    finally:
        task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await task


def block(until: threading.Event) -> None:
    """Hold the loop, as a computation would, until another thread has seen it."""
    assert until.wait(timeout=20)


async def eventually(holds: Any, within_s: float = 10.0) -> None:
    async with asyncio.timeout(within_s):
        while not holds():
            await asyncio.sleep(0.01)


def seen_blocked(watchdog: Watchdog, seen: threading.Event) -> None:
    while watchdog.blocked is None:
        time.sleep(0.01)
    seen.set()


async def test_it_says_since_when_and_where_the_loop_is_blocked() -> None:
    with capture_logs() as logs:
        async with watching() as watchdog:
            assert watchdog.blocked is None
            seen = threading.Event()
            threading.Thread(target=seen_blocked, args=(watchdog, seen), daemon=True).start()
            block(seen)
            await eventually(lambda: len(logs) == 2)  # of which the last comes after all else
            assert watchdog.blocked is None
            told = await watchdog.ask()
            assert told["warning"] == "LoopBlocked"
            assert "warning" not in await watchdog.ask()
            blockage = watchdog.blockage
    assert blockage is not None
    assert blockage.lasted_s is not None
    assert blockage.lasted_s >= BLOCKED_S
    assert any("in block" in line for line in blockage.where)
    assert [line["event"] for line in logs] == ["event loop blocked", "event loop free again"]
    assert any("in block" in line for line in logs[0]["where"])


@timed
async def test_a_loop_that_is_not_blocked_is_not_said_to_be() -> None:
    with capture_logs() as logs:
        async with watching() as watchdog:
            await asyncio.sleep(0.3)
            told = await watchdog.ask()
    assert told.keys() == {"lag_ms"}
    assert logs == []


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as found:
        return int(found.getsockname()[1])


def ask(port: int, path: str = "/health", method: str = "GET", **headers: str) -> Any:
    request = urllib.request.Request(
        f"http://127.0.0.1:{port}{path}", method=method, headers=headers
    )
    with urllib.request.urlopen(request, timeout=10) as answer:
        assert answer.headers["Cache-Control"] == "no-store"
        body = answer.read()
        return json.loads(body) if body else None


async def test_a_thread_answers_while_the_loop_is_blocked() -> None:
    async with (
        watching() as watchdog,
        liveness.served(
            "127.0.0.1", free_port(), alive=lambda: ALIVE, watchdog=watchdog, networks=LOOPBACK
        ) as port,
    ):
        assert port is not None
        assert await asyncio.to_thread(ask, port) == {"status": "ok"}
        assert await asyncio.to_thread(ask, port, method="HEAD") is None
        with pytest.raises(urllib.error.HTTPError, match="404"):
            await asyncio.to_thread(ask, port, "/ready")
        answers: list[Any] = []
        asked = threading.Event()

        def look() -> None:
            seen_blocked(watchdog, threading.Event())
            answers.append(ask(port))
            answers.append(ask(port, **{"X-Forwarded-For": "192.0.2.1"}))
            asked.set()

        threading.Thread(target=look, daemon=True).start()
        block(asked)
    to_probe, to_anybody = answers
    assert to_probe["status"] == "ok"
    assert any("in block" in line for line in to_probe["event_loop"]["where"])
    assert to_anybody == {"status": "ok"}


async def test_without_the_setting_or_the_port_there_is_no_such_listener() -> None:
    watchdog = Watchdog(SystemClock())
    settings: dict[str, Any] = {"alive": lambda: ALIVE, "watchdog": watchdog, "networks": LOOPBACK}
    async with liveness.served("127.0.0.1", 0, **settings) as port:
        assert port is None
    with socket.create_server(("127.0.0.1", 0)) as taken, capture_logs() as logs:
        number = taken.getsockname()[1]
        async with liveness.served("127.0.0.1", number, **settings) as port:
            assert port is None
    assert logs[0]["event"] == "liveness port cannot be had"


@pytest.mark.parametrize(
    ("remote", "headers", "held"),
    [
        ("127.0.0.1", [], True), ("::1", ["Host"], True), ("::ffff:127.0.0.1", [], True),
        ("192.0.2.7", [], False), (None, [], False), ("", [], False),
        ("127.0.0.1", ["x-forwarded-for"], False), ("127.0.0.1", ["Forwarded"], False),
        ("127.0.0.1", ["Via"], False), ("127.0.0.1", ["X-Real-Ip"], False),
    ],
)  # fmt: skip
def test_who_is_in_a_probe_network(remote: str | None, headers: list[str], held: bool) -> None:
    assert LOOPBACK.holds(remote, headers) is held
    assert not ProbeNetworks(()).holds(remote, headers)


async def test_a_loop_that_stood_still_is_no_fault_of_what_was_asked() -> None:
    """When it goes on, the answer and the deadline are there at the same time."""

    async def asked() -> Mapping[str, object]:
        await asyncio.sleep(0.01)
        time.sleep(0.1 + 2 * LATE_S)  # the standstill
        await asyncio.sleep(0.01)
        return {}

    engine = Engine([Check("slow", asked, timeout_s=0.1)], clock=SystemClock())
    running = asyncio.create_task(engine.run())
    try:
        await wait_until(lambda: engine.snapshot.results["slow"].at)
        assert engine.snapshot.results["slow"].state is State.OK
    finally:
        running.cancel()
        await asyncio.wait({running})
