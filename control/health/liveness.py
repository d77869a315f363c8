"""``/health`` on a port of its own, answered by threads: also while the event loop is blocked.

Whoever restarts a process that does not answer for a few seconds would lose what it is doing; this
port says that the process lives, and to probe networks since when and where its loop is blocked.
"""

import asyncio
import contextlib
import socket
import threading
from collections.abc import AsyncIterator, Callable
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import msgspec

from control import logs
from control.health.networks import ProbeNetworks
from control.health.watchdog import Watchdog

_IDLE_S = 5.0
"""How long a connection may say nothing."""


@contextlib.asynccontextmanager
async def served(
    host: str,
    port: int,
    *,
    alive: Callable[[], bytes],
    watchdog: Watchdog,
    networks: ProbeNetworks,
) -> AsyncIterator[int | None]:
    """Answer for the block with what ``alive`` gives, a JSON object; gives the port.

    ``port`` 0: nothing is served, and ``None`` given. The same where the port is taken, which is
    logged: another process of this machine has the setting too.
    """
    server = _listening(host, port, alive, watchdog, networks) if port else None
    if server is None:
        yield None
        return
    threading.Thread(target=server.serve_forever, name="liveness", daemon=True).start()
    try:
        yield server.server_address[1]
    finally:
        await asyncio.to_thread(server.shutdown)  # waits until its thread has heard
        server.server_close()


def _listening(
    host: str,
    port: int,
    alive: Callable[[], bytes],
    watchdog: Watchdog,
    networks: ProbeNetworks,
) -> ThreadingHTTPServer | None:
    class Listening(_Server):
        address_family = socket.AF_INET6 if ":" in host else socket.AF_INET

    class Answering(_Liveness):
        def body(self) -> bytes:
            blocked = watchdog.blocked
            if blocked is None or not networks.holds(self.client_address[0], self.headers.keys()):
                return alive()
            told = {**msgspec.json.decode(alive()), "event_loop": blocked.told()}
            return msgspec.json.encode(told)

    try:
        return Listening((host, port), Answering)
    except OSError as error:
        reason = type(error).__name__ if error.errno is None else error.strerror
        logs.get(__name__).error("liveness port cannot be had", port=port, reason=reason)
        return None


class _Server(ThreadingHTTPServer):
    daemon_threads = True

    def handle_error(self, request: object, client_address: object) -> None:
        """A client went away; its thread ends, and that is all."""


class _Liveness(BaseHTTPRequestHandler):
    """GET and HEAD of ``/health``."""

    protocol_version = "HTTP/1.1"
    server_version = "drawbridge"
    sys_version = ""
    timeout = _IDLE_S

    def body(self) -> bytes:
        """What is answered."""
        raise NotImplementedError

    def do_GET(self) -> None:
        """Answer."""
        self._answer(with_body=True)

    def do_HEAD(self) -> None:
        """Answer without the body."""
        self._answer(with_body=False)

    def log_message(self, *_: object) -> None:
        """Nothing: it is asked every second or so."""

    def _answer(self, *, with_body: bool) -> None:
        found = self.path.partition("?")[0] in ("/health", "/health/")
        body = self.body() if found else b'{"detail":"There is only /health here."}'
        self.send_response(HTTPStatus.OK if found else HTTPStatus.NOT_FOUND)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.send_header("Cache-Control", "no-store")
        self.end_headers()
        if with_body:
            self.wfile.write(body)
