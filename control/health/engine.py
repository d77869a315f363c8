"""Runs every check in its own background loop and keeps the newest results in memory.

Nobody who asks ever waits: a reader takes the snapshot, which is immutable. No check can hold
another one up, and no probe its own loop: at its deadline it is judged, then cancelled, and if it
ignores even that, abandoned.
"""

import asyncio
import contextlib
import random
from collections.abc import Callable, Iterable, Mapping
from dataclasses import replace
from types import MappingProxyType

from control import logs
from control.clock import Clock
from control.health.check import CannotTell, Check, Down, Result, Snapshot, State
from control.health.reasons import reason

CANCEL_S = 0.1
"""How long a cancelled probe may take to clean up before it counts as stuck."""

WAKE_GAP_S = 0.1
"""The least pause between two probes, however often passive signals wake a check."""

JITTER = 0.1
"""Share by which pauses vary, so that a fleet's probes do not march in step."""

LATE_S = 0.25
"""A deadline that is noticed so much later was missed by the loop, not by the probe alone."""

_LOGGED_CHARACTERS = 500
_Task = asyncio.Task[Mapping[str, object]]


class Engine:
    """The registry of checks, fixed from the start, and their loops.

    Raises :class:`ValueError` if two checks have one name.
    """

    def __init__(self, checks: Iterable[Check], *, clock: Clock) -> None:
        self._loops: dict[str, _Loop] = {}
        for check in checks:
            if check.name in self._loops:
                raise ValueError(f"two health checks are named {check.name!r}")
            self._loops[check.name] = _Loop(check, self._publish, clock)
        initial = {name: loop.result for name, loop in self._loops.items()}
        self._snapshot = Snapshot(MappingProxyType(initial))

    @property
    def snapshot(self) -> Snapshot:
        """What is known now; another object after each probe."""
        return self._snapshot

    def wake(self, name: str) -> None:
        """Probe ``name`` at once: real traffic has just seen it fail, or come back."""
        self._loops[name].woken.set()

    def suspect(self, name: str) -> None:
        """Real traffic has just seen ``name`` fail: probe it at once, if it is believed well.

        What is known to be down is probed often enough. A name without a check means nothing.
        """
        loop = self._loops.get(name)
        if loop is not None and loop.result.state is State.OK:
            loop.woken.set()

    def vouch(self, name: str, at: float) -> None:
        """Real traffic that began at ``at`` (monotonic seconds) has just seen ``name`` well, by as
        much as its probe asks. That keeps what is well so, and spares the next probe (see
        :attr:`Check.vouched_s`); it makes nothing well that is not."""
        self._loops[name].vouch(at)

    async def refresh(self, *names: str) -> Snapshot:
        """What is found now: the newest results once ``names`` (none: all) were probed again.

        Whoever asks while a probe is under way shares it. Returns without the result of a probe
        that is overdue, so after the longest ``timeout_s`` and a little at the latest.
        """
        loops = [self._loops[name] for name in names or self._loops]
        await asyncio.gather(*(loop.refreshed() for loop in loops))
        return self._snapshot

    async def run(self) -> None:
        """Probe until cancelled. A bug in a loop ends this with that error, never silently."""
        async with asyncio.TaskGroup() as group:
            for name, loop in self._loops.items():
                group.create_task(loop.run(), name=f"health of {name}")

    def _publish(self, result: Result) -> None:
        results = {**self._snapshot.results, result.name: result}
        self._snapshot = Snapshot(MappingProxyType(results))


class _Loop:
    """The background loop of one check."""

    def __init__(self, check: Check, publish: Callable[[Result], None], clock: Clock) -> None:
        self.woken = asyncio.Event()
        self.result = Result(check.name, check.tags, check.importance)
        self._check = check
        self._publish = publish
        self._clock = clock
        self._abandoned: _Task | None = None
        self._vouched_at = self._probed_at = float("-inf")
        self._against = 0
        """How many results in a row contradict the present state."""
        self._probing = False
        self._judged = asyncio.Event()
        """Set with the next result; each result has an event of its own."""
        self._log = logs.get(__name__)

    def vouch(self, at: float) -> None:
        if not self._well or at <= self._vouched_at:
            return
        self._vouched_at = at
        self.result = replace(
            self.result,
            at=self._clock.now(),
            stale_from=max(self.result.stale_from, at + self._check.stale_after_s),
        )
        self._publish(self.result)

    @property
    def _well(self) -> bool:
        """Whether it is, and nothing speaks against it."""
        return self.result.state is State.OK and self._against == 0

    async def refreshed(self) -> None:
        """Wait for the result of the probe under way, or of one more."""
        if not self._probing:
            self.woken.set()
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(WAKE_GAP_S + self._check.timeout_s + CANCEL_S):
                await self._judged.wait()

    async def run(self) -> None:
        try:
            while True:
                self.woken.clear()
                self._probing = True
                await self._probe()
                await self._pause()
        finally:
            if self._abandoned is not None:
                self._abandoned.cancel()

    async def _probe(self) -> None:
        """One probe, judged at its deadline at the latest."""
        began = self._probed_at = self._clock.monotonic()
        task: _Task = asyncio.create_task(self._ask(), name=f"probe of {self._check.name}")
        task.add_done_callback(_retrieve)
        try:
            await asyncio.wait({task}, timeout=self._check.timeout_s)
            late_s = self._clock.monotonic() - began - self._check.timeout_s
            if late_s > LATE_S and not task.done():
                # The loop stood still, and so did the probe: its answer may lie there unread.
                await asyncio.wait({task}, timeout=min(late_s, self._check.timeout_s))
            self._probing = False
            self._judge(task, began)
        finally:  # also when this loop itself is cancelled in the middle of a probe
            if not task.done():
                task.cancel()
                await asyncio.wait({task}, timeout=CANCEL_S)
        if not task.done():
            await self._abandon(task, began)

    async def _ask(self) -> Mapping[str, object]:
        return await self._check.probe()

    def _judge(self, task: _Task, began: float) -> None:
        if not task.done():
            stuck = self._abandoned is not None and not self._abandoned.done()
            why = "stuck" if stuck else f"timeout after {self._check.timeout_s:g} s"
            self._record(State.DOWN, began, why)
        elif task.cancelled():
            self._record(State.DOWN, began, "ProbeCancelled")
        elif (error := task.exception()) is not None:
            details = error.details if isinstance(error, Down) else None
            state = State.UNKNOWN if isinstance(error, CannotTell) else State.DOWN
            self._record(state, began, reason(error), error=error, details=details)
        else:
            self._record(State.OK, began, details=task.result())

    async def _abandon(self, task: _Task, began: float) -> None:
        """Leave a probe that ignores its cancellation to itself.

        Only one at a time: where a second one hangs as well, wait until either has ended.
        """
        self._log.error("health probe ignores its cancellation", check=self._check.name)
        self._record(State.DOWN, began, "stuck")
        previous, self._abandoned = self._abandoned, task
        if previous is not None and not previous.done():
            await asyncio.wait({previous, task}, return_when=asyncio.FIRST_COMPLETED)
            if task.done():
                self._abandoned = previous

    async def _pause(self) -> None:
        await asyncio.sleep(WAKE_GAP_S)
        pause_s = self._check.interval_s if self._well else self._check.retry_s
        varied_s = pause_s * random.uniform(1 - JITTER, 1 + JITTER)  # noqa: S311 - not a secret
        left_s = max(varied_s - WAKE_GAP_S, self._spared_s())
        while left_s > 0 and not self.woken.is_set():
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(left_s):
                    await self.woken.wait()
            left_s = self._spared_s()

    def _spared_s(self) -> float:
        """How much longer nothing needs to be asked, because somebody has vouched."""
        if not self._well:
            return 0.0
        until = min(
            self._vouched_at + self._check.vouched_s, self._probed_at + self._check.unasked_s
        )
        return until - self._clock.monotonic()

    def _record(
        self,
        state: State,
        began: float,
        why: str = "",
        *,
        error: BaseException | None = None,
        details: Mapping[str, object] | None = None,
    ) -> None:
        """Make this the newest result; a change of state is logged, with the full reason, once."""
        ended, now, before = self._clock.monotonic(), self._clock.now(), self.result
        found, state = state, self._settled(state)
        changed = state is not before.state
        if state is State.OK and found is not State.OK:
            details = before.details
        self.result = Result(
            name=before.name,
            tags=before.tags,
            importance=before.importance,
            state=state,
            reason=why,
            at=now,
            since=now if changed else before.since,
            transitions=before.transitions + (changed and before.state is not State.STARTING),
            duration_s=ended - began,
            stale_from=ended + self._check.stale_after_s,
            details=MappingProxyType(dict(details or {})),
        )
        self._publish(self.result)
        self._judged.set()
        self._judged = asyncio.Event()
        if not changed:
            return
        lasted_s = round((now - before.since).total_seconds(), 3) if before.since else None
        if state is State.OK:
            self._log.info("health check passes", check=before.name, was_down_s=lasted_s)
        else:
            told = f"{type(error).__name__}: {error}"[:_LOGGED_CHARACTERS] if error else None
            event = "health check fails" if state is State.DOWN else "health check cannot tell"
            self._log.warning(event, check=before.name, reason=why, error=told)

    def _settled(self, found: State) -> State:
        """The state after one more probe found this: the old one until enough have agreed."""
        held = self.result.state
        needed = {State.OK: self._check.fall, State.DOWN: self._check.rise}.get(held, 1)
        self._against = 0 if found is held else self._against + 1
        if self._against < needed:
            return held
        self._against = 0
        return found


def _retrieve(task: _Task) -> None:
    """Look at the outcome, lest asyncio complains of one that came after the verdict."""
    if not task.cancelled():
        task.exception()
