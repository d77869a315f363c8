"""How long to wait before the next attempt."""

import asyncio
import random

RETRY_FIRST_S = 1.0
RETRY_CAP_S = 300.0


def retry_delay_s(attempt: int) -> float:
    """Exponential with jitter: after attempt 1 about a second, doubling up to five minutes."""
    ceiling = min(RETRY_CAP_S, RETRY_FIRST_S * 2.0 ** (attempt - 1))
    return ceiling * random.uniform(0.5, 1.0)  # noqa: S311 - jitter


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
