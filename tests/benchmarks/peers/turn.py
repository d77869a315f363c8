"""One engine's turn: a fresh Redis, its jobs submitted, its worker started, everything measured."""

import asyncio
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tests.benchmarks.peers.engines import noop
from tests.benchmarks.peers.monitor import Monitor
from tests.benchmarks.peers.processes import Driver, Failed, Worker, driver_of, worker_of
from tests.benchmarks.peers.stores import fresh_redis
from tests.benchmarks.peers.subjects import Subject, environment_of

Figures = dict[str, Any]

REST_S = 0.5
"""From the end of the drained jobs to the first of those that meet an idle worker."""

PICKUPS = ("in_a_row", "rested")
"""How long a worker is idle before each job, see ``PAUSES_S`` of the driver."""

SETTLE_S = 60.0
"""How long a worker may have to do with what has ended, before it counts as idle."""

_ALONE, _TOGETHER = 100, 900
"""Jobs whose commands are counted, submitted one by one and in bulk."""


@dataclass(frozen=True)
class Plan:
    """How much of what. Nothing where a number is 0."""

    jobs: int
    samples: int = 0
    idle_s: float = 0.0
    count_commands: bool = False
    enqueue_s: float = 1.0
    pickup_s: float = 6.0
    deadline_s: float = 60.0


@dataclass
class Contender:
    """A subject that is ready to run. ``environ`` holds what only it needs."""

    subject: Subject
    python: Path
    environ: dict[str, str] = field(default_factory=dict)


class Turn:
    """What happens between the start and the end of one engine's processes."""

    def __init__(self, contender: Contender, plan: Plan, folder: Path, logs: Path) -> None:
        self._contender = contender
        self._plan = plan
        self._folder = folder
        self._log = logs / f"{contender.subject.name}.log"
        self._driver: Driver | None = None

    async def run(self) -> Figures:
        """All figures. Raises :class:`Failed`; ends its processes whatever happens."""
        try:
            async with asyncio.timeout(self._plan.deadline_s), AsyncExitStack() as stack:
                return await self._measured(stack)
        except TimeoutError:
            doing = self._driver.doing if self._driver else "its start"
            raise Failed(f"not done after {self._plan.deadline_s:.0f} s (at {doing})") from None

    async def _measured(self, stack: AsyncExitStack) -> Figures:
        subject, plan = self._contender.subject, self._plan
        url = await stack.enter_async_context(fresh_redis(self._folder / "redis"))
        board = noop.make_board(self._folder / "board")
        self._environ = environment_of(subject, self._contender.python, url, board)
        self._environ |= self._contender.environ
        driver = self._driver = await stack.enter_async_context(
            driver_of(self._contender.python, subject.module, self._environ, self._log)
        )
        if subject.checkout:
            await self._warm_up(driver)
        alone = await driver.do("one_by_one", most=plan.jobs // 2, seconds=plan.enqueue_s)
        bulk = await driver.do("bulk", count=plan.jobs - alone["count"])
        draining = asyncio.create_task(driver.do("drained"))
        stack.callback(draining.cancel)
        worker = await stack.enter_async_context(self._worker())
        figures = {"one_by_one": alone, "bulk": bulk, "drained": await _during(worker, draining)}
        checked = figures["checked"] = await driver.do("check")
        if checked["right"] < checked["of"] / 2:
            raise Failed(f"{checked['right']} of {checked['of']} results stored: {checked}")
        rest = self._at_rest(driver, worker, url)
        return figures | await _during(worker, asyncio.create_task(rest))

    async def _warm_up(self, driver: Driver) -> None:
        """Let a worker run one job and end: it writes the flags without which no job is taken."""
        async with self._worker() as worker:
            await _during(worker, asyncio.create_task(driver.do("warm_up")))

    def _worker(self) -> Any:
        first, *rest = self._contender.subject.worker
        argv = (str(self._contender.python.parent / first), *rest)
        return worker_of(argv, self._environ, self._log)

    async def _at_rest(self, driver: Driver, worker: Worker, url: str) -> Figures:
        """What a worker that has nothing to do is like."""
        plan, figures = self._plan, Figures()
        await driver.do("rest", seconds=SETTLE_S)
        await asyncio.sleep(REST_S)
        for pauses in PICKUPS if plan.samples else ():
            asked = {"pauses": pauses, "samples": plan.samples, "seconds": plan.pickup_s}
            figures[f"pickup_{pauses}"] = await driver.do("pickup", **asked)
        if plan.idle_s:
            await driver.do("rest", seconds=SETTLE_S)
            await asyncio.sleep(REST_S)
            async with Monitor(url, self._contender.subject.jobs_mark) as monitor:
                await asyncio.sleep(plan.idle_s)
                figures["idle"] = {
                    "sent_per_second": monitor.sent() / plan.idle_s,
                    "sent_for_jobs_per_second": monitor.marked / plan.idle_s,
                    "scripted_per_second": monitor.scripted / plan.idle_s,
                }
        figures["memory_mb"] = worker.memory_mb
        if plan.count_commands:
            figures["commands"] = await self._commands(driver, worker, url)
        return figures

    async def _commands(self, driver: Driver, worker: Worker, url: str) -> Figures:
        """Commands a job: the worker stands still while jobs are submitted, then drains them."""
        async with Monitor(url) as monitor:
            worker.hold()
            await driver.do("one_by_one", most=_ALONE, seconds=self._plan.deadline_s)
            await monitor.catch_up()
            alone = monitor.sent()
            await driver.do("bulk", count=_TOGETHER)
            await monitor.catch_up()
            bulk, submitters = monitor.sent() - alone, frozenset(monitor.calls) - {"lua"}
            before_s = worker.cpu_s
            worker.go_on()
            await driver.do("drained")
            used_s = worker.cpu_s - before_s
            await monitor.catch_up()
            return {
                "submit": alone / _ALONE,
                "submit_bulk": bulk / _TOGETHER,
                "work": monitor.sent(without=submitters) / (_ALONE + _TOGETHER),
                "scripted": monitor.scripted / (_ALONE + _TOGETHER),
                "cpu_us": used_s * 1e6 / (_ALONE + _TOGETHER),
            }


async def _during(worker: Worker, work: asyncio.Task[Figures]) -> Figures:
    """The result of ``work``, unless the worker ends before. Raises :class:`Failed`."""
    ended = asyncio.create_task(worker.ended())
    try:
        await asyncio.wait((work, ended), return_when=asyncio.FIRST_COMPLETED)
        if ended.done() and not work.done():
            ended.result()
        return await work
    finally:
        for task in (work, ended):
            task.cancel()
        await asyncio.gather(work, ended, return_exceptions=True)
