"""Whether this worker may claim: its phase, and how what runs is brought to rest.

    PAUSED ──► RUNNING ──► DRAINING ──► PAUSED        maintenance off, on, and nothing runs any more
                  ▲            │
                  └────────────┘                      maintenance off again
    any of them ──► STOPPING ──► STOPPED              SIGTERM

A worker starts PAUSED and claims nothing until it knows that the bridge is down. In DRAINING and
STOPPING what runs may finish up to the soft deadline, is then asked to stop (a solver keeps its
incumbent as the checkpoint), and at the hard deadline is killed and handed back, uncharged. A
SIGTERM while it drains changes no deadline; a second one means that the hard deadline is now.
"""

import asyncio
import contextlib
from collections.abc import Callable, Iterator
from enum import StrEnum
from typing import Any

from control import logs
from control.clock import Clock
from control.flags.document import MAINTENANCE, Document
from control.flags.replica import Replica
from worker.executor import Executor

_LAST_WORDS_S = 5.0
"""How long killed runs may take to be handed back before a stop leaves them to others."""


class Phase(StrEnum):
    """Where a worker stands."""

    RUNNING = "running"
    DRAINING = "draining"
    PAUSED = "paused"
    STOPPING = "stopping"
    STOPPED = "stopped"


class Drain:
    """The phase of one worker, as signals and the flags in ``replica`` move it.

    ``urgent`` is set by the second signal. Deadlines are seconds: ``soft_s`` from the beginning of
    a drain, ``hard_s`` after that.
    """

    def __init__(
        self,
        executor: Executor,
        replica: Replica,
        *,
        soft_s: float,
        hard_s: float,
        urgent: asyncio.Event,
        clock: Clock,
    ) -> None:
        self._executor = executor
        self._replica = replica
        self._soft_s = soft_s
        self._hard_s = hard_s
        self._urgent = urgent
        self._clock = clock
        self._claiming = 0
        self._moved = asyncio.Event()
        self._winding: asyncio.Task[None] | None = None
        self._on_resume: list[Callable[[bool], None]] = []
        self._rested = False
        """Whether maintenance has ever held this worker back."""
        self._on_progress: list[Callable[[], None]] = []
        self._log = logs.get(__name__)
        self.phase = Phase.PAUSED
        self.open = asyncio.Event()
        """Set while RUNNING."""
        self.shut = asyncio.Event()
        """Set otherwise."""
        self.shut.set()
        executor.on_change(self._count)

    def on_resume(self, tell: Callable[[bool], None]) -> None:
        """Have ``tell`` called whenever the worker may claim, and with whether it may *again*:
        after a maintenance, when the whole fleet goes on at the same time."""
        self._on_resume.append(tell)

    def on_progress(self, tell: Callable[[], None]) -> None:
        """Have ``tell`` called whenever the phase or the number of runs changes."""
        self._on_progress.append(tell)

    def follow(self) -> None:
        """Begin to do as the flags say; call it once, when whoever is to be told is known."""
        self._enter(self.phase)
        self._replica.on_change(lambda _before, after: self._obey(after))
        if self._replica.known.is_set():
            self._obey(self._replica.document)

    @property
    def admits(self) -> bool:
        """Whether a job may be claimed or started now: RUNNING, on knowledge that is fresh."""
        return self.open.is_set() and self._replica.admits()

    @property
    def quiesced(self) -> bool:
        """Whether nothing runs, nor will before the phase changes."""
        return self.phase in (Phase.PAUSED, Phase.STOPPED)

    @contextlib.contextmanager
    def claim(self) -> Iterator[None]:
        """Around a claim and what is done with its answer: until then the worker is not at rest."""
        self._claiming += 1
        try:
            yield
        finally:
            self._claiming -= 1
            self._moved.set()

    async def stop(self) -> None:
        """Bring the worker to rest for good, from whichever phase."""
        winding = self._winding
        if self.phase is Phase.DRAINING:
            self._enter(Phase.STOPPING)
        else:
            winding = self._close(Phase.STOPPING)
        assert winding is not None  # noqa: S101 - DRAINING and STOPPING have one
        await winding

    def _obey(self, flags: Document) -> None:
        raised = flags.is_active(MAINTENANCE)
        self._rested = self._rested or raised
        if raised and self.phase is Phase.RUNNING:
            self._close(Phase.DRAINING)
        elif not raised and self.phase in (Phase.PAUSED, Phase.DRAINING):
            self._resume()

    def _resume(self) -> None:
        if self._winding is not None:
            self._winding.cancel()  # who was not yet asked to stop runs on
        self.shut.clear()
        self.open.set()
        self._enter(Phase.RUNNING)
        for tell in self._on_resume:
            tell(self._rested)

    def _close(self, phase: Phase) -> asyncio.Task[None]:
        """Admit nothing from this moment on, and begin to wind down."""
        self.open.clear()
        self.shut.set()
        self._enter(phase)
        self._winding = asyncio.create_task(self._wind_down(), name="drain")
        return self._winding

    async def _wind_down(self) -> None:
        soft_at = self._clock.monotonic() + self._soft_s
        if not await self._rest(soft_at):
            self._log.info("asking to stop", running=len(self._executor.running))
            self._executor.stop_all("drain")
        if not await self._rest(soft_at + self._hard_s):
            self._log.warning("handing back", running=list(self._executor.running))
            self._executor.kill_all()
        while not await self._rest(self._clock.monotonic() + _LAST_WORDS_S, hurry=False):
            if self.phase is Phase.STOPPING:
                # Redis is away: the leases run out and other workers take these jobs.
                self._log.error("could not hand back", running=list(self._executor.running))
                break
        self._enter(Phase.STOPPED if self.phase is Phase.STOPPING else Phase.PAUSED)

    async def _rest(self, until: float, *, hurry: bool = True) -> bool:
        """Wait until nothing runs, at most ``until``; with ``hurry`` not once it became urgent."""
        tasks: list[asyncio.Task[Any]] = [asyncio.create_task(self._idle())]
        if hurry:
            tasks.append(asyncio.create_task(self._urgent.wait()))
        try:
            left_s = max(0.0, until - self._clock.monotonic())
            await asyncio.wait(tasks, timeout=left_s, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for task in tasks:
                task.cancel()
        return not self._busy

    async def _idle(self) -> None:
        while self._busy:
            self._moved.clear()
            await self._moved.wait()

    @property
    def _busy(self) -> bool:
        return bool(self._executor.running) or self._claiming > 0

    def _count(self) -> None:
        self._moved.set()
        self._tell()

    def _enter(self, phase: Phase) -> None:
        self.phase = phase
        self._log.info("phase", phase=phase.value, running=len(self._executor.running))
        self._tell()

    def _tell(self) -> None:
        for tell in self._on_progress:
            tell()
