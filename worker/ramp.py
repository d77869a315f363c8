"""Slots that open one after another, so that a fleet that goes on does not fall upon its stores."""

import math

from control.clock import Clock

STEP_S = 0.25
"""How long until twice as many slots are open: 1, 2, 4, … A hundred are, after 1.75 s."""


class Ramp:
    """How many of ``slots`` are open; none before the first :meth:`begin`."""

    def __init__(self, slots: int, clock: Clock) -> None:
        self._slots = slots
        self._clock = clock
        self._held = 0
        self._began = math.inf

    def begin(self, held: int, *, bit_by_bit: bool = True) -> None:
        """Open slots from now on, beside ``held`` that are taken already; else all of them now."""
        self._held = held if bit_by_bit else self._slots
        self._began = self._clock.monotonic()

    @property
    def open(self) -> int:
        """How many slots may be in use now."""
        if math.isinf(self._began):
            return 0
        steps = int((self._clock.monotonic() - self._began) / STEP_S)
        # No more doublings than it takes, for a worker may run for years.
        return min(self._slots, self._held + (1 << min(steps, self._slots.bit_length())))

    @property
    def next_s(self) -> float | None:
        """Seconds until more slots open; ``None`` when all are open."""
        if self.open >= self._slots:
            return None
        return STEP_S - (self._clock.monotonic() - self._began) % STEP_S
