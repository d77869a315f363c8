"""Where the flags come from while Redis is away: PostgreSQL, by LISTEN and NOTIFY."""

import asyncio
import contextlib

import msgspec

from control import logs, sql
from control.backoff import Backoff
from control.clock import Clock
from control.errors import StoreUnavailable
from control.flags.document import Position
from control.flags.ledger import Ledger
from control.flags.presence import Presence
from control.flags.replica import STALE_S, Replica
from control.flags.truth import TruthFeed, truth_feed

BEAT_S = 1.0


class Fallback:
    """Takes over when the link to Redis has proved nothing for :data:`STALE_S`, and steps back."""

    def __init__(
        self,
        url: str,
        instance: str,
        *,
        ledger: Ledger,
        replica: Replica,
        presence: Presence,
        clock: Clock,
    ) -> None:
        self._url = url
        self._instance = instance
        self._ledger = ledger
        self._replica = replica
        self._presence = presence
        self._clock = clock
        self._queries = sql.queries("presence")
        self._began = clock.monotonic()
        self._log = logs.get(__name__)

    async def run(self) -> None:
        """Stand by for ever."""
        while True:
            await self._until_needed()
            self._log.warning("control state stale", position=str(self._replica.position))
            pause = Backoff()
            while self._silent_s() > STALE_S:
                try:
                    await self._follow()
                except StoreUnavailable as error:
                    self._log.info("no truth from PostgreSQL", reason=error.reason)
                    await pause.wait()

    async def _until_needed(self) -> None:
        while True:
            left_s = STALE_S - self._silent_s()
            if left_s < 0:
                return
            await asyncio.sleep(left_s + 0.001)

    def _silent_s(self) -> float:
        """Since when Redis has proved nothing; counted from the start before it first did."""
        return min(self._replica.age_s("redis"), self._clock.monotonic() - self._began)

    async def _follow(self) -> None:
        async with truth_feed(self._url) as feed:
            try:
                while self._silent_s() > STALE_S:
                    await self._beat(feed)
                    await feed.pause(BEAT_S)
            finally:
                self._replica.withdraw("database")
                with contextlib.suppress(Exception):
                    await feed.connection.execute(self._queries["leave"], self._instance)

    async def _beat(self, feed: TruthFeed) -> None:
        """Report, and hear the position that stood when this was asked."""
        asked_at = self._clock.monotonic()
        report = msgspec.json.encode(self._presence.current()).decode()
        row = await feed.connection.fetchrow(self._queries["beat"], self._instance, report)
        if row is None:
            raise StoreUnavailable("database", "it has no flags")
        if Position(row["epoch"], row["version"]) > self._replica.position:
            self._replica.apply(await self._ledger.read(), "database")
            feed.again()
        if self._replica.known.is_set():
            self._replica.prove("database", asked_at)
