"""How long a failed job waits before its next attempt."""

import random

RETRY_FIRST_S = 1.0
RETRY_CAP_S = 300.0


def retry_delay_s(attempt: int) -> float:
    """Exponential with jitter: after attempt 1 about a second, doubling up to five minutes."""
    ceiling = min(RETRY_CAP_S, RETRY_FIRST_S * 2.0 ** (attempt - 1))
    return ceiling * random.uniform(0.5, 1.0)  # noqa: S311 - jitter
