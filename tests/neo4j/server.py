"""Neo4j as a child process, with the ways of the embedded graph server that it stands in for."""

import asyncio
import os
import shutil
from collections.abc import Mapping
from pathlib import Path
from signal import Signals

from deploy.embedded.child import Child, spawn
from deploy.embedded.folder import DataFolder
from deploy.embedded.graph_server import HOST, KeptPort
from neo4j import AsyncGraphDatabase

JARS = os.environ.get("NEO4J_JARS", "")
"""The folder of Neo4j's libraries; empty: the embedded server is tested on."""

_LAUNCHER = Path(__file__).with_name("Neo4jServer.java")
_OPENED = ("java.nio", "java.io", "java.lang", "sun.nio.ch", "java.util.concurrent")
_TIMEOUT_S = 3.0


class Neo4jServer:
    """Neo4j on a loopback port that it keeps."""

    name = "graph"
    signals = (Signals.SIGTERM,)
    grace_s = 0.0

    def __init__(self, folder: DataFolder, environ: Mapping[str, str], database: str) -> None:
        self._environ = {k: v for k, v in environ.items() if "JAVA" not in k}
        self._database = database
        self._data = folder.subfolder("graph")
        self._port = KeptPort(folder.path / "graph.port")
        self.log = folder.log(self.name)
        self.user = "neo4j"
        self.password = folder.secret("graph")
        self.uri = f"bolt://{HOST}:{self._port.number}"

    async def spawn(self) -> Child:
        """Start the server on its data."""
        java = shutil.which("java")
        assert java is not None, "Neo4j 5.26 needs Java 17"
        argv = [
            *(java, "-Xmx512m", "-XX:+UseSerialGC"),
            *(f"--add-opens=java.base/{package}=ALL-UNNAMED" for package in _OPENED),
            *("-cp", f"{JARS}/*", str(_LAUNCHER), str(self._data), str(self._port.number)),
        ]
        environ = {**self._environ, "NEO4J_PASSWORD": self.password}
        return await spawn(argv, log=self.log, env=environ, cwd=self._data)

    async def probe(self) -> None:
        """``RETURN 1``, as the application asks for it."""
        async with (
            asyncio.timeout(_TIMEOUT_S),
            AsyncGraphDatabase.driver(self.uri, auth=(self.user, self.password)) as driver,
            driver.session(database=self._database) as session,
        ):
            await (await session.run("RETURN 1")).consume()

    def close(self) -> None:
        """Let go of the port."""
        self._port.close()
