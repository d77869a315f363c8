"""The worker's heartbeat: one script call that renews the lease of everything it runs."""

import asyncio
import contextlib
import random
from collections.abc import Callable

from control import logs
from control.backoff import Backoff
from control.clock import Clock
from control.errors import StoreUnavailable
from worker.alarm import Alarm
from worker.executor import LOST, Executor
from worker.jobs.errors import WorkerLost
from worker.jobs.job import Rescued
from worker.jobs.manager import JobStateManager

BEATS_PER_LEASE = 3


class Lease:
    """Keeps this worker alive in one shard of the jobs, and sets two alarms by what it hears
    there."""

    def __init__(
        self,
        worker: str,
        *,
        lease_s: float,
        jobs: JobStateManager,
        executor: Executor,
        clock: Clock,
        due: Alarm,
        lost: Alarm,
        shard: int = 0,
    ) -> None:
        self._worker = worker
        self._every_s = lease_s / BEATS_PER_LEASE
        self._jobs = jobs
        self._executor = executor
        self._clock = clock
        self._due = due
        self._lost = lost
        self._shard = shard
        self._now = asyncio.Event()
        self.held = asyncio.Event()
        """Set while this worker has a lease, and so may claim."""
        self._on_loss: list[Callable[[], None]] = []
        self._steady_since: float | None = None
        self._beat_ms = 0
        self._log = logs.get(__name__)

    def on_loss(self, tell: Callable[[], None]) -> None:
        """Have ``tell`` called when the lease is lost."""
        self._on_loss.append(tell)

    async def beat(self) -> None:
        """Beat for ever."""
        pause = Backoff()
        while True:
            self._now.clear()
            try:
                await self._once()
            except StoreUnavailable as error:
                if self._steady_since is not None:
                    self._log.warning("heartbeat failed", reason=error.reason)
                self._steady_since = None
                await pause.wait()
                continue
            pause.reset()
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._now.wait(), self._every_s)

    async def beat_now(self) -> None:
        """Have the next beat at once: something may have been missed."""
        self._now.set()

    async def rescue(self) -> list[Rescued] | float:
        """Take the jobs of lost workers, or say in how many seconds this worker may judge.

        While Redis is away or stands still, every lease runs out. So a worker judges others only
        after its own link has been good for longer than a beat takes: by then the living have
        renewed theirs. The script checks once more that the call itself did not wait somewhere.
        """
        good_s = self._every_s + 1
        if self._steady_since is None:
            return good_s
        wait_s = self._steady_since + good_s - self._clock.monotonic()
        if wait_s > 0:
            return wait_s
        rescued = await self._jobs.rescue(
            self._beat_ms, within_s=self._every_s * 1.5, shard=self._shard
        )
        return self._every_s if rescued is None else rescued

    async def _once(self) -> None:
        began = self._clock.monotonic()
        running = self._executor.held(self._shard)
        try:
            beat = await self._jobs.heartbeat(
                self._worker, running, join=not self.held.is_set(), shard=self._shard
            )
        except WorkerLost:
            running = self._executor.held(self._shard)
            self._log.warning("lease lost", running=len(running))
            for run_id in running:
                self._executor.stop(run_id, LOST)
            self.held.clear()
            for tell in self._on_loss:
                tell()
            self._now.set()
            return
        if not self.held.is_set():
            self.held.set()
            self._log.info("joined")
        now = self._clock.monotonic()
        if self._steady_since is None or now - began > self._every_s / 2:
            self._steady_since = now
        self._beat_ms = beat.at_ms
        for run_id in beat.stop:
            self._executor.stop(run_id, "cancelled")
        self._due.set(beat.due_in_s)
        ends_in_s = beat.lease_ends_in_s
        # Jitter spreads the fleet: mostly one worker comes first and the others find nothing.
        self._lost.move(None if ends_in_s is None else ends_in_s + random.uniform(0.05, 0.3))  # noqa: S311
