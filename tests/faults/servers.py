"""Redis servers of a test's own, which it may empty, starve and put in each other's place."""

import os
import shutil
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from signal import Signals
from urllib.parse import unquote, urlsplit

from redis.asyncio import Redis

from deploy.embedded.folder import DataFolder
from deploy.embedded.keeper import Keeper
from deploy.embedded.redis_server import RedisServer
from tests import signals


class OwnRedis:
    """One real server on a unix socket; bytes in and out of :attr:`client`."""

    def __init__(self, path: Path) -> None:
        self._folder = DataFolder(path)
        self._server = RedisServer(self._folder, os.environ)
        self._keeper = Keeper(self._server, print)
        self.data = self._folder.subfolder("redis")
        self.url = self._server.url
        self.socket = unquote(urlsplit(self.url).path)
        self.client = Redis.from_url(self.url, socket_timeout=20)

    async def start(self) -> None:
        """Start it on the data it has, and wait until it answers."""
        await self._keeper.start()

    async def ensure(self) -> None:
        """Start it where it is down."""
        if self._keeper.pid is None:
            await self.start()

    async def kill(self) -> None:
        """kill -9; its data stays."""
        self._send(Signals.SIGKILL)
        await self._keeper.stop()

    def freeze(self) -> None:
        """Hold it (SIGSTOP): it keeps its connections and answers nothing."""
        self._send(Signals.SIGSTOP)

    def thaw(self) -> None:
        """Let it go on."""
        self._send(Signals.SIGCONT)

    def _send(self, number: Signals) -> None:
        assert self._keeper.pid is not None, "it is down"
        signals.send(self._keeper.pid, number)

    def forget(self) -> None:
        """Delete the data of a server that is down."""
        assert self._keeper.pid is None
        shutil.rmtree(self.data)
        self._folder.subfolder("redis")

    async def listen(self) -> int:
        """Serve on a loopback port too, for a replica to follow; the port."""
        with socket.create_server(("127.0.0.1", 0)) as free:
            port: int = free.getsockname()[1]
        await self.client.config_set("port", port)
        return port

    async def close(self) -> None:
        """Stop it and let go of its folder."""
        await self.client.aclose()
        await self._keeper.stop()
        self._folder.close()


@asynccontextmanager
async def own_redis(path: Path) -> AsyncIterator[OwnRedis]:
    """A server that runs, with its data under ``path``."""
    server = OwnRedis(path)
    try:
        await server.start()
        yield server
    finally:
        await server.close()
