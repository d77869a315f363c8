"""Fall and rise, passive signals, a shared refresh, and the verdict on the whole."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Mapping
from types import MappingProxyType
from typing import Any

import pytest

from control.clock import SystemClock
from control.health.check import WARNING, CannotTell, Check, Importance, Result, State
from control.health.engine import Engine
from control.health.report import overall, report


class Scripted:
    """A dependency that is well or not as its script says; each entry is one probe."""

    def __init__(self, script: str, **settings: Any) -> None:
        self._answers = iter(script)
        self.asked = 0
        self.may: asyncio.Event | None = None
        given = {"interval_s": 0.15, "retry_s": 0.15, "timeout_s": 1.0} | settings
        self.check = Check("thing", self.ask, **given)

    async def ask(self) -> Mapping[str, object]:
        self.asked += 1
        if self.may is not None:
            await self.may.wait()
        found = next(self._answers, "+")
        if found == "-":
            raise ConnectionRefusedError
        if found == "?":
            raise CannotTell("NobodyToAsk")
        return {"asked": self.asked}


@contextlib.asynccontextmanager
async def running(dependency: Scripted) -> AsyncIterator[Engine]:
    engine = Engine([dependency.check], clock=SystemClock())
    task = asyncio.create_task(engine.run())
    try:
        yield engine
    finally:
        task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await task


@pytest.mark.parametrize(
    ("script", "states"),
    [
        ("+-+-+", "ooooo"),  # never two failures in a row
        ("+--+", "oodd"),
        ("+--+-++", "ooddddd"),
        ("+--+++", "oodddo"),
        ("--", "dd"),  # the first result counts at once
        ("-++", "ddd"),
    ],
)
async def test_so_many_in_a_row_turn_it(script: str, states: str) -> None:
    dependency = Scripted(script, fall=2, rise=3)
    found = ""
    async with running(dependency) as engine:
        for _ in script:
            snapshot = await engine.refresh()
            found += {State.OK: "o", State.DOWN: "d"}[snapshot.results["thing"].state]
    assert found == states


async def test_who_could_not_ask_finds_neither_well_nor_down() -> None:
    async with running(Scripted("+?-?+")) as engine:
        states = [(await engine.refresh()).results["thing"].state for _ in range(3)]
        unknown = (await engine.refresh()).results["thing"]
        states += [unknown.state, (await engine.refresh()).results["thing"].state]
    assert states == [State.OK, State.UNKNOWN, State.DOWN, State.UNKNOWN, State.OK]
    assert (unknown.word_at(0.0), unknown.reason) == ("down: unknown", "NobodyToAsk")
    assert report(unknown, 0.0, full=True).error == "NobodyToAsk"


async def test_a_failure_that_is_not_settled_is_probed_again_soon() -> None:
    dependency = Scripted("+-", fall=2, interval_s=60.0)
    async with running(dependency) as engine:
        await engine.refresh()
        result = (await engine.refresh()).results["thing"]
        assert (result.state, result.reason) == (State.OK, "ConnectionRefused")
        assert result.details == {"asked": 1}
        asked = dependency.asked
        async with asyncio.timeout(10):
            while dependency.asked == asked:
                await asyncio.sleep(0.01)


async def test_whoever_asks_for_a_refresh_shares_the_probe_under_way() -> None:
    dependency = Scripted("+", interval_s=60.0)
    async with running(dependency) as engine:
        await engine.refresh()
        dependency.may = asyncio.Event()
        asked = dependency.asked
        callers = [asyncio.create_task(engine.refresh("thing")) for _ in range(100)]
        async with asyncio.timeout(10):
            while dependency.asked == asked:
                await asyncio.sleep(0.01)
        late = asyncio.create_task(engine.refresh())
        await asyncio.sleep(0)
        dependency.may.set()
        for snapshot in await asyncio.gather(*callers, late):
            assert snapshot.results["thing"].details == {"asked": asked + 1}
        assert dependency.asked == asked + 1


async def test_a_refresh_of_what_hangs_ends() -> None:
    dependency = Scripted("+", timeout_s=0.2)
    dependency.may = asyncio.Event()
    async with running(dependency) as engine, asyncio.timeout(10):
        snapshot = await engine.refresh()
    assert snapshot.results["thing"].state is State.DOWN


async def test_traffic_wakes_the_check_of_what_is_believed_well_only() -> None:
    dependency = Scripted("+-", interval_s=60.0, retry_s=60.0)
    async with running(dependency) as engine:
        engine.suspect("no such thing")
        await engine.refresh()
        engine.suspect("thing")
        async with asyncio.timeout(10):
            while engine.snapshot.results["thing"].state is State.OK:
                await asyncio.sleep(0.01)
        asked = dependency.asked
        for _ in range(20):
            engine.suspect("thing")
            await asyncio.sleep(0.02)
        assert dependency.asked == asked


def result(importance: Importance, state: State, **details: object) -> Result:
    return Result("x", frozenset(), importance, state, details=MappingProxyType(details))


REQUIRED, DEGRADING = Importance.REQUIRED, Importance.DEGRADING
INFORMATIONAL = Importance.INFORMATIONAL
OK, DOWN, STARTING = State.OK, State.DOWN, State.STARTING


@pytest.mark.parametrize(
    ("results", "verdict"),
    [
        ([], "healthy"),
        ([result(REQUIRED, OK), result(DEGRADING, OK)], "healthy"),
        ([result(REQUIRED, OK), result(INFORMATIONAL, DOWN)], "healthy"),
        ([result(REQUIRED, OK), result(DEGRADING, STARTING)], "healthy"),
        ([result(REQUIRED, OK), result(DEGRADING, DOWN)], "degraded"),
        ([result(REQUIRED, OK, **{WARNING: "NearlyFull"})], "degraded"),
        ([result(DEGRADING, DOWN), result(REQUIRED, DOWN)], "unhealthy"),
        ([result(REQUIRED, STARTING)], "unhealthy"),
    ],
)
def test_the_verdict(results: list[Result], verdict: str) -> None:
    assert overall(results, 0.0) == verdict


def test_what_is_old_is_unknown_and_no_good() -> None:
    old = Result("x", frozenset(), REQUIRED, OK, stale_from=10.0)
    assert overall([old], 9.9) == "healthy"
    assert overall([old], 10.0) == "unhealthy"
    assert report(old, 10.0, full=False).status == "unknown"
