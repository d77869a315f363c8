"""Kinds that cost nothing, so that what is measured is the engine."""

import time
from typing import Any

from worker.jobs.kinds import job


@job("noop")
async def noop(context: Any, payload: Any) -> Any:
    """Return at once."""
    return 1


@job("pickup")
async def pickup(context: Any, payload: Any) -> Any:
    """Say how many seconds after its submission it began."""
    return time.time() - payload
