"""The processes of a turn: a worker and the driver that submits to it, each ended by its id."""

import asyncio
import json
import os
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from signal import Signals
from typing import Any

import psutil

from deploy.embedded.child import Child, spawn
from tests.benchmarks.peers.subjects import ENGINES

_END_S = 5.0


class Failed(Exception):
    """A measurement that an engine did not get through; why."""


class Worker:
    """A running worker and the processes that it started."""

    def __init__(self, child: Child, log: Path) -> None:
        self._child = child
        self._log = log

    @property
    def memory_mb(self) -> float:
        """Resident, of all its processes together."""
        return sum(process.memory_info().rss for process in self._family()) / 1e6

    @property
    def cpu_s(self) -> float:
        """Processor time that all its processes have taken so far."""
        times = [process.cpu_times() for process in self._family()]
        return sum(time.user + time.system for time in times)

    def hold(self) -> None:
        """Stop all its processes where they are."""
        self._send(Signals.SIGSTOP)

    def go_on(self) -> None:
        """Let them go on."""
        self._send(Signals.SIGCONT)

    async def ended(self) -> None:
        """Raise :class:`Failed` as soon as it ends by itself."""
        await self._child.wait()
        raise Failed(f"its worker ended ({self._child.end}): {tail(self._log)}")

    async def end(self) -> None:
        """SIGTERM, and SIGKILL for whatever is left."""
        family = self._family()
        self.go_on()
        await self._child.stop((Signals.SIGTERM,))
        for process in family:
            with suppress(psutil.NoSuchProcess):
                process.kill()

    def _family(self) -> list[psutil.Process]:
        try:
            parent = psutil.Process(self._child.pid)
            return [parent, *parent.children(recursive=True)]
        except psutil.NoSuchProcess:
            return []

    def _send(self, number: Signals) -> None:
        for process in self._family():
            with suppress(psutil.NoSuchProcess):
                process.send_signal(number)


@asynccontextmanager
async def worker_of(
    argv: tuple[str, ...], environ: Mapping[str, str], log: Path
) -> AsyncIterator[Worker]:
    """Start a worker; its end is the block's."""
    running = Worker(await spawn(argv, log=log, env=environ, cwd=ENGINES), log)
    try:
        yield running
    finally:
        await running.end()


class Driver:
    """The process that submits, in the engine's environment."""

    def __init__(self, process: asyncio.subprocess.Process, log: Path) -> None:
        self.doing = "its start"
        self._process = process
        self._log = log

    async def do(self, name: str, **arguments: Any) -> dict[str, Any]:
        """Let it do something (see ``engines/driver.py``). Raises :class:`Failed`."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self.doing = name
        with suppress(ConnectionError):
            self._process.stdin.write(json.dumps({"do": name, **arguments}).encode() + b"\n")
            await self._process.stdin.drain()
        line = await self._process.stdout.readline()
        if not line:
            raise Failed(f"its driver ended at {name}: {tail(self._log)}")
        answer: dict[str, Any] = json.loads(line)
        if "error" in answer:
            raise Failed(f"{name}: {answer['error']}")
        return answer

    async def end(self) -> None:
        """Close its stdin, and kill it if that is not enough."""
        assert self._process.stdin is not None
        self._process.stdin.close()
        try:
            async with asyncio.timeout(_END_S):
                await self._process.wait()
        except TimeoutError:
            self._process.kill()
            await self._process.wait()


@asynccontextmanager
async def driver_of(
    python: Path, module: str, environ: Mapping[str, str], log: Path
) -> AsyncIterator[Driver]:
    """Start a driver; its end is the block's."""
    with log.open("ab") as output:
        process = await asyncio.create_subprocess_exec(
            str(python), str(ENGINES / "driver.py"), module,
            stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE, stderr=output,
            env=dict(environ), cwd=ENGINES, limit=1 << 24, start_new_session=True,
        )  # fmt: skip
    driver = Driver(process, log)
    try:
        yield driver
    finally:
        await driver.end()


def tail(log: Path) -> str:
    """The last words of a log, for a report."""
    with log.open("rb") as file:
        file.seek(max(0, os.fstat(file.fileno()).st_size - 2000))
        lines = file.read().decode(errors="replace").strip().splitlines()
    return " | ".join(lines[-3:])[-400:] or "(its log is empty)"
