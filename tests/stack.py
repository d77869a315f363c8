"""A running `drawbridge up` for tests, and waiting for a condition."""

import asyncio
import inspect
import json
import os
import signal
import sys
import time
from collections.abc import Awaitable, Callable, Mapping
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import psutil

ROOT = Path(__file__).parents[1]
# Generous, because they cost nothing where all is well: a machine may be several times slower.
START_S, END_S, SO_S = 120.0, 100.0, 60.0

SPARING = {"OPENBLAS_NUM_THREADS": "1", "SSL_CERT_FILE": os.devnull}
"""Spares the start of a process a sixth of its work: NumPy's threads, and the authorities of TLS,
neither of which any test needs."""

_STORE_VARIABLES = ("REDIS_URL", "DATABASE_URL", "NEO4J_URI", "NEO4J_USER", "NEO4J_PASSWORD")


async def wait_until(condition: Callable[[], Any], deadline_s: float = SO_S) -> Any:
    """Ask ``condition``, plain or async, until it gives something true, and return that.

    Raises :class:`AssertionError` after ``deadline_s``.
    """
    give_up = time.monotonic() + deadline_s
    while True:
        found = condition()
        if inspect.isawaitable(found):
            found = await found
        if found:
            return found
        assert time.monotonic() < give_up, f"not so within {deadline_s:g} s: {condition}"
        await asyncio.sleep(0.02)


async def wait_for(
    ask: Callable[[], Awaitable[Any]], expected: object, deadline_s: float = SO_S
) -> None:
    """Ask until the answer is ``expected``. Raises :class:`AssertionError` after the deadline."""

    async def so() -> bool:
        return await ask() == expected

    await wait_until(so, deadline_s)


def clean_environment(**changes: str) -> dict[str, str]:
    """The environment without what configures Drawbridge, with ``changes``; imports work."""
    kept = {
        name: value
        for name, value in os.environ.items()
        if not name.startswith("DRAWBRIDGE_") and name not in _STORE_VARIABLES
    }
    return {**kept, "PYTHONPATH": str(ROOT), **changes}


async def drawbridge(
    *arguments: str, environ: Mapping[str, str] | None = None, deadline_s: float = START_S
) -> tuple[int, str, str]:
    """Run a `drawbridge` command to its end: exit status, stdout, stderr."""
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        *("-m", "control.cli", *arguments),
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
        env=dict(environ or clean_environment()),
    )
    try:
        out, err = await asyncio.wait_for(process.communicate(), deadline_s)
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()
    assert process.returncode is not None
    return process.returncode, out.decode(), err.decode()


class Stack:
    """``drawbridge up --json`` on ``folder``, on free ports.

    ``async with Stack(folder, "--services", "2") as stack`` waits until it is ready and stops it at
    the end. ``environ`` adds to a clean environment.
    """

    line: dict[str, Any]
    """The ready line."""

    def __init__(
        self, folder: Path, *options: str, environ: Mapping[str, str] | None = None
    ) -> None:
        self.folder = folder
        self._options = options
        self._environ = clean_environment(**(environ or {}))
        self._errors = folder.with_name(folder.name + ".stderr")
        self._process: asyncio.subprocess.Process | None = None

    async def __aenter__(self) -> Self:
        await self.launch()
        try:
            await self.ready()
        except BaseException:
            await self.stop()
            raise
        return self

    async def __aexit__(
        self,
        _kind: type[BaseException] | None,
        _error: BaseException | None,
        _trace: TracebackType | None,
    ) -> None:
        await self.stop()

    async def launch(self) -> None:
        """Start the command; :meth:`ready` waits for it."""
        command = ("-m", "control.cli", "up", "--json", "--port", "0", "--data-dir")
        with self._errors.open("ab") as errors:
            self._process = await asyncio.create_subprocess_exec(
                sys.executable,
                *(*command, str(self.folder), *self._options),
                stdin=asyncio.subprocess.DEVNULL,
                stdout=asyncio.subprocess.PIPE,
                stderr=errors,
                env=self._environ,
            )

    async def ready(self) -> dict[str, Any]:
        """Wait for the ready line."""
        assert self.process.stdout is not None
        text = await asyncio.wait_for(self.process.stdout.readline(), START_S)
        assert text, f"it ended instead of being ready:\n{self.said}"
        self.line = json.loads(text)
        return self.line

    @property
    def process(self) -> asyncio.subprocess.Process:
        """The process of `up` itself."""
        assert self._process is not None, "not launched"
        return self._process

    @property
    def pid(self) -> int:
        """Of `up` itself."""
        return self.process.pid

    @property
    def api(self) -> str:
        """URL of the first service."""
        url: str = self.line["services"][0]
        return url

    @property
    def said(self) -> str:
        """All that it wrote to stderr."""
        return self._errors.read_text()

    @property
    def environment(self) -> dict[str, str]:
        """In which another `drawbridge` command finds this stack."""
        return clean_environment(DRAWBRIDGE_DATA_DIR=str(self.folder))

    def note(self) -> dict[str, Any]:
        """The ready line as it is now, with the processes that run now."""
        found: dict[str, Any] = json.loads((self.folder / "stack.json").read_text())
        return found

    def pid_of(self, name: str, number: int = 0) -> int | None:
        """The process of redis, postgres, graph, or the ``number``-th service or worker, now."""
        found = self.note()["pids"][name]
        pid: int | None = found[number] if isinstance(found, list) else found
        return pid

    def descendants(self) -> list[psutil.Process]:
        """Every process below `up`, children of children included."""
        return psutil.Process(self.pid).children(recursive=True)

    async def restarted(self, name: str, before: int, number: int = 0) -> int:
        """Wait until ``name`` has another process than ``before`` that serves; its pid."""
        label = f"{name}-{number + 1}" if name in ("service", "worker") else name
        await wait_until(lambda: self.pid_of(name, number) not in (None, before))
        pid = self.pid_of(name, number)
        await wait_until(lambda: f"{label} serves again (process {pid})" in self.said)
        assert pid is not None
        return pid

    async def stop(self, number: signal.Signals = signal.SIGTERM, deadline_s: float = END_S) -> int:
        """Send it a signal and wait for its end; its exit status."""
        if self.process.returncode is None:
            self.process.send_signal(number)
        return await self.ended(deadline_s)

    async def ended(self, deadline_s: float = END_S) -> int:
        """Wait for its end; its exit status."""
        try:
            rest, _ = await asyncio.wait_for(self.process.communicate(), deadline_s)
        except TimeoutError:
            self.process.kill()
            await self.process.communicate()
            raise
        assert rest == b"", "one line on stdout, no more"
        return await self.process.wait()


async def all_gone(processes: list[psutil.Process], deadline_s: float = SO_S) -> None:
    """Wait until none of ``processes`` runs."""
    await wait_until(lambda: not [p for p in processes if _runs(p)], deadline_s)


def _runs(process: psutil.Process) -> bool:
    try:
        return process.is_running() and process.status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False
