"""A timer that can be set while somebody waits for it."""

import asyncio
import contextlib

from control.clock import Clock


class Alarm:
    """Rings once; what it was set to before is forgotten then."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._at: float | None = None
        self._moved = asyncio.Event()

    def set(self, in_s: float | None) -> None:
        """Ring in ``in_s`` seconds, unless it rings earlier anyway; ``None`` changes nothing."""
        if in_s is None:
            return
        at = self._clock.monotonic() + in_s
        if self._at is None or at < self._at:
            self._at = at
            self._moved.set()

    def move(self, in_s: float | None) -> None:
        """Ring in ``in_s`` seconds, whatever it was set to before; ``None``: not at all."""
        self._at = None if in_s is None else self._clock.monotonic() + in_s
        self._moved.set()

    async def ring(self) -> None:
        """Wait until it rings."""
        while self._at is None or self._at > self._clock.monotonic():
            left = None if self._at is None else self._at - self._clock.monotonic()
            self._moved.clear()
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._moved.wait(), left)
        self._at = None
