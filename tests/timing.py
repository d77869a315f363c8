"""Promises about time, on a machine that others use too."""

import functools
from collections.abc import Awaitable, Callable
from typing import Any

import pytest

TRIES = 3


def timed(test: Callable[..., Awaitable[None]]) -> Callable[..., Awaitable[None]]:
    """A test of how soon something happens, which fails only if it fails each of three times.

    What keeps its time once can keep it; that it was late once may be the machine's fault. So the
    test leaves its fixtures as it found them, even where it fails.
    """

    @functools.wraps(test)
    async def tried(**fixtures: Any) -> None:
        for attempt in range(1, TRIES + 1):
            try:
                await test(**fixtures)
            except (AssertionError, TimeoutError, pytest.fail.Exception):
                if attempt == TRIES:
                    raise
            else:
                return

    return tried
