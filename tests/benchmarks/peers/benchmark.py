"""The whole run: environments, one turn to learn each engine's pace, then the rounds."""

import asyncio
import random
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from control.errors import DrawbridgeError
from tests.benchmarks.peers import machine, stores
from tests.benchmarks.peers.environments import NotInstalled, python_of, version_of
from tests.benchmarks.peers.processes import Failed
from tests.benchmarks.peers.subjects import Subject, revision
from tests.benchmarks.peers.turn import Contender, Figures, Plan, Turn

FEWEST_JOBS, MOST_JOBS = 1_000, 60_000
FAILURES = 2
"""An engine that failed so often is left alone from then on."""

SHORTEST_S = 5.0
"""No turn begins with less time left."""


@dataclass(frozen=True)
class Size:
    """How long the benchmark takes; the pace turns come on top of the rounds."""

    rounds: int
    drain_s: float
    """Each engine gets as many jobs as it drains in about this time."""
    samples: int
    idle_s: float
    within_s: float
    """No turn begins that may end later."""


FULL = Size(rounds=5, drain_s=3.0, samples=100, idle_s=3.0, within_s=14.5 * 60)
QUICK = Size(rounds=0, drain_s=0.0, samples=50, idle_s=2.0, within_s=2.8 * 60)
"""The first turn alone, with everything in it."""


@dataclass
class Findings:
    """What was found of one engine. Each figure is of one turn."""

    contender: Contender | None
    """``None`` where it takes no part, or no longer."""
    subject: Subject
    version: str = "—"
    pace: Figures | None = None
    turns: list[Figures] = field(default_factory=list)
    failures: list[str] = field(default_factory=list)
    longest_s: float = 10.0

    @property
    def out(self) -> bool:
        """Whether it is left alone."""
        return self.contender is None or len(self.failures) >= FAILURES


class Benchmark:
    """Runs subjects in turn. ``say`` gets a line for each event."""

    def __init__(
        self, subjects: Sequence[Subject], size: Size, cache: Path, say: Callable[[str], None]
    ) -> None:
        self._subjects = subjects
        self._size = size
        self._cache = cache
        self._logs = cache / "logs"
        self._say = say
        self.findings: list[Findings] = []
        self.rounds = 0
        self.about: dict[str, Any] = {}

    async def run(self) -> None:
        """Everything; what fails is noted and nothing more."""
        self._logs.mkdir(parents=True, exist_ok=True)
        for old in self._logs.glob("*.log"):
            old.unlink()
        async with AsyncExitStack() as stack:
            self._folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="bench-")))
            for subject in self._subjects:
                self.findings.append(await self._prepared(subject, stack))
            async with stores.fresh_redis(self._folder / "redis") as url:
                redis = await stores.redis_version(url)
            self.about = machine.about() | {"redis": redis}
            self._until = time.monotonic() + self._size.within_s
            for found in self.findings:
                await self._learn_pace(found)
            for number in range(1, self._size.rounds + 1):
                if not await self._round(number):
                    break
                self.rounds = number
        self.about["load_after"] = machine.load()

    async def _prepared(self, subject: Subject, stack: AsyncExitStack) -> Findings:
        try:
            python = await python_of(subject, self._cache, self._say)
            if subject.checkout is None:
                version, environ = await version_of(subject, python), {}
            else:
                version = revision(subject.checkout)
                database = stores.postgres(self._folder / subject.name)
                environ = {"DATABASE_URL": await stack.enter_async_context(database)}
                await stores.migrate(subject, python, environ)
        except (NotInstalled, Failed, DrawbridgeError, OSError) as error:
            self._say(f"{subject.title}: {error}")
            return Findings(None, subject, failures=[f"not installed: {error}"])
        return Findings(Contender(subject, python, environ), subject, version)

    async def _learn_pace(self, found: Findings) -> None:
        """The first turn, also of the commands; it counts only where no rounds follow."""
        plan = Plan(jobs=FEWEST_JOBS, count_commands=True, deadline_s=30.0)
        if not self._size.rounds:
            plan = replace(plan, samples=self._size.samples, idle_s=self._size.idle_s)
        while not found.out and found.pace is None:
            found.pace = await self._turn(found, plan, "first turn")
        if found.pace and not self._size.rounds:
            found.turns = [found.pace]

    async def _round(self, number: int) -> bool:
        """One turn for each, in an order that chance decides; whether there was time for it."""
        order = [found for found in self.findings if not found.out and found.pace]
        if time.monotonic() + sum(found.longest_s for found in order) > self._until:
            self._say(f"no time for round {number} of {self._size.rounds}")
            return False
        random.shuffle(order)
        for found in order:
            assert found.pace is not None
            pace = found.pace["drained"]["per_second"]
            jobs = min(max(int(pace * self._size.drain_s), FEWEST_JOBS), MOST_JOBS)
            plan = Plan(jobs=jobs, samples=self._size.samples, idle_s=self._size.idle_s)
            if figures := await self._turn(found, plan, f"round {number}"):
                found.turns.append(figures)
        return True

    async def _turn(self, found: Findings, plan: Plan, name: str) -> Figures | None:
        assert found.contender is not None
        began = time.monotonic()
        plan = replace(plan, deadline_s=min(plan.deadline_s, self._until - began))
        if plan.deadline_s < SHORTEST_S:
            found.failures.append(f"{name}: no time was left")
            found.contender = None
            return None
        try:
            with tempfile.TemporaryDirectory(prefix="turn-", ignore_cleanup_errors=True) as folder:
                figures = await Turn(found.contender, plan, Path(folder), self._logs).run()
        except Exception as error:  # whatever an engine does, the others have their turns
            why = str(error) if isinstance(error, Failed) else repr(error)
            found.failures.append(f"{name}: {why}")
            self._say(f"{name}: {found.subject.title} failed: {why}")
            return None
        took_s = time.monotonic() - began
        if plan.samples:
            found.longest_s = max(found.longest_s, took_s)
        drained = figures["drained"]
        self._say(
            f"{name}: {found.subject.title} drained {drained['count']:,} jobs at "
            f"{drained['per_second']:,.0f}/s (turn of {took_s:.0f} s)"
        )
        return figures


def say(line: str) -> None:
    """Tell what happens, beside the table on stdout."""
    print(line, file=sys.stderr, flush=True)


def measured(subjects: Sequence[Subject], size: Size, cache: Path) -> Benchmark:
    """A benchmark that has run."""
    benchmark = Benchmark(subjects, size, cache, say)
    asyncio.run(benchmark.run())
    return benchmark
