"""A connection to PostgreSQL of its own that hears of every commit."""

import asyncio
import contextlib
from collections.abc import AsyncIterator
from typing import Any

from control.flags.document import Position
from control.stores import postgres
from control.stores.postgres import Connection

CHANNEL = "drawbridge_flags"
"""Where PostgreSQL says the position of each commit, as ``epoch.version``."""

ANSWER_S = 2.0
"""How long PostgreSQL may take to answer on this connection."""


class TruthFeed:
    """What the connection hears."""

    def __init__(self, connection: Connection) -> None:
        self.connection = connection
        self.position: Position | None = None
        """The newest position that was heard of."""
        self._heard = asyncio.Event()

    def notified(self, *said: Any) -> None:
        """Take a notification. Its text is only a hint: whoever hears it reads the truth."""
        with contextlib.suppress(ValueError):
            position = Position.parse(str(said[-1]))
            if self.position is None or position > self.position:
                self.position = position
        self._heard.set()

    def again(self) -> None:
        """Let the next pause end at once."""
        self._heard.set()

    async def pause(self, most_s: float) -> None:
        """Wait for the next notification, at most ``most_s``."""
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(self._heard.wait(), most_s)
        self._heard.clear()


@contextlib.asynccontextmanager
async def truth_feed(url: str) -> AsyncIterator[TruthFeed]:
    """Listen for the block. Raises :class:`StoreUnavailable`, from inside the block too."""
    async with postgres.connection(url, connect_s=ANSWER_S, query_s=ANSWER_S) as connection:
        feed = TruthFeed(connection)
        await connection.add_listener(CHANNEL, feed.notified)
        yield feed
