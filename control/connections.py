"""Connections of an HTTP server, and how long each may keep it waiting.

aiohttp knows no deadline for the head of a request, answers what it cannot read in plain text, and
takes in whoever connects. Here a head has a deadline, what cannot be read is refused in the form
of the application, and where there are too many connections those go that do nothing.
"""

import asyncio
import re
import resource
import socket
from collections.abc import Callable
from functools import partial
from typing import Any

from aiohttp import HttpVersion11, web
from aiohttp.http_exceptions import InvalidURLError, LineTooLong

from control import logs
from control.entrance_settings import EntranceSection

LONGEST_LINE = 8_190
"""Bytes of the request line, and of one field of the head."""

MOST_FIELDS = 128
_TOO_LARGE = (
    f"The request line and each header field may have {LONGEST_LINE} bytes, and there may be "
    f"{MOST_FIELDS} fields."
)
STUCK_S = 60.0
"""How long a client may leave unread what was sent to it."""

_LINGER_S = 2.0
"""How long what nobody reads any more is still taken, so that its sender sees the answer."""

_RESERVED_FILES = 128
_MOST = 20_000
_TELL_EVERY_S = 10.0
_AGAIN_S = 0.05
_WORDS = re.compile(r"[A-Z][A-Za-z '`-]{4,80}")
_LOG = logs.get(__name__)

Refuse = Callable[[int, str], web.Response]
"""Makes the answer to what could not be read: its status, and why."""


def plainly(status: int, why: str) -> web.Response:
    """The refusal of a server whose application has no form of its own."""
    return web.json_response({"detail": why}, status=status)


def give_up_on_the_deaf(listening: socket.socket) -> None:
    """Have the system end connections whose clients read nothing for :data:`STUCK_S`, where it
    can: aiohttp would wait for them for good."""
    option = getattr(socket, "TCP_USER_TIMEOUT", None)
    if option is not None and listening.family in (socket.AF_INET, socket.AF_INET6):
        listening.setsockopt(socket.IPPROTO_TCP, option, int(STUCK_S * 1000))


def misfit(request: web.BaseRequest) -> tuple[int, str] | None:
    """Status and reason where the request is of no version that is spoken here, or is framed as
    its version does not know, which proxies before us may understand in another way."""
    version = request.version
    if version is HttpVersion11:
        return None
    if version.major != 1:
        return 505, "Only HTTP/1.1 and HTTP/1.0 are spoken here."
    if version < HttpVersion11 and "Transfer-Encoding" in request.headers:
        return 400, "HTTP/1.0 knows no Transfer-Encoding."
    return None


class Server(web.Server):
    """Makes a :class:`Connection` for each client."""

    def __init__(
        self, made: web.Server, entrance: EntranceSection, refuse: Refuse, **settings: Any
    ) -> None:
        super().__init__(
            made.request_handler,
            request_factory=made.request_factory,
            handler_cancellation=made.handler_cancellation,
        )
        self.entrance = entrance
        self.refuse = refuse
        self._settings = settings
        self._most = entrance.connections or _as_many_as_fit()
        self._fresh: dict[Connection, None] = {}
        """Those that have made no request yet, the oldest first."""
        self._idle: dict[Connection, None] = {}
        """Those whose last request has its answer, the idlest first."""
        self._told_at = float("-inf")

    def __call__(self) -> web.RequestHandler:
        return Connection(
            self,
            loop=self._loop,
            access_log=None,
            auto_decompress=False,
            keepalive_timeout=self.entrance.idle_s,
            max_line_size=LONGEST_LINE,
            max_field_size=LONGEST_LINE,
            max_headers=MOST_FIELDS,
            lingering_time=_LINGER_S,
            **self._settings,
        )

    def come(self, connection: "Connection") -> None:
        """Take one in, and where that is one too many, close another."""
        self._fresh[connection] = None
        if len(self._connections) <= self._most:
            return
        next(iter(self._fresh if len(self._fresh) > 1 else self._idle or self._fresh)).cut()
        now = self._loop.time()
        if now - self._told_at >= _TELL_EVERY_S:
            self._told_at = now
            _LOG.warning("too many connections, the idlest are closed", most=self._most)

    def busy(self, connection: Any) -> None:
        """It has made a request."""
        self._fresh.pop(connection, None)
        self._idle.pop(connection, None)

    def rest(self, connection: Any) -> None:
        """Its request has been handled."""
        if connection.connected:
            self._idle[connection] = None


class Connection(web.RequestHandler):
    """One client, as long as it stays."""

    __slots__ = ("_asked", "_head_due", "_server")

    def __init__(self, server: Server, **settings: Any) -> None:
        super().__init__(server, **settings)
        self._server = server
        self._head_due: asyncio.TimerHandle | None = None
        self._asked = False
        """Whether something of a head has come."""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        super().connection_made(transport)
        self._await_head()
        self._server.come(self)

    def data_received(self, data: bytes) -> None:
        super().data_received(data)
        if not self._awaits_head:
            if self._head_due is not None:
                self._head_due.cancel()
                self._head_due = None
        elif data:
            self._asked = True
            if self._head_due is None:
                self._await_head()

    def connection_lost(self, exc: BaseException | None) -> None:
        if self._head_due is not None:
            self._head_due.cancel()
        self._server.busy(self)
        super().connection_lost(exc)

    def handle_error(
        self,
        request: web.BaseRequest,
        status: int = 500,
        exc: BaseException | None = None,
        message: str | None = None,
    ) -> web.StreamResponse:
        """The answer to what cannot be read, and to what our own code did not foresee.

        Neither the answer nor the log repeats what was sent: it may hold a token.
        """
        if status >= 500:
            _LOG.error("unforeseen error", exc_info=exc)
        else:
            _LOG.info("request cannot be read", reason=type(exc).__name__)
        if request.writer.output_size > 0:
            raise ConnectionError("the answer had begun")
        if isinstance(exc, LineTooLong) or "Too many headers" in (message or ""):
            status, why = 431, _TOO_LARGE
        elif status < 500:
            why = _in_a_word(exc, message or "")
        else:
            why = "The fault is logged."
        response = self._server.refuse(status, why)
        response.force_close()
        return response

    def cut(self) -> None:
        """End it at once."""
        self._server.busy(self)
        if self.transport is not None:
            self.transport.abort()

    @property
    def _awaits_head(self) -> bool:
        waiter = self._waiter
        return self._request_count == 0 or (waiter is not None and not waiter.done())

    def _await_head(self) -> None:
        self._asked = self._request_count > 0
        self._head_due = self._loop.call_later(self._server.entrance.head_s, self._too_late)

    def _too_late(self, *, sure: bool = False) -> None:
        self._head_due = None
        if not self._awaits_head or self.transport is None:
            return
        if not sure:  # a process that was held has its timers before what came meanwhile
            self._head_due = self._loop.call_later(_AGAIN_S, partial(self._too_late, sure=True))
            return
        if self._asked:  # browsers open connections in advance: these expect no answer
            self.transport.write(
                _on_the_wire(self._server.refuse(408, "The head is not complete."))
            )
        self.force_close()


def _in_a_word(error: BaseException | None, message: str) -> str:
    """What aiohttp says of it, without the bytes that it shows."""
    told = message.partition("\n\n")[0].removeprefix("Bad status line:").strip().rstrip(":.")
    known = not isinstance(error, InvalidURLError) and _WORDS.fullmatch(told)
    return f"{told}." if known else "It is not HTTP as it should be."


def _on_the_wire(response: web.Response) -> bytes:
    body = response.body if isinstance(response.body, bytes) else b""
    head = {**response.headers, "Content-Length": str(len(body)), "Connection": "close"}
    lines = (
        f"HTTP/1.1 {response.status} {response.reason}",
        *(f"{n}: {v}" for n, v in head.items()),
    )
    return "\r\n".join((*lines, "", "")).encode() + body


def _as_many_as_fit() -> int:
    files = resource.getrlimit(resource.RLIMIT_NOFILE)[0]
    if files == resource.RLIM_INFINITY:
        return _MOST
    return min(_MOST, max(files - _RESERVED_FILES, files // 2))
