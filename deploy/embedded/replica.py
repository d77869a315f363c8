"""A service or a worker as a child process."""

import socket
import sys
from collections.abc import Mapping
from pathlib import Path
from signal import Signals
from typing import Any

import aiohttp

import control
from control.errors import DrawbridgeError
from control.listener import url_of
from deploy.embedded.child import Child, spawn
from deploy.embedded.folder import DataFolder

WORKER_GRACE_S = 5.0
"""How long a worker may go on with running jobs before it is told to hand them back."""

_PROBE = aiohttp.ClientTimeout(total=4.0)  # /ready itself answers within 3.1 s


class NotReady(DrawbridgeError):
    """A replica answers, but not as a ready one."""


class Replica:
    """One service or one worker, on a listening socket that it inherits."""

    def __init__(
        self,
        role: str,
        name: str,
        listener: socket.socket,
        folder: DataFolder,
        environ: Mapping[str, str],
    ) -> None:
        """``role`` is the command that it runs: service or worker."""
        self._role = role
        self._listener = listener
        self._environ = environ
        self.name = name
        self.log = folder.log(name)
        self.url = url_of(listener)
        worker = role == "worker"
        # A service takes SIGINT as: no balancer is to be told, close without the drain delay. A
        # worker takes a second SIGTERM as: hand running jobs back now.
        self.signals = (Signals.SIGTERM,) * 2 if worker else (Signals.SIGINT,)
        self.grace_s = WORKER_GRACE_S if worker else 0.0

    async def spawn(self) -> Child:
        """Start the process."""
        fd = self._listener.fileno()
        argv = (*drawbridge(), self._role, "--fd", str(fd))
        return await spawn(argv, log=self.log, env=self._environ, fds=(fd,))

    async def probe(self) -> None:
        """``/health``, then ``/ready``. Raises :class:`NotReady` or what the client raises."""
        async with aiohttp.ClientSession(timeout=_PROBE) as session:
            for path in ("/health", "/ready"):
                async with session.get(self.url + path) as answer:
                    if answer.status != 200:
                        raise NotReady(f"{path} says {_why(answer.status, await answer.json())}")


def drawbridge() -> tuple[str, ...]:
    """The `drawbridge` command in a process of its own, whatever lies in the working folder."""
    return (sys.executable, "-P", "-m", "control.cli")


def import_path(environ: Mapping[str, str]) -> dict[str, str]:
    """``PYTHONPATH`` for a child, where Drawbridge runs from a checkout that is not installed."""
    root = Path(control.__file__).parents[1]
    if {"site-packages", "dist-packages"} & set(root.parts):
        return {}
    before = environ.get("PYTHONPATH")
    return {"PYTHONPATH": f"{root}:{before}" if before else str(root)}


def _why(status: int, body: Any) -> str:
    """Status and, of a ``/ready`` body, the dependencies that are down."""
    detail = body.get("detail") if isinstance(body, dict) else None
    dependencies = detail.get("dependencies") if isinstance(detail, dict) else None
    if not isinstance(dependencies, dict):
        return str(status)
    down = [f"{name} {state}" for name, state in dependencies.items() if state != "ok"]
    return f"{status}: {', '.join(down)}"
