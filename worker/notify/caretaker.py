"""Forgets what nobody needs any more of subscribers and notices, and seals addresses anew."""

import asyncio
import random

from control import logs
from control.errors import StoreUnavailable
from control.subscribers.outbox import Outbox
from control.subscribers.roster import Roster

EVERY_S = 3_600.0
_AGAIN_S = 60.0


class Caretaker:
    """``keep_days``: how long it remains known what was told; 0: for ever. Not ``active``, because
    nobody can subscribe: does nothing."""

    def __init__(self, outbox: Outbox, roster: Roster, *, active: bool, keep_days: int) -> None:
        self._outbox = outbox
        self._roster = roster
        self._active = active
        self._keep_days = keep_days
        self._log = logs.get(__name__)

    async def run(self) -> None:
        """For ever: at the start, which may have brought a new secret, and then hourly."""
        while self._active:
            try:
                await self.turn()
            except StoreUnavailable:
                await asyncio.sleep(_AGAIN_S)
            else:
                await asyncio.sleep(EVERY_S * random.uniform(0.8, 1.2))  # noqa: S311 - spread
        await asyncio.Event().wait()

    async def turn(self) -> None:
        """Do it once. Raises :class:`StoreUnavailable`."""
        if sealed := await self._roster.seal_anew():
            self._log.info("subscribers sealed anew", count=sealed)
        while await self._roster.forget_requests():
            pass
        while self._keep_days and await self._outbox.prune(self._keep_days):
            pass
