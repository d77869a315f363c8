"""Counts the commands that reach a Redis, apart from those that its scripts call."""

import asyncio
import re
from collections import Counter
from contextlib import suppress
from typing import Self
from urllib.parse import urlsplit

from control.ids import new_id

_LINE = re.compile(rb"\+\d+\.\d+ \[\d+ ([^\]]+)\] ")
_MARK = re.compile(rb'\] "ECHO" "([0-9A-Z]{26})"')
_SCRIPT = "lua"


class Monitor:
    """Listens by MONITOR, which slows Redis down: nothing is timed meanwhile.

    async with Monitor(url) as monitor: … monitor.calls is by the caller's address, and
    monitor.marked how many of those that clients sent hold ``mark``.
    """

    def __init__(self, url: str, mark: bytes = b"") -> None:
        self.calls: Counter[str] = Counter()
        self.marked = 0
        self._mark = mark
        self._marks: dict[bytes, asyncio.Event] = {}
        parts = urlsplit(url)
        self._at = parts.hostname or "127.0.0.1", parts.port or 6379

    async def __aenter__(self) -> Self:
        self._reader, self._writer = await asyncio.open_connection(*self._at, limit=1 << 26)
        self._writer.write(b"MONITOR\r\n")
        await self._reader.readline()
        self._task = asyncio.create_task(self._read())
        return self

    async def __aexit__(self, *_: object) -> None:
        self._task.cancel()
        with suppress(asyncio.CancelledError):
            await self._task
        self._writer.close()

    async def catch_up(self) -> None:
        """Wait until everything that was sent before now is counted."""
        mark = new_id().encode()
        caught_up = self._marks[mark] = asyncio.Event()
        _, writer = await asyncio.open_connection(*self._at)
        writer.write(b"ECHO %b\r\n" % mark)
        await caught_up.wait()
        writer.close()

    @property
    def scripted(self) -> int:
        """Commands that scripts called."""
        return self.calls[_SCRIPT]

    def sent(self, *, without: frozenset[str] = frozenset()) -> int:
        """Commands that clients sent, ``without`` those from some addresses."""
        return sum(n for at, n in self.calls.items() if at != _SCRIPT and at not in without)

    async def _read(self) -> None:
        while line := await self._reader.readline():
            if marked := _MARK.search(line):
                self._marks[marked[1]].set()
            elif found := _LINE.match(line):
                sender = found[1].decode()
                self.calls[sender] += 1
                self.marked += bool(self._mark) and sender != _SCRIPT and self._mark in line
