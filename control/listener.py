"""A process's listening socket: inherited from a supervisor, or bound here."""

import contextlib
import errno
import socket
from collections.abc import AsyncIterator

from aiohttp import web

from control.errors import DrawbridgeError

_BACKLOG = 1024


class CannotListen(DrawbridgeError):
    """The address cannot be had."""


def listening_socket(host: str, port: int, fd: int | None = None) -> socket.socket:
    """The socket ``fd``, or one bound to ``host`` and ``port`` (0: any). Raises CannotListen."""
    if fd is not None:
        try:
            return socket.socket(fileno=fd)
        except OSError as error:
            raise CannotListen(f"file descriptor {fd} is not a socket") from error
    try:
        family, _, _, _, address = socket.getaddrinfo(
            host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )[0]
        found = socket.create_server(address[:2], family=family, backlog=_BACKLOG)
    except OSError as error:
        reason = "is in use" if error.errno == errno.EADDRINUSE else f"cannot be used: {error}"
        raise CannotListen(f"{host}:{port} {reason}") from error
    return found


def url_of(listening: socket.socket) -> str:
    """``http://127.0.0.1:8080``; with a bracketed address for IPv6."""
    host, port = listening.getsockname()[:2]
    return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"


@contextlib.asynccontextmanager
async def serving(
    app: web.Application, listening: socket.socket, *, finish_s: float = 30.0
) -> AsyncIterator[web.AppRunner]:
    """Serve ``app``; at the end stop accepting, then let requests under way finish.

    aiohttp's ``run_app`` closes the listener at SIGTERM at once, when readiness should still be
    able to say 503; here signals are the lifespan's business. Bodies are left as they were sent,
    and the handler of a client that went away is cancelled.
    """
    runner = web.AppRunner(
        app,
        access_log=None,
        auto_decompress=False,
        handler_cancellation=True,
        shutdown_timeout=finish_s,
    )
    await runner.setup()
    try:
        await web.SockSite(runner, listening, backlog=_BACKLOG).start()
        yield runner
    finally:
        await runner.cleanup()
