"""The whole stack: stores, then the schema, then services and workers; and back."""

import asyncio
import socket
from collections.abc import Callable, Coroutine, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from signal import Signals
from typing import Any

from control import cancelling
from control.config import Config
from control.errors import DrawbridgeError
from control.listener import CannotListen, listening_socket, url_of
from control.webhooks import signature
from deploy.embedded.child import spawn
from deploy.embedded.folder import DataFolder
from deploy.embedded.keeper import Keeper
from deploy.embedded.replica import Replica, drawbridge, import_path
from deploy.embedded.stores import Stores

HOST = "127.0.0.1"
_LAST_PORT = 65535


@dataclass(frozen=True)
class Plan:
    """What is asked for. Port 0: free ports; else the replicas take ``port`` and the next ones."""

    services: int = 1
    workers: int = 1
    port: int = 8080
    worker_port: int = 8090
    redis_program: Path | None = None


class Stack:
    """Everything that `drawbridge up` runs on one data folder.

    Making it takes the ports and looks for the wheels, :meth:`start` starts, :meth:`stop` may be
    called at any time after. Raises :class:`DrawbridgeError`.
    """

    def __init__(
        self,
        folder: DataFolder,
        config: Config,
        plan: Plan,
        environ: Mapping[str, str],
        say: Callable[[str], None],
    ) -> None:
        self._folder = folder
        self._say = say
        self._listeners: list[socket.socket] = []
        self._ready = False
        self._keeping: list[asyncio.Task[None]] = []
        self._admin_tokens = config.service.admin_token or folder.secret("admin-token")
        self.admin_token = self._admin_tokens.split()[0]
        try:
            services = self._listen(plan.services, plan.port, "--port")
            workers = self._listen(plan.workers, plan.worker_port, "--worker-port")
            self._stores = Stores(folder, config, environ, say, plan.redis_program)
        except BaseException:
            self._close_listeners()
            raise
        self._environ = {
            **environ,
            **import_path(environ),
            **self._stores.addresses.environment(),
            "DRAWBRIDGE_ADMIN_TOKEN": self._admin_tokens,
            "DRAWBRIDGE_SECRET": config.control.secret or folder.secret("signing-secret"),
            "DRAWBRIDGE_CALLBACK_SECRET": " ".join(config.callbacks.secrets)
            or folder.secret("callback-secret", signature.new_secret),
            "DRAWBRIDGE_SUBSCRIBER_SECRET": " ".join(config.notify.secrets)
            or folder.secret("subscriber-secret"),
            "DRAWBRIDGE_STATUS_URL": config.status_page.url
            or (url_of(services[0]) if services else ""),
            "DRAWBRIDGE_DATA_DIR": str(folder.path),
        }
        self.services = self._replicas("service", services)
        self.workers = self._replicas("worker", workers)
        self._processes = [Keeper(replica, say) for replica in (*self.services, *self.workers)]

    def _listen(self, count: int, first: int, option: str) -> list[socket.socket]:
        """The listening sockets of the replicas. They are held here, so that a busy port is known
        before anything starts, a restarted replica keeps its address, and who connects meanwhile
        waits instead of being refused."""
        last = first + count - 1 if first else 0
        if last > _LAST_PORT:
            raise DrawbridgeError(f"there is no port {last}; choose a lower {option}")
        made: list[socket.socket] = []
        for port in range(first, last + 1) if first else [0] * count:
            try:
                made.append(listening_socket(HOST, port))
            except CannotListen as error:
                raise DrawbridgeError(f"{error}; choose another port with {option}") from None
            self._listeners.append(made[-1])
        return made

    def _replicas(self, role: str, listeners: list[socket.socket]) -> list[Replica]:
        return [
            Replica(role, f"{role}-{number}", listener, self._folder, self._environ)
            for number, listener in enumerate(listeners, 1)
        ]

    async def start(self) -> None:
        """Start everything; return when all serve. Raises :class:`DrawbridgeError`."""
        stores = dict(self._stores.keepers)
        database = self._start_database(stores.pop("postgres", None))
        await _together([database, *(self._start(keeper) for keeper in stores.values())])
        self._keeping.append(asyncio.create_task(self._stores.sync()))
        await _together([self._start(keeper) for keeper in self._processes])
        self._ready = True
        self._note()

    async def _start(self, keeper: Keeper) -> None:
        await keeper.start()
        self._keeping.append(asyncio.create_task(keeper.keep(self._note)))

    async def _start_database(self, keeper: Keeper | None) -> None:
        if keeper is not None:
            await self._start(keeper)
        await self._migrate(*([] if keeper is None else ["--contract"]))

    async def run(self) -> None:
        """Keep everything running; returns only by raising."""
        await asyncio.gather(*self._keeping)

    def _note(self) -> None:
        if self._ready:
            self._folder.write_note(self.ready_line())

    async def _migrate(self, *options: str) -> None:
        """Before anything runs: on a database of our own, nobody can mind."""
        log = self._folder.log("migrate")
        command = (*drawbridge(), "migrate", "--quiet", "--postgres-only", *options)
        child = await spawn(command, log=log, env=self._environ)
        try:
            status = await child.wait()
        finally:
            await child.stop((Signals.SIGTERM,))
        if status != 0:
            lines = log.read_text(errors="replace").split("\n")
            said = next((line for line in reversed(lines) if line.strip()), child.end)
            raise DrawbridgeError(f"the schema could not be migrated: {said.strip()} (see {log})")

    async def stop(self, hurry: asyncio.Event) -> None:
        """End every child: services and workers first, then the stores. ``hurry``, once set,
        does not let running jobs finish."""
        await cancelling.end(*self._keeping)
        self._close_listeners()
        await asyncio.gather(*(keeper.stop(hurry) for keeper in self._processes))
        await self._stores.stop()
        self._stores.close()

    def _close_listeners(self) -> None:
        for listener in self._listeners:
            listener.close()

    def ready_line(self) -> dict[str, Any]:
        """Where everything is, in the shape of ``up --json``."""
        pids = [keeper.pid for keeper in self._processes]
        return {
            "services": [replica.url for replica in self.services],
            "workers": [replica.url for replica in self.workers],
            **vars(self._stores.addresses),
            "admin_token": self.admin_token,
            "pids": {
                "service": pids[: len(self.services)],
                "worker": pids[len(self.services) :],
                **{name: self._stores.pid(name) for name in ("redis", "postgres", "graph")},
            },
        }


async def _together(starts: Sequence[Coroutine[Any, Any, None]]) -> None:
    """Run them at once; the first failure ends the others and is raised as itself."""
    failure: BaseException | None = None
    try:
        async with asyncio.TaskGroup() as group:
            for start in starts:
                group.create_task(start)
    except* DrawbridgeError as failures:
        failure = failures.exceptions[0]
    if failure is not None:
        raise failure
