"""A link to a store that can become half-open."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import replace
from urllib.parse import parse_qs, urlsplit

from control.config import Config
from tests.conftest import LiveStores

Upstream = Callable[[], Awaitable[tuple[asyncio.StreamReader, asyncio.StreamWriter]]]


DRIP_S = 0.1
"""For each byte."""


class Link:
    """A TCP link to a store that can become half-open: it swallows every byte, closes nothing.

    What was swallowed is lost; once healed, only new connections work. It can also be slow: then
    every byte comes, one by one.
    """

    def __init__(self, upstream: Upstream) -> None:
        self._upstream = upstream
        self._tasks: set[asyncio.Task[None]] = set()
        self._poisoned: set[asyncio.StreamWriter] = set()
        self._open: set[asyncio.StreamWriter] = set()
        self.swallows = False
        self.drips = False
        self.cuts = False
        self.port = 0

    async def __aenter__(self) -> "Link":
        self._server = await asyncio.start_server(self._connected, "127.0.0.1", 0)
        self.port = self._server.sockets[0].getsockname()[1]
        return self

    async def __aexit__(self, *_: object) -> None:
        self._server.close()
        for writer in self._open:
            writer.transport.abort()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    def half_open(self) -> None:
        self.swallows = True
        self._poisoned |= self._open

    def drip(self) -> None:
        self.drips = True

    def cut(self) -> None:
        """Break every connection, and each new one at once."""
        self.cuts = True
        self.reset()

    def heal(self) -> None:
        self.swallows = self.drips = self.cuts = False

    def reset(self) -> None:
        """Break every connection; new ones work."""
        for writer in tuple(self._open):
            writer.transport.abort()

    @property
    def connections(self) -> int:
        """How many are open."""
        return len(self._open) // 2

    async def _connected(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        if self.cuts:
            writer.transport.abort()
            return
        there, back = await self._upstream()
        self._open |= {writer, back}
        if self.swallows:
            self._poisoned |= {writer, back}
        try:
            await asyncio.gather(self._carry(reader, back), self._carry(there, writer))
        finally:
            for end in (writer, back):
                end.transport.abort()
                self._open.discard(end)

    async def _carry(self, source: asyncio.StreamReader, sink: asyncio.StreamWriter) -> None:
        with contextlib.suppress(ConnectionError):
            while data := await source.read(65536):
                while self.drips and data:
                    sink.write(data[:1])
                    data = data[1:]
                    await asyncio.sleep(DRIP_S)  # the slowness itself
                if sink not in self._poisoned:
                    sink.write(data)
                    await sink.drain()
            sink.transport.abort()


@contextlib.asynccontextmanager
async def linked(stores: LiveStores, name: str) -> AsyncIterator[tuple[Link, Config]]:
    """A link to one store, and the configuration that goes through it."""
    config = stores.config
    url = {"redis": config.redis.url, "neo4j": config.graph.uri, "database": config.postgres.url}
    parts = urlsplit(url[name])
    if name == "neo4j":
        link = Link(lambda: asyncio.open_connection(parts.hostname, parts.port))
    elif name == "redis":
        link = Link(lambda: asyncio.open_unix_connection(parts.path))
    else:
        socket = f"{parse_qs(parts.query)['host'][0]}/.s.PGSQL.5432"
        link = Link(lambda: asyncio.open_unix_connection(socket))
    async with link:
        through = f"127.0.0.1:{link.port}"
        if name == "neo4j":
            config = replace(config, graph=replace(config.graph, uri=f"bolt://{through}"))
        elif name == "redis":
            user = f"{parts.netloc.rpartition('@')[0]}@" if "@" in parts.netloc else ""
            config = replace(config, redis=replace(config.redis, url=f"redis://{user}{through}"))
        else:
            address = f"postgresql://{parts.username}:{parts.password}@{through}{parts.path}"
            config = replace(config, postgres=replace(config.postgres, url=address))
        yield link, config
