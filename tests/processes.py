"""Real service and worker processes for tests, known by what they log."""

import asyncio
import json
import os
import signal
import sys
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from typing import Any

from tests import signals
from tests.stack import SPARING

Line = dict[str, Any]
START_S = 60.0


class Replica:
    """A running `drawbridge service` or `drawbridge worker` and the lines it logged so far."""

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        self.process = process
        self.lines: list[Line] = []
        self._grown = asyncio.Condition()
        self._reader = asyncio.create_task(self._read())

    @property
    def pid(self) -> int:
        return self.process.pid

    def send(self, number: signal.Signals) -> None:
        signals.send(self.pid, number)

    async def logged(
        self, event: str, deadline_s: float = START_S, *, count: int = 1, **fields: Any
    ) -> Line:
        """The ``count``-th line with this event and these fields, as soon as it is there."""

        def matching() -> list[Line]:
            wanted = {"event": event, **fields}
            return [line for line in self.lines if wanted.items() <= line.items()]

        await self.until(lambda: len(matching()) >= count, deadline_s, f"{event} {fields}")
        return matching()[count - 1]

    async def until(self, holds: Callable[[], bool], deadline_s: float, what: str) -> None:
        """Wait until a condition on :attr:`lines` holds."""
        try:
            async with asyncio.timeout(deadline_s), self._grown:
                await self._grown.wait_for(holds)
        except TimeoutError:
            raise AssertionError(
                f"not logged within {deadline_s} s: {what}\n{self._tail()}"
            ) from None

    def _tail(self) -> str:
        return "\n".join(str(line) for line in self.lines[-30:])

    async def ended(self, deadline_s: float = START_S) -> int:
        """Its exit status."""
        try:
            return await asyncio.wait_for(self.process.wait(), deadline_s)
        except TimeoutError:
            raise AssertionError(f"still runs after {deadline_s} s\n{self._tail()}") from None

    async def close(self) -> None:
        if self.process.returncode is None:
            self.send(signal.SIGCONT)
            self.process.kill()
        await self.process.wait()
        await self._reader

    async def _read(self) -> None:
        assert self.process.stdout is not None
        async for raw in self.process.stdout:
            try:
                line = json.loads(raw)
            except ValueError:
                line = {"event": raw.decode(errors="replace").rstrip(), "plain": True}
            async with self._grown:
                self.lines.append(line)
                self._grown.notify_all()


@asynccontextmanager
async def replica(
    role: str, environment: Mapping[str, str], *, port: int = 0, **settings: str
) -> AsyncIterator[Replica]:
    """Run `drawbridge ROLE` with these stores and settings, on a free port where none is named;
    killed at the end."""
    environ = {
        "PATH": os.environ["PATH"],
        "HOME": "/nonexistent",
        "PYTHONPATH": os.pathsep.join(path for path in sys.path if path),
        "DRAWBRIDGE_LOG_FORMAT": "json",
        **SPARING,
        **environment,
        **settings,
    }
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "control.cli", role, "--port", str(port),
        env=environ, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.STDOUT,
        limit=1 << 24,
    )  # fmt: skip
    running = Replica(process)
    try:
        yield running
    finally:
        await running.close()
