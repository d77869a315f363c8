"""Runs periodic kinds at their times. Every worker sleeps until the next one; whoever comes first
makes the runs, in a script, and the others find nothing to do."""

import asyncio
import random
from collections.abc import Iterable

from control import logs
from control.backoff import Backoff
from control.clock import Clock
from control.errors import BridgeUp, ControlStateStale, StoreUnavailable
from worker.jobs.kinds import Kind
from worker.jobs.timetable import Timetable

DECLARE_EVERY_S = 60.0
_RETRY_S = (0.1, 2.0)
_SPREAD_S = 0.03
"""Workers wake within so many seconds of each other, so that mostly one comes first."""


class PeriodicRuns:
    """``opened`` is set while the bridge is down: nothing runs under maintenance, and what was
    missed then is a misfire."""

    def __init__(
        self, timetable: Timetable, kinds: Iterable[Kind], *, opened: asyncio.Event, clock: Clock
    ) -> None:
        self._timetable = timetable
        self._kinds = {kind.name: kind for kind in kinds if kind.schedule is not None}
        self._opened = opened
        self._clock = clock
        self._since: int | None = None
        self._due: dict[str, int] = {}
        self._ahead_ms = 0.0
        """What Redis's clock says beyond this process's monotonic one."""
        self._declare_at = 0.0
        self._log = logs.get(__name__)

    async def run(self) -> None:
        """For ever."""
        pause = Backoff(*_RETRY_S)
        while True:
            try:
                wait_s = await self.turn()
            except BridgeUp:
                await self._opened.wait()
                await pause.wait()
            except (ControlStateStale, StoreUnavailable):
                await pause.wait()
            else:
                pause.reset()
                await asyncio.sleep(wait_s + random.uniform(0, _SPREAD_S))  # noqa: S311 - spread

    async def turn(self) -> float:
        """Run for what is due; how many seconds there are until the next time.

        Raises :class:`BridgeUp`, :class:`ControlStateStale` and :class:`StoreUnavailable`.
        """
        if self._clock.monotonic() >= self._declare_at:
            await self._declare()
        for kind, due in list(self._due.items()):
            if due <= self._now:
                await self._fire(kind, due)
        soonest = min(self._due.values(), default=self._now + DECLARE_EVERY_S * 1000)
        redeclare_s = self._declare_at - self._clock.monotonic()
        return max(0.0, min((soonest - self._now) / 1000, redeclare_s))

    @property
    def _now(self) -> int:
        """Milliseconds by Redis's clock."""
        return int(self._clock.monotonic() * 1000 + self._ahead_ms)

    async def _declare(self) -> None:
        told = await self._timetable.declare(list(self._kinds.values()), self._since)
        now = self._clock.monotonic()
        self._declare_at = now + DECLARE_EVERY_S
        self._ahead_ms = told.now - now * 1000
        self._since = told.now if self._since is None else self._since
        self._due = dict(told.due)

    async def _fire(self, name: str, due: int) -> None:
        made, following = await self._timetable.fire(self._kinds[name], due, self._now)
        if following is None:
            del self._due[name]  # a worker that started later says otherwise
        else:
            self._due[name] = following
        if made:
            self._log.info("periodic", kind=name, runs=made)
