"""A receiver of webhooks, on loopback, that answers as it is told."""

import asyncio
import contextlib
import socket
from collections.abc import AsyncIterator
from typing import Any

from aiohttp import web
from aiohttp.typedefs import Handler
from standardwebhooks import Webhook

from control.listener import serving, url_of
from control.webhooks.signature import new_secret

SECRET = new_secret()
SETTINGS = {
    "DRAWBRIDGE_CALLBACK_SECRET": SECRET,
    "DRAWBRIDGE_CALLBACK_NETWORKS": "127.0.0.0/8",
}


class Receiver:
    """Takes messages whose signature is good. ``answers`` are what the next ones are answered
    with; after the last one it is 204."""

    def __init__(self, url: str) -> None:
        self.url = url
        self.secret = SECRET
        self.got: list[tuple[str, Any]] = []
        """The id and the body of each message, whatever it was answered."""
        self.answers: list[web.StreamResponse] = []
        self.held: asyncio.Event | None = None
        """Set to an event, it answers nobody before that is set."""
        self._grown = asyncio.Condition()
        self._handler: Handler = self.take

    async def take(self, request: web.Request) -> web.StreamResponse:
        """One message."""
        assert request.headers["Content-Type"] == "application/json"
        message = Webhook(self.secret).verify(await request.read(), dict(request.headers))
        async with self._grown:
            self.got.append((request.headers["webhook-id"], message))
            self._grown.notify_all()
        if self.held is not None:
            await self.held.wait()
        return self.answers.pop(0) if self.answers else web.Response(status=204)

    def take_as(self, handler: Handler) -> None:
        """Answer by ``handler`` from now on."""
        self._handler = handler

    async def handle(self, request: web.Request) -> web.StreamResponse:
        """One request."""
        return await self._handler(request)

    async def came(self, count: int = 1) -> list[tuple[str, Any]]:
        """The first ``count`` messages, once they are there."""
        async with asyncio.timeout(20), self._grown:
            await self._grown.wait_for(lambda: len(self.got) >= count)
        return self.got[:count]


@contextlib.asynccontextmanager
async def receiver() -> AsyncIterator[Receiver]:
    """One that listens while the block lasts."""
    listening = socket.create_server(("127.0.0.1", 0))
    made = Receiver(url_of(listening) + "/told")
    app = web.Application()
    app.router.add_route("*", "/told", made.handle)
    async with serving(app, listening):
        try:
            yield made
        finally:
            if made.held is not None:
                made.held.set()
