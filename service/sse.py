"""Server-Sent Events: a stream of ``id``, ``event`` and ``data`` lines that never goes silent."""

import asyncio
from collections.abc import AsyncIterator

from aiohttp import web

from control import cancelling, logs
from control.errors import DrawbridgeError
from worker.jobs.job import JobEvent

HEARTBEAT_S = 15.0
"""How often a comment is sent where nothing happens, so that proxies keep the connection."""

RECONNECT_MS = 1000
"""How long a client waits before it comes back."""

_HEADERS = {
    "Content-Type": "text/event-stream; charset=utf-8",
    "Cache-Control": "no-store",
    "X-Accel-Buffering": "no",
}
_LOG = logs.get(__name__)


async def stream(
    request: web.Request,
    events: AsyncIterator[JobEvent],
    *,
    until: asyncio.Event,
    heartbeat_s: float = HEARTBEAT_S,
) -> web.StreamResponse:
    """Send ``events`` until they end, ``until`` is set, or the client goes away.

    Where they break off (Redis is away, say) the stream ends too, and the client comes back with
    the id of the last event that it saw.
    """
    response = web.StreamResponse(headers=_HEADERS)
    await response.prepare(request)
    await response.write(f"retry: {RECONNECT_MS}\n\n".encode())
    over = asyncio.ensure_future(until.wait())
    coming: asyncio.Future[JobEvent] | None = None
    try:
        while not over.done():
            coming = coming or asyncio.ensure_future(anext(events))
            await asyncio.wait(
                (coming, over), timeout=heartbeat_s, return_when=asyncio.FIRST_COMPLETED
            )
            if coming.done():
                event, coming = coming.result(), None
                await response.write(encoded(event))
            elif not over.done():
                await response.write(b": still here\n\n")
    except (StopAsyncIteration, ConnectionResetError):
        pass
    except DrawbridgeError as error:
        _LOG.warning("event stream broke off", reason=str(error))
    finally:
        await cancelling.end(over, *([coming] if coming else []))
    return response


def encoded(event: JobEvent) -> bytes:
    """One event as it goes over the wire."""
    data = "".join(f"data: {line}\n" for line in event.data.split("\n"))
    return f"id: {event.id}\nevent: {event.type}\n{data}\n".encode()
