"""Whether this worker may claim: its phase, and how a stop brings it to an end.

RUNNING → STOPPING → STOPPED at SIGTERM. In STOPPING nothing is claimed; running jobs finish up to
the soft deadline, are then asked to stop, and at the hard deadline are handed back, uncharged.
"""

import asyncio
from collections.abc import Callable
from enum import StrEnum

from control import cancelling, logs
from worker.executor import Executor

_LAST_WORDS_S = 5.0
"""How long killed runs may take to be handed back."""


class Phase(StrEnum):
    """Where a worker stands."""

    RUNNING = "running"
    STOPPING = "stopping"
    STOPPED = "stopped"


class Drain:
    """The phase of one worker. ``on_stop`` are told, in order, when claiming has to end."""

    def __init__(self, executor: Executor, *, soft_s: float, hard_s: float) -> None:
        self._executor = executor
        self._soft_s = soft_s
        self._hard_s = hard_s
        self._on_stop: list[Callable[[], None]] = []
        self._log = logs.get(__name__)
        self.phase = Phase.RUNNING

    def on_stop(self, tell: Callable[[], None]) -> None:
        """Have ``tell`` called at the moment nothing more may be claimed."""
        self._on_stop.append(tell)

    async def stop(self, urgent: asyncio.Event) -> None:
        """Bring the worker to rest. ``urgent`` means: the hard deadline is now."""
        self._enter(Phase.STOPPING)
        for tell in self._on_stop:
            tell()
        await self._rest(self._soft_s, urgent)
        if self._executor.running:
            self._executor.stop_all("drain")
            await self._rest(self._hard_s, urgent)
        if self._executor.running:
            self._executor.kill_all()
            await self._rest(_LAST_WORDS_S, asyncio.Event())
        if self._executor.running:
            # Redis is away: the leases run out and other workers take these jobs.
            self._log.error("could not hand back", jobs=list(self._executor.running))
        self._enter(Phase.STOPPED)

    async def _rest(self, within_s: float, urgent: asyncio.Event) -> None:
        """Wait until nothing runs, at most ``within_s`` and not if it became urgent."""
        tasks = [asyncio.create_task(w) for w in (self._executor.at_rest(), urgent.wait())]
        await asyncio.wait(tasks, timeout=within_s, return_when=asyncio.FIRST_COMPLETED)
        await cancelling.end(*tasks)

    def _enter(self, phase: Phase) -> None:
        self.phase = phase
        self._log.info("phase", phase=phase.value, running=len(self._executor.running))
