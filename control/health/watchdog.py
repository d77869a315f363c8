"""Tells when the event loop is blocked, since when, and by which line: from a thread of its own.

The loop beats; a thread looks whether it still does. A process that was held as a whole (SIGSTOP, a
sleeping machine) is not blocked: then the thread was held as well.
"""

import asyncio
import sys
import threading
import time
import traceback
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from datetime import datetime, timedelta

from control import logs
from control.clock import Clock, iso
from control.health.check import WARNING

BEAT_S = 0.05
LOOK_S = 0.1
BLOCKED_S = 1.0
"""A loop that has not beaten for so long counts as blocked."""

_FRAMES = 6


@dataclass(frozen=True)
class Blockage:
    """A time in which the loop stood still. ``where`` are lines of code, the innermost last;
    ``lasted_s`` is ``None`` while it lasts."""

    since: datetime
    where: tuple[str, ...]
    lasted_s: float | None = None

    def told(self) -> dict[str, object]:
        """As a body has it, for whoever may see it."""
        return {"since": iso(self.since), "lasted_s": self.lasted_s, "where": list(self.where)}


class Watchdog:
    """Supervised as ``run()`` in the loop that it watches."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._beat = time.monotonic()
        self._silence_s = 0.0
        """The longest pause between two beats since the check asked last."""
        self._ended = threading.Event()
        self._loop_thread = 0
        self._on_beat: list[Callable[[float], None]] = []
        self.blockage: Blockage | None = None
        """The last one, which may still last."""
        self.blockages = 0
        """How many there have been."""
        self._log = logs.get(__name__)

    def on_beat(self, tell: Callable[[float], None]) -> None:
        """Have ``tell`` called with how late each beat came, in seconds."""
        self._on_beat.append(tell)

    async def run(self) -> None:
        """Beat until cancelled."""
        self._loop_thread = threading.get_ident()
        self._beat = time.monotonic()
        self._ended.clear()
        threading.Thread(target=self._watch, name="watchdog", daemon=True).start()
        try:
            while True:
                await asyncio.sleep(BEAT_S)
                now = time.monotonic()
                self._silence_s = max(self._silence_s, now - self._beat)
                for tell in self._on_beat:
                    tell(max(0.0, now - self._beat - BEAT_S))
                self._beat = now
        finally:
            self._ended.set()

    async def ask(self) -> Mapping[str, object]:
        """The probe of the check ``event_loop``; warns after a blockage since it was last asked."""
        silence_s, self._silence_s = self._silence_s, 0.0
        lag_ms = max(0.0, silence_s - BEAT_S) * 1000
        told: dict[str, object] = {"lag_ms": round(lag_ms, 1)}
        if self.blockage is not None:
            told["last_blockage"] = self.blockage.told()
        if silence_s >= BLOCKED_S:
            told[WARNING] = "LoopBlocked"
        return told

    @property
    def blocked(self) -> Blockage | None:
        """What blocks the loop now. May be asked from another thread."""
        found = self.blockage
        return found if found is not None and found.lasted_s is None else None

    def _watch(self) -> None:
        looked = time.monotonic()
        while not self._ended.wait(LOOK_S):
            now = time.monotonic()
            held = now - looked > BLOCKED_S
            looked = now
            if held:
                continue  # so was the loop, which had no time to beat since
            silent_s = now - self._beat
            if silent_s >= BLOCKED_S and self.blocked is None:
                self._begin(silent_s)
            elif silent_s < BLOCKED_S and self.blocked is not None:
                self._end(self.blocked)

    def _begin(self, silent_s: float) -> None:
        frame = sys._current_frames().get(self._loop_thread)
        where = () if frame is None else traceback.extract_stack(frame)[-_FRAMES:]
        lines = tuple(f"{line.filename}:{line.lineno} in {line.name}" for line in where)
        self.blockage = Blockage(self._clock.now() - timedelta(seconds=silent_s), lines)
        self.blockages += 1
        self._log.error("event loop blocked", since=iso(self.blockage.since), where=lines)

    def _end(self, lasting: Blockage) -> None:
        lasted_s = round((self._clock.now() - lasting.since).total_seconds(), 3)
        self.blockage = replace(lasting, lasted_s=lasted_s)
        self._log.warning("event loop free again", blocked_s=lasted_s)
