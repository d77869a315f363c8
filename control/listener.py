"""A process's listening socket: inherited from a supervisor, or bound here."""

import asyncio
import contextlib
import errno
import socket
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

from control.imports import deferred, without

# A server has no use for the client, and C++ for a few short lists takes more than they.
with (
    without("frozenlist._frozenlist"),
    deferred(
        "aiohttp.client",
        "aiohttp.client_middleware_digest_auth",
        "aiohttp.client_middlewares",
        "aiohttp.connector",
        "aiohttp.cookiejar",
        "aiohttp.formdata",
        "aiohttp.resolver",
        "aiohttp.tracing",
        "attr.validators",
    ),
):
    from aiohttp import web
    from aiohttp.typedefs import Handler

from control.connections import Refuse, Server, give_up_on_the_deaf, misfit, plainly
from control.entrance_settings import EntranceSection
from control.errors import DrawbridgeError

_BACKLOG = 1024

AtOnce = Callable[[web.BaseRequest], web.Response | None]
Routed = Callable[[web.BaseRequest], Awaitable[web.StreamResponse]]

AT_ONCE = web.AppKey[AtOnce]("at_once", object)  # type: ignore[arg-type]
"""What an application may answer before a request is routed, from memory; ``None`` for all else.
Such an answer meets no middleware and no signal. Once the end has begun nothing is."""


REFUSE = web.AppKey[Refuse]("refuse", object)  # type: ignore[arg-type]
"""In what form an application refuses what cannot be read."""


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
    app: web.Application,
    listening: socket.socket,
    *,
    entrance: EntranceSection | None = None,
    finish_s: float = 30.0,
) -> AsyncIterator[None]:
    """Serve ``app`` to callers who keep to ``entrance``; at the end stop accepting, then let
    requests under way finish.

    aiohttp's ``run_app`` closes the listener at SIGTERM at once, when readiness should still be
    able to say 503; here signals are the lifespan's business. Bodies are left as they were sent,
    and the handler of a client that went away is cancelled.
    """
    under_way = _UnderWay()
    app.middlewares.insert(0, under_way.count)
    app.on_response_prepare.append(under_way.say_goodbye)
    give_up_on_the_deaf(listening)
    runner = _Runner(app, entrance or EntranceSection(), under_way, shutdown_timeout=finish_s)
    await runner.setup()
    try:
        await web.SockSite(runner, listening, backlog=_BACKLOG).start()
        yield
    finally:
        for site in tuple(runner.sites):
            await site.stop()
        await app.shutdown()  # its event streams end now
        await under_way.finished(finish_s)
        await runner.cleanup()


class _Runner(web.AppRunner):
    """Serves through connections of ours."""

    def __init__(
        self, app: web.Application, entrance: EntranceSection, under_way: "_UnderWay", **terms: Any
    ) -> None:
        super().__init__(app, handler_cancellation=True, **terms)
        self._entrance = entrance
        self._under_way = under_way

    async def _make_server(self) -> Server:
        server = Server(await super()._make_server(), self._entrance, self.app.get(REFUSE, plainly))
        server.request_handler = self._under_way.of(server, self.app.get(AT_ONCE))
        return server


class _UnderWay:
    """The requests that are being handled.

    aiohttp's runner waits for them too, but drops from then on what their clients still send, so
    that an upload under way would never be whole.
    """

    def __init__(self) -> None:
        self._open = 0
        self._closing = False
        self._none = asyncio.Event()
        self._none.set()

    @web.middleware
    async def count(self, request: web.Request, handler: Handler) -> web.StreamResponse:
        """Handle one request."""
        self._open += 1
        self._none.clear()
        try:
            return await handler(request)
        finally:
            self._open -= 1
            if self._open == 0:
                self._none.set()

    def of(self, server: Server, at_once: AtOnce | None) -> Routed:
        """What handles the requests of ``server``."""
        routed = server.request_handler

        async def handled(request: web.BaseRequest) -> web.StreamResponse:
            server.busy(request.protocol)
            try:
                if at_once and not self._closing and (answer := at_once(request)):
                    return answer
                if unfit := misfit(request):
                    answer = server.refuse(*unfit)
                    answer.force_close()
                    return answer
                return await routed(request)
            finally:
                server.rest(request.protocol)

        return handled

    async def say_goodbye(self, _request: web.Request, response: web.StreamResponse) -> None:
        """Have clients open another connection, elsewhere, for their next request."""
        if self._closing:
            response.force_close()

    async def finished(self, within_s: float) -> None:
        """Wait until there are none, at most ``within_s``."""
        self._closing = True
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(self._none.wait(), within_s)
