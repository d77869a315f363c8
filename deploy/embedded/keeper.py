"""Keeps one part of the stack running: starts it, starts it again when it dies, stops it."""

import asyncio
from collections.abc import Callable, Sequence
from pathlib import Path
from signal import Signals
from typing import Protocol

from control.errors import DrawbridgeError
from deploy.embedded.child import Child

READY_S = 60.0
"""How long a part may take to answer after its start."""

STEADY_S = 10.0
"""A part that ran this long has earned an immediate restart."""

_BACKOFF_S, _BACKOFF_MAX_S = 0.1, 5.0
_PROBE_EVERY_S = 0.02


class Part(Protocol):
    """One process of the stack: a store, a service or a worker."""

    @property
    def name(self) -> str:
        """For people and for the log file."""
        ...

    @property
    def log(self) -> Path:
        """Where its output goes."""
        ...

    @property
    def signals(self) -> Sequence[Signals]:
        """What ends it: each in turn, with the grace between them."""
        ...

    @property
    def grace_s(self) -> float:
        """Seconds between the first signal and the next."""
        ...

    async def spawn(self) -> Child:
        """Start its process."""
        ...

    async def probe(self) -> None:
        """Return once if it serves; raise anything while it does not. Ends within seconds."""
        ...


class Keeper:
    """Starts a part, keeps it running and stops it. ``say`` gets one line for each event."""

    def __init__(self, part: Part, say: Callable[[str], None]) -> None:
        self.part = part
        self._say = say
        self._child: Child | None = None
        self._started_at = 0.0

    @property
    def pid(self) -> int | None:
        """The process that runs now."""
        return self._child.pid if self._child and self._child.running else None

    async def start(self) -> None:
        """Start the part and wait until it serves. Raises :class:`DrawbridgeError`."""
        self._child = await self._spawned()
        await self._serves(self._child)
        took_s = asyncio.get_running_loop().time() - self._started_at
        self._say(f"{self.part.name} serves ({took_s:.2f} s)")

    async def keep(self, changed: Callable[[], None]) -> None:
        """Start the part again whenever it ends, for ever; then call ``changed``."""
        deaths = 0
        while (child := self._child) is not None:
            await child.wait()
            now = asyncio.get_running_loop().time()
            deaths = 1 if now - self._started_at > STEADY_S else deaths + 1
            self._say(f"{self.part.name} ended ({child.end}); starting it again")
            if deaths > 1:
                await asyncio.sleep(min(_BACKOFF_S * 2 ** (deaths - 2), _BACKOFF_MAX_S))
            try:
                self._child = await self._spawned()
                changed()
                await self._serves(self._child)
            except (DrawbridgeError, OSError) as error:
                self._say(str(error))
            else:
                self._say(f"{self.part.name} serves again (process {self._child.pid})")

    async def stop(self, hurry: asyncio.Event | None = None) -> None:
        """End the part; ``hurry`` cuts its grace short. Cancel :meth:`keep` before."""
        if self._child is not None:
            await self._child.stop(self.part.signals, grace_s=self.part.grace_s, hurry=hurry)

    async def _spawned(self) -> Child:
        self._started_at = asyncio.get_running_loop().time()
        return await self.part.spawn()

    async def _serves(self, child: Child) -> None:
        last: Exception | None = None
        try:
            async with asyncio.timeout(READY_S):
                while child.running:
                    try:
                        return await self.part.probe()
                    except Exception as error:  # any failure means: not yet
                        last = error
                        await asyncio.sleep(_PROBE_EVERY_S)
        except TimeoutError:
            why = (
                f"{type(last).__name__}: {last}"
                if isinstance(last, DrawbridgeError)
                else "no answer"
            )
            raise DrawbridgeError(
                f"{self.part.name} does not serve after {READY_S:g} s ({why}); see {self.part.log}"
            ) from None
        raise DrawbridgeError(
            f"{self.part.name} ended while it started ({child.end}); see {self.part.log}"
        )
