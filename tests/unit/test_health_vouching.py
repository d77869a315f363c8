"""Traffic that vouches for a dependency spares its probes, for as long as it goes on doing so."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Mapping
from typing import Any

import pytest

from control import cancelling
from control.health.check import Check, State
from control.health.engine import WAKE_GAP_S, Engine
from tests.clocks import ManualClock
from tests.stack import wait_until

PAUSE_S = WAKE_GAP_S + 0.01
WHILE_S = 5 * PAUSE_S


class Watched:
    """A thing, by a clock that stands still; pauses between probes are real, and short."""

    def __init__(self, **settings: Any) -> None:
        self.clock, self.asked = ManualClock(), 0
        self.error: Exception | None = None
        given = {"interval_s": PAUSE_S, "retry_s": PAUSE_S, "vouched_s": 0.05} | settings
        self.check = Check("thing", self._ask, **given)
        self.engine = Engine([self.check], clock=self.clock)

    async def _ask(self) -> Mapping[str, object]:
        self.asked += 1
        if self.error is not None:
            raise self.error
        return {}

    @property
    def state(self) -> State:
        return self.engine.snapshot.results["thing"].state_at(self.clock.monotonic())

    def vouch(self, *, ago_s: float = 0.0) -> None:
        self.engine.vouch("thing", self.clock.monotonic() - ago_s)

    @contextlib.asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        """Until its first probe was judged, and on through the block."""
        task = asyncio.create_task(self.engine.run())
        try:
            await wait_until(lambda: self.state is not State.STARTING)
            yield
        finally:
            await cancelling.end(task)


async def test_nobody_is_asked_while_somebody_vouches() -> None:
    thing = Watched()
    async with thing.running():
        thing.vouch()
        asked = thing.asked
        await asyncio.sleep(WHILE_S)
        assert thing.asked == asked
        thing.clock.passed_s += thing.check.vouched_s
        await wait_until(lambda: thing.asked > asked)


async def test_after_a_while_it_is_asked_all_the_same() -> None:
    thing = Watched(vouched_s=1_000.0, unasked_s=0.05)
    async with thing.running():
        thing.vouch()
        asked = thing.asked
        await asyncio.sleep(WHILE_S)
        assert thing.asked == asked
        thing.clock.passed_s += thing.check.unasked_s
        await wait_until(lambda: thing.asked > asked)


async def test_a_wake_outweighs_every_word() -> None:
    thing = Watched(vouched_s=1_000.0, unasked_s=1_000.0)
    async with thing.running():
        thing.vouch()
        thing.error = ConnectionResetError()
        thing.engine.suspect("thing")
        await wait_until(lambda: thing.state is State.DOWN)


async def test_a_word_keeps_what_is_well_from_growing_old() -> None:
    thing = Watched(interval_s=1_000.0)
    async with thing.running():
        thing.clock.passed_s += thing.check.stale_after_s
        assert thing.state is State.UNKNOWN
        thing.vouch(ago_s=1.0)
        assert thing.state is State.OK
        assert thing.engine.snapshot.results["thing"].at == thing.clock.now()
        thing.clock.passed_s += thing.check.stale_after_s - 1.0
        assert thing.state is State.UNKNOWN


async def test_an_old_word_counts_for_its_age() -> None:
    """Of a process that was held and finds an answer waiting."""
    thing = Watched()
    async with thing.running():
        thing.clock.passed_s += 10.0
        asked = thing.asked
        thing.vouch(ago_s=10.0)
        await wait_until(lambda: thing.asked > asked + 1)


@pytest.mark.parametrize("fall", [1, 2])
async def test_no_word_helps_what_a_probe_found_ill(fall: int) -> None:
    thing = Watched(fall=fall, vouched_s=1_000.0, unasked_s=1_000.0)
    async with thing.running():
        thing.error = ConnectionRefusedError()
        await wait_until(lambda: thing.asked > 1)
        thing.vouch()
        await wait_until(lambda: thing.state is State.DOWN)
        thing.vouch()
        assert thing.state is State.DOWN
        thing.error = None
        await wait_until(lambda: thing.state is State.OK)
