"""Server-Sent Events: a stream of ``id``, ``event`` and ``data`` lines that never goes silent."""

import asyncio
from collections.abc import AsyncIterator, Coroutine, Sequence
from typing import Any, NamedTuple, Protocol

from aiohttp import web

from control import cancelling, logs
from control.errors import DrawbridgeError

HEARTBEAT_S = 15.0
"""How often a comment is sent where nothing happens, so that proxies keep the connection."""

RECONNECT_MS = 1000
"""How long a client waits before it comes back."""

LAST_WORD_S = 1.0
"""How long a client that does not read holds up the end of its stream."""

_HEADERS = {
    "Content-Type": "text/event-stream; charset=utf-8",
    "Cache-Control": "no-store",
    "X-Accel-Buffering": "no",
}
_LOG = logs.get(__name__)


class Event(Protocol):
    """What can be sent. ``data`` is text of any number of lines; ``id`` is ``""`` where a client
    that comes back is not to name this event as the last one that it saw."""

    @property
    def type(self) -> str: ...
    @property
    def data(self) -> str: ...
    @property
    def id(self) -> str: ...


class Message(NamedTuple):
    """An event that is made here."""

    type: str
    data: str
    id: str = ""


Ending = Coroutine[Any, Any, object]
"""Waits for what ends a stream; may return a :class:`Message`, to be sent as its last event."""


async def stream(
    request: web.Request,
    events: AsyncIterator[Event],
    *,
    until: Sequence[Ending],
    heartbeat_s: float = HEARTBEAT_S,
) -> web.StreamResponse:
    """Send ``events`` until they end, the first of ``until`` has come, or the client goes away.

    Where they break off (Redis is away, say) the stream ends too, and the client comes back with
    the id of the last event that it saw.
    """
    endings = [asyncio.ensure_future(ending) for ending in until]
    response = web.StreamResponse(headers=_HEADERS)
    sending: asyncio.Task[None] | None = None
    try:
        await response.prepare(request)
        sending = asyncio.create_task(_send(response, events, endings, heartbeat_s))
        await asyncio.wait((sending, *endings), return_when=asyncio.FIRST_COMPLETED)
        await asyncio.wait((sending,), timeout=LAST_WORD_S)
        if not sending.done() and request.transport is not None:
            request.transport.abort()  # the client has stopped reading: its write now fails
        await sending
    except ConnectionResetError:
        pass
    except DrawbridgeError as error:
        _LOG.warning("event stream broke off", reason=str(error))
    finally:
        await cancelling.end(*endings, *([sending] if sending else []))
    return response


def encoded(event: Event) -> bytes:
    """One event as it goes over the wire."""
    head = f"id: {event.id}\n" if event.id else ""
    data = "".join(f"data: {line}\n" for line in event.data.split("\n"))
    return f"{head}event: {event.type}\n{data}\n".encode()


async def _send(
    response: web.StreamResponse,
    events: AsyncIterator[Event],
    endings: Sequence[asyncio.Future[Any]],
    heartbeat_s: float,
) -> None:
    """Everything that comes, comments while nothing does, and the last word of what ends it."""
    await response.write(f"retry: {RECONNECT_MS}\n\n".encode())
    coming: asyncio.Future[Event] | None = None
    try:
        while not (over := [ending for ending in endings if ending.done()]):
            coming = coming or asyncio.ensure_future(anext(events))
            await asyncio.wait(
                (coming, *endings), timeout=heartbeat_s, return_when=asyncio.FIRST_COMPLETED
            )
            if coming.done():
                event, coming = coming.result(), None
                await response.write(encoded(event))
            elif not any(ending.done() for ending in endings):
                await response.write(b": still here\n\n")
        for last in (ending.result() for ending in over):
            if isinstance(last, Message):
                await response.write(encoded(last))
    except StopAsyncIteration:
        pass
    finally:
        if coming is not None:
            await cancelling.end(coming)
    await response.write_eof()
