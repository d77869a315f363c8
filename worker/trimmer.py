"""Takes jobs whose records have expired out of the listings, apart from the work itself."""

import asyncio
import random

from control import logs
from control.errors import StoreUnavailable
from worker.jobs.manager import JobStateManager

EVERY_S = 60.0


class Trimmer:
    """One for each worker; what one has taken out costs the others nothing."""

    def __init__(self, jobs: JobStateManager) -> None:
        self._jobs = jobs
        self._log = logs.get(__name__)

    async def run(self) -> None:
        """Trim for ever."""
        while True:
            await asyncio.sleep(EVERY_S * random.uniform(0.5, 1.0))  # noqa: S311 - jitter
            try:
                count = await self._jobs.trim()
            except StoreUnavailable:
                continue
            if count:
                self._log.debug("listings trimmed", count=count)
