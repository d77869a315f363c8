"""The beacon: one instance keeps Redis true to PostgreSQL and says each second where it stands.

Whoever holds a PostgreSQL advisory lock is in office. The others hear its beacon, and try for the
lock when they hear none; so a change that was committed and never projected, a Redis that was
emptied, and a message that was lost are each mended within about a second.
"""

import asyncio
import contextlib
import math
import random

import asyncpg
import msgspec

from control import logs
from control.clock import Clock
from control.errors import StoreUnavailable
from control.flags.document import Document, Position
from control.flags.events import BeaconEvent
from control.flags.ledger import Ledger
from control.flags.link import Link
from control.flags.projection import Projection
from control.flags.replica import Replica
from control.flags.truth import TruthFeed, truth_feed

LOCK = 0x6472_6177_6263_6E00
"""Key of the advisory lock: the letters "drawbcn"."""

TICK_S = 1.0
VACANT_S = 2.0
"""A silence this long means that nobody is in office."""

_GIVE_UP_OFFICE = "SET idle_session_timeout = '3s'"
"""An instance that is held (SIGSTOP) keeps its connection; PostgreSQL 14 and newer ends it."""


class Beacon:
    """One candidate for the office."""

    def __init__(
        self,
        url: str,
        *,
        ledger: Ledger,
        projection: Projection,
        replica: Replica,
        link: Link,
        clock: Clock,
    ) -> None:
        self._url = url
        self._ledger = ledger
        self._projection = projection
        self._replica = replica
        self._link = link
        self._clock = clock
        self._log = logs.get(__name__)
        self._unable = ""
        self.in_office = False

    async def run(self) -> None:
        """Serve whenever the office is vacant, for ever."""
        while True:
            try:
                async with truth_feed(self._url) as feed:
                    if await feed.connection.fetchval("SELECT pg_try_advisory_lock($1)", LOCK):
                        await self._serve(feed)
            except StoreUnavailable as error:
                if str(error) != self._unable:
                    self._unable = str(error)
                    self._log.info("no beacon from here", reason=self._unable)
            finally:
                self.in_office = False
            await self._until_vacant()

    async def _until_vacant(self) -> None:
        """Until no beacon has been heard for a while; the jitter lets one candidate come first."""
        while True:
            await asyncio.sleep(VACANT_S * random.uniform(0.5, 1.0))  # noqa: S311 - jitter
            heard_at = self._link.beacon_at
            if heard_at is None or self._clock.monotonic() - heard_at > VACANT_S:
                return

    async def _serve(self, feed: TruthFeed) -> None:
        with contextlib.suppress(asyncpg.UndefinedObjectError):
            await feed.connection.execute(_GIVE_UP_OFFICE)
        document = await self._ledger.read()
        reached_at = -math.inf  # who does not reach Redis leaves the office to those who do
        while True:
            if feed.position is not None and feed.position > document.position:
                document = await self._ledger.read()
            self._replica.apply(document, "database")
            try:
                document = await self._tick(document)
                reached_at = self._clock.monotonic()
            except StoreUnavailable as error:
                if error.dependency != "redis" or self._clock.monotonic() - reached_at > VACANT_S:
                    raise
            if not self.in_office:
                self.in_office, self._unable = True, ""
                self._log.info("beacon in office", position=str(document.position))
            await asyncio.sleep(TICK_S)
            await feed.connection.fetchval("SELECT 1")  # the lock lives as long as this does

    async def _tick(self, document: Document) -> Document:
        """Mend the projection and say the position; the document that now stands."""
        newer = await self._projection.write(document)
        ahead = max(newer or document.position, self._replica.position)
        if ahead > document.position:
            document = await self._overtake(ahead)
            await self._projection.write(document)
        await self._projection.say(self._said(document.position))
        return document

    async def _overtake(self, ahead: Position) -> Document:
        """Somebody knows more than PostgreSQL seemed to.

        Mostly a commit that came meanwhile. Where it is not, PostgreSQL has lost commits (a backup
        came back, a standby took over), and every instance would take what it says now for old: a
        new epoch makes the truth the newest again.
        """
        document = await self._ledger.read()
        if document.position < ahead:
            self._log.error(
                "PostgreSQL is behind what was already known: its state is declared anew",
                known=str(ahead),
                truth=str(document.position),
            )
            document = await self._ledger.renew_epoch(above=ahead.epoch)
        self._replica.apply(document, "database")
        return document

    def _said(self, position: Position) -> bytes:
        return msgspec.json.encode(
            BeaconEvent(epoch=position.epoch, version=position.version, at=self._clock.now())
        )
