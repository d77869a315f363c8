"""The health engine against probes that misbehave in every way a probe can."""

import asyncio
import contextlib
import json
import random
import time
from collections.abc import AsyncIterator, Callable, Iterator, Mapping

import pytest
from aiohttp.test_utils import make_mocked_request
from structlog.testing import capture_logs

from control.clock import SystemClock
from control.health.check import Check, Importance, State
from control.health.dependencies import READY
from control.health.engine import CANCEL_S, JITTER, WAKE_GAP_S, Engine
from control.health.probes import Probes
from control.health.reasons import reason
from tests.clocks import ManualClock

TIMEOUT_S = 0.1
SECRET = "hunter2-hunter2"


class Dependency:
    """A dependency whose probe answers as its mood says; counts what it is asked."""

    def __init__(self) -> None:
        self.asked = 0
        self.running = 0
        self.error: Exception | None = None
        self.hangs: asyncio.Event | None = None
        self.deaf = False

    async def ask(self) -> Mapping[str, object]:
        self.asked += 1
        self.running += 1
        try:
            if self.hangs is not None:
                await self._hang(self.hangs)
            if self.error is not None:
                raise self.error
            return {"asked": self.asked}
        finally:
            self.running -= 1

    async def _hang(self, until: asyncio.Event) -> None:
        while not until.is_set():
            try:
                await until.wait()
            except asyncio.CancelledError:
                if not self.deaf:
                    raise

    def check(self, name: str = "redis", **settings: object) -> Check:
        options: dict[str, object] = {"timeout_s": TIMEOUT_S, "interval_s": 0.1, "retry_s": 0.1}
        return Check(name, self.ask, frozenset({READY}), **(options | settings))  # type: ignore[arg-type]


@pytest.fixture
def deaf() -> Iterator[Dependency]:
    """A dependency that hangs and ignores cancellation, until the test ends at the latest."""
    dependency = Dependency()
    dependency.deaf, dependency.hangs = True, asyncio.Event()
    released = dependency.hangs
    yield dependency
    released.set()


@contextlib.asynccontextmanager
async def running(*checks: Check) -> AsyncIterator[Engine]:
    engine = Engine(checks, clock=SystemClock())
    task = asyncio.create_task(engine.run())
    try:
        yield engine
    finally:
        task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await task


async def eventually(holds: Callable[[], bool], within_s: float = 5.0) -> None:
    async with asyncio.timeout(within_s):
        while not holds():
            await asyncio.sleep(0.002)


def release(dependency: Dependency) -> None:
    assert dependency.hangs is not None
    dependency.hangs.set()


def words(engine: Engine) -> dict[str, str]:
    now = SystemClock().monotonic()
    return {name: result.word_at(now) for name, result in engine.snapshot.results.items()}


async def ready(probes: Probes) -> tuple[int, dict[str, object]]:
    response = await probes.ready(make_mocked_request("GET", "/ready"))
    assert isinstance(response.body, bytes)
    return response.status, json.loads(response.body)


def test_two_checks_of_one_name_abort_the_start() -> None:
    twins = [Dependency().check("redis"), Dependency().check("redis")]
    with pytest.raises(ValueError, match="two health checks are named 'redis'"):
        Engine(twins, clock=SystemClock())


def test_the_defaults_keep_the_contract_of_three_seconds() -> None:
    check = Dependency().check(timeout_s=Check.timeout_s)
    check = Check("x", check.probe)
    to_notice = check.interval_s * (1 + JITTER) + check.timeout_s
    to_recover = check.timeout_s + CANCEL_S + check.retry_s * (1 + JITTER)
    assert to_notice < 3.0
    assert to_recover < 3.0
    assert check.stale_after_s > to_notice


async def test_first_results_come_at_once() -> None:
    slow_pace = {"interval_s": 60.0, "retry_s": 60.0}
    well, ill = Dependency(), Dependency()
    ill.error = ConnectionRefusedError()
    engine = Engine(
        (well.check("a", **slow_pace), ill.check("b", **slow_pace)), clock=SystemClock()
    )
    assert words(engine) == {"a": "starting", "b": "starting"}
    assert await ready(Probes(engine, clock=SystemClock())) == (
        503,
        {"detail": {"dependencies": {"a": "starting", "b": "starting"}}},
    )
    task = asyncio.create_task(engine.run())
    await eventually(lambda: words(engine) == {"a": "ok", "b": "down: ConnectionRefused"}, 0.5)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task


async def test_one_check_that_hangs_holds_no_other_up() -> None:
    hanging, well = Dependency(), Dependency()
    hanging.hangs = asyncio.Event()
    async with running(hanging.check("a"), well.check("b")) as engine:
        await eventually(lambda: words(engine)["a"] == "down: timeout after 0.1 s")
        asked = well.asked
        await eventually(lambda: well.asked >= asked + 3)
        assert words(engine)["b"] == "ok"
        assert hanging.running <= 1
        hanging.hangs.set()
        await eventually(lambda: words(engine)["a"] == "ok")


async def test_a_probe_deaf_to_cancellation_is_abandoned_and_shown_as_stuck(
    deaf: Dependency,
) -> None:
    with capture_logs() as logs:
        async with running(deaf.check()) as engine:
            await eventually(lambda: words(engine) == {"redis": "down: stuck"})
            # The second one hangs as well. More than these two never run at once.
            await eventually(lambda: deaf.running == 2)
            await eventually(lambda: len(logs) == 3)
            with pytest.raises(TimeoutError):
                await eventually(lambda: deaf.asked > 2, within_s=10 * TIMEOUT_S)
            assert words(engine) == {"redis": "down: stuck"}
            release(deaf)
            await eventually(lambda: words(engine) == {"redis": "ok"})
            await eventually(lambda: deaf.running == 0)
    assert [entry["event"] for entry in logs] == [
        "health check fails",
        "health probe ignores its cancellation",
        "health probe ignores its cancellation",
        "health check passes",
    ]


async def test_a_new_probe_beside_an_abandoned_one_may_find_it_well_again(
    deaf: Dependency,
) -> None:
    released = deaf.hangs
    async with running(deaf.check()) as engine:
        await eventually(lambda: words(engine) == {"redis": "down: stuck"})
        deaf.hangs = None  # the next probe answers; the abandoned one still hangs
        await eventually(lambda: words(engine) == {"redis": "ok"})
        assert deaf.running >= 1
        deaf.hangs = released
        release(deaf)
        await eventually(lambda: deaf.running == 0)


async def test_an_old_success_counts_as_unknown_and_so_as_down() -> None:
    clock, dependency = ManualClock(), Dependency()
    check = dependency.check(interval_s=60.0)
    engine = Engine([check], clock=clock)
    probes = Probes(engine, clock=clock)
    task = asyncio.create_task(engine.run())
    await eventually(lambda: engine.snapshot.results["redis"].state is State.OK)
    assert await ready(probes) == (200, {"status": "ready", "dependencies": {"redis": "ok"}})
    clock.passed_s = check.stale_after_s - 0.001
    assert (await ready(probes))[0] == 200
    clock.passed_s = check.stale_after_s
    assert await ready(probes) == (503, {"detail": {"dependencies": {"redis": "down: unknown"}}})
    engine.wake("redis")
    await eventually(lambda: dependency.asked == 2)
    await eventually(lambda: engine.snapshot.results["redis"].stale_from > clock.monotonic())
    assert (await ready(probes))[0] == 200
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task


async def test_only_required_checks_with_the_tag_decide_on_readiness() -> None:
    down = ConnectionRefusedError()
    required, degrading, other = Dependency(), Dependency(), Dependency()
    degrading.error = other.error = down
    checks = (
        required.check("redis"),
        degrading.check("cache", importance=Importance.DEGRADING),
        Check("database", other.ask, timeout_s=TIMEOUT_S),
    )
    async with running(*checks) as engine:
        await eventually(lambda: "starting" not in words(engine).values())
        assert await ready(Probes(engine, clock=SystemClock())) == (
            200,
            {
                "status": "ready",
                "dependencies": {"redis": "ok", "cache": "down: ConnectionRefused"},
            },
        )


async def test_wake_probes_at_once_but_a_storm_of_wakes_adds_little() -> None:
    dependency = Dependency()
    async with running(dependency.check(interval_s=60.0)) as engine:
        await eventually(lambda: words(engine) == {"redis": "ok"})
        dependency.error = ConnectionResetError()
        engine.wake("redis")
        await eventually(lambda: words(engine) == {"redis": "down: ConnectionReset"}, 1.0)
        asked, began = dependency.asked, time.monotonic()
        while dependency.asked < asked + 4:
            engine.wake("redis")
            await asyncio.sleep(0)
        assert time.monotonic() - began >= 3 * WAKE_GAP_S


async def test_a_change_of_state_is_logged_once_with_the_full_reason() -> None:
    dependency = Dependency()
    with capture_logs() as logs:
        async with running(dependency.check()) as engine:
            await eventually(lambda: words(engine) == {"redis": "ok"})
            dependency.error = ConnectionRefusedError(111, "Connect call failed ('10.1.2.3', 6379)")
            asked = dependency.asked
            await eventually(lambda: dependency.asked > asked + 4)
            dependency.error = None
            await eventually(lambda: words(engine) == {"redis": "ok"})
            asked = dependency.asked
            await eventually(lambda: dependency.asked > asked + 2)
    told = [(entry["log_level"], entry["event"]) for entry in logs]
    assert told == [
        ("info", "health check passes"),
        ("warning", "health check fails"),
        ("info", "health check passes"),
    ]
    assert logs[1]["reason"] == "ConnectionRefused"
    assert "10.1.2.3" in logs[1]["error"]
    assert logs[2]["was_down_s"] > 0


async def test_bodies_say_the_class_of_an_error_and_never_its_text() -> None:
    dependency = Dependency()
    dependency.error = RuntimeError(f"cannot reach redis://user:{SECRET}@db.internal")
    async with running(dependency.check()) as engine:
        await eventually(lambda: words(engine) == {"redis": "down: Runtime"})
        status, body = await ready(Probes(engine, clock=SystemClock()))
    assert status == 503
    assert SECRET not in json.dumps(body)
    assert "db.internal" not in json.dumps(body)


async def test_a_cancelled_engine_ends_and_leaves_no_task_behind(deaf: Dependency) -> None:
    before = asyncio.all_tasks()
    hanging = Dependency()
    hanging.hangs = asyncio.Event()
    async with running(hanging.check("a", timeout_s=60.0), deaf.check("b")) as engine:
        await eventually(lambda: words(engine)["b"] == "down: stuck")
    release(deaf)
    await eventually(lambda: asyncio.all_tasks() == before)


async def test_a_bug_in_a_loop_ends_the_engine_loudly(monkeypatch: pytest.MonkeyPatch) -> None:
    engine = Engine([Dependency().check()], clock=SystemClock())

    def broken(*_: object) -> float:
        raise ZeroDivisionError

    monkeypatch.setattr(random, "uniform", broken)
    with pytest.RaisesGroup(ZeroDivisionError):
        await engine.run()


async def test_a_probe_that_cancels_itself_is_a_failure_and_not_the_end() -> None:
    dependency = Dependency()
    dependency.error = asyncio.CancelledError()  # type: ignore[assignment]
    async with running(dependency.check()) as engine:
        await eventually(lambda: words(engine) == {"redis": "down: ProbeCancelled"})
        dependency.error = None
        await eventually(lambda: words(engine) == {"redis": "ok"})


async def test_a_snapshot_never_changes_under_its_reader() -> None:
    dependency = Dependency()
    async with running(dependency.check()) as engine:
        await eventually(lambda: words(engine) == {"redis": "ok"})
        held = engine.snapshot
        details = dict(held.results["redis"].details)
        await eventually(lambda: engine.snapshot is not held)
        assert dict(held.results["redis"].details) == details
        with pytest.raises(TypeError):
            held.results["redis"] = held.results["redis"]  # type: ignore[index]


async def test_shutting_down_is_not_ready_and_says_so() -> None:
    dependency = Dependency()
    async with running(dependency.check()) as engine:
        await eventually(lambda: words(engine) == {"redis": "ok"})
        probes = Probes(engine, clock=SystemClock())
        assert (await ready(probes))[0] == 200
        probes.shutting_down.set()
        assert await ready(probes) == (
            503,
            {"detail": {"reason": "shutting_down", "dependencies": {"redis": "ok"}}},
        )


async def test_the_body_of_ready_is_encoded_once_for_each_snapshot() -> None:
    dependency = Dependency()
    async with running(dependency.check(interval_s=60.0)) as engine:
        await eventually(lambda: words(engine) == {"redis": "ok"})
        probes = Probes(engine, clock=SystemClock())
        request = make_mocked_request("GET", "/ready")
        bodies = [(await probes.ready(request)).body for _ in range(1000)]
        assert all(body is bodies[0] for body in bodies)
        assert dependency.asked == 1


async def test_health_tells_time_version_and_uptime() -> None:
    clock = ManualClock()
    probes = Probes(Engine((), clock=clock), clock=clock, version="1.2.3")
    clock.passed_s = 61.5
    response = await probes.health(make_mocked_request("GET", "/health"))
    assert isinstance(response.body, bytes)
    assert response.status == 200
    assert response.headers["Cache-Control"] == "no-store"
    assert json.loads(response.body) == {
        "status": "ok",
        "timestamp": "2026-11-21T00:01:01.500Z",
        "version": "1.2.3",
        "uptime_seconds": 61.5,
    }


def test_the_reason_prefers_what_the_operating_system_said() -> None:
    wrapped = RuntimeError("wrapped")
    wrapped.__cause__ = ConnectionRefusedError(111, "x")
    assert reason(wrapped) == "ConnectionRefused"
    assert reason(TimeoutError()) == "Timeout"
    assert reason(BlockingIOError(11, "try again")) == "NotAccepting"
    assert reason(FileNotFoundError(2, "/secret/path")) == "SocketNotFound"
    loop = ValueError("a ring")
    loop.__context__ = KeyError("b")
    loop.__context__.__context__ = loop
    assert reason(loop) == "Value"
