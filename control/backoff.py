"""How long to wait before the next attempt at something that is away."""

import asyncio
import random


class Backoff:
    """Pauses that grow while a dependency stays away."""

    def __init__(self, first_s: float = 0.05, cap_s: float = 1.0) -> None:
        self._first_s = first_s
        self._cap_s = cap_s
        self._next_s = first_s

    async def wait(self) -> None:
        """Pause, jittered; the next pause is twice as long, up to the cap."""
        await asyncio.sleep(self._next_s * random.uniform(0.5, 1.0))  # noqa: S311 - jitter
        self._next_s = min(self._cap_s, self._next_s * 2)

    def reset(self) -> None:
        """The dependency answered."""
        self._next_s = self._first_s
