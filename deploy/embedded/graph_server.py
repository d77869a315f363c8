"""The embedded graph database: ArcadeDB, which speaks Bolt, on the Java of its wheel."""

import asyncio
import socket
import sys
from collections.abc import Mapping
from pathlib import Path
from signal import Signals

from deploy.embedded.child import Child, spawn
from deploy.embedded.folder import DataFolder, write_private
from deploy.embedded.wheels import MissingWheel, installed

HOST = "127.0.0.1"
USER = "root"
_TIMEOUT_S = 3.0

_JAVA_OPTIONS = (
    "-Xmx256m",
    "-XX:+UseSerialGC",
    "-XX:TieredStopAtLevel=1",
    "--add-modules=jdk.incubator.vector",
    "--add-opens=java.base/java.util.concurrent.atomic=ALL-UNNAMED",
    "--add-opens=java.base/java.nio.channels.spi=ALL-UNNAMED",
    "--add-opens=java.base/java.lang=ALL-UNNAMED",
)


class GraphServer:
    """A Bolt server on a loopback port that it keeps."""

    name = "graph"
    signals = (Signals.SIGTERM,)
    grace_s = 0.0

    def __init__(self, folder: DataFolder, environ: Mapping[str, str], database: str) -> None:
        wheel = installed("arcadedb_embedded", "arcadedb")
        if wheel is None:
            raise MissingWheel("graph database", "NEO4J_URI")
        self._wheel = wheel
        # Options for Java in the user's environment are meant for other programs.
        self._environ = {k: v for k, v in environ.items() if "JAVA" not in k}
        self._database = database
        self._data = folder.subfolder("graph")
        self._password_file = folder.secret_file("graph")
        self._port = KeptPort(folder.path / "graph.port")
        self.log = folder.log(self.name)
        self.user = USER
        self.password = folder.secret("graph")
        self.uri = f"bolt://{HOST}:{self._port.number}"

    async def spawn(self) -> Child:
        """Start the server on its data."""
        settings = {
            "bolt.host": HOST,
            "bolt.port": self._port.number,
            "bolt.defaultDatabase": self._database,
            "command.timeout": 30_000,
            "opencypher.loadCsv.allowFileUrls": "false",
            "opencypher.loadCsv.allowRemoteUrls": "false",
            "profile": "low-ram",
            "server.databaseDirectory": self._data / "databases",
            "server.defaultDatabases": f"{self._database}[{USER}]",
            "server.httpIncomingHost": HOST,
            "server.httpIncomingPort": 0,
            "server.logsDirectory": self._data / "log",
            "server.plugins": "Bolt:com.arcadedb.bolt.BoltProtocolPlugin",
            "server.rootPasswordPath": self._password_file,
            "server.rootPath": self._data,
            "txWalFlush": 1,
        }
        argv = [
            str(self._wheel / "jre" / "bin" / "java"),
            *_JAVA_OPTIONS,
            *(f"-Darcadedb.{key}={value}" for key, value in settings.items()),
            *("-cp", f"{self._wheel / 'jars'}/*", "com.arcadedb.server.ArcadeDBServer"),
        ]
        return await spawn(argv, log=self.log, env=self._environ, cwd=self._data)

    async def probe(self) -> None:
        """``RETURN 1`` in the database: Bolt answers before the database exists."""
        from neo4j import AsyncGraphDatabase  # noqa: PLC0415 - slow to import; Java starts meanwhile

        async with (
            asyncio.timeout(_TIMEOUT_S),
            AsyncGraphDatabase.driver(
                self.uri,
                auth=(self.user, self.password),
                connection_timeout=_TIMEOUT_S,
                connection_acquisition_timeout=_TIMEOUT_S,
            ) as driver,
            driver.session(database=self._database) as session,
        ):
            await (await session.run("RETURN 1")).consume()

    def close(self) -> None:
        """Let go of the port."""
        self._port.close()


class KeptPort:
    """A loopback port: the one of the last run if it is still free, else a new one."""

    def __init__(self, memory: Path) -> None:
        try:
            self._holder = self._bound(int(memory.read_text()))
        except (OSError, ValueError, OverflowError):
            self._holder = self._bound(0)
        self.number: int = self._holder.getsockname()[1]
        write_private(memory, str(self.number))
        if sys.platform != "linux":
            self._holder.close()

    @staticmethod
    def _bound(number: int) -> socket.socket:
        """Bound but not listening: on Linux the server may bind it too, and while the server is
        down no outgoing connection of another program is given this port."""
        holder = socket.socket()
        holder.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            holder.bind((HOST, number))
        except BaseException:
            holder.close()
            raise
        return holder

    def close(self) -> None:
        """Let go of it."""
        self._holder.close()
