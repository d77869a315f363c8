"""Many replicas in few processes: the real link of an instance, without the rest of it.

As a program: ``python -m tests.benchmarks.listeners URL COUNT`` holds that many replicas, each on
connections of its own, and prints a line for each document once all of them have applied it.
"""

import asyncio
import functools
import json
import sys
import time
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, aclosing, asynccontextmanager, suppress

from control import ids, keys, logs
from control.clock import SystemClock
from control.config import LogSection
from control.errors import StoreUnavailable
from control.flags.answers import Answers
from control.flags.commands import BadCommand, parse
from control.flags.document import Document, Position
from control.flags.link import Link
from control.flags.presence import Presence
from control.flags.projection import Projection
from control.flags.replica import Replica
from control.health.check import Check
from control.health.dependencies import REDIS, VOUCHED_S, RedisProbe, heed
from control.health.engine import Engine
from control.lifespan import Lifespan, new_loop
from control.stores import redis as redis_store
from control.stores.wire import Wire
from control.subscriber import Listener, Subscriber, Subscribers
from tests.processes import Replica as Process
from tests.stack import ROOT, clean_environment, wait_until


class Listeners:
    """The processes, and when the last of their replicas applied a document."""

    def __init__(self, processes: list[Process]) -> None:
        self._processes = processes

    @property
    def pids(self) -> list[int]:
        """Of the processes."""
        return [process.pid for process in self._processes]

    async def last(self, position: str) -> float:
        """When the last of them applied it, in seconds since 1970."""

        def all_of_them() -> list[float] | None:
            times = [
                line["at"]
                for process in self._processes
                for line in process.lines[-3:]
                if line.get("applied") == position
            ]
            return times if len(times) == len(self._processes) else None

        return max(await wait_until(all_of_them))


@asynccontextmanager
async def listeners(url: str, processes: int, each: int) -> AsyncIterator[Listeners]:
    """``processes`` of ``each`` replicas, once all of them know the flags."""
    async with AsyncExitStack() as stack:
        started = []
        for _ in range(processes):
            process = await asyncio.create_subprocess_exec(
                *(sys.executable, "-m", "tests.benchmarks.listeners", url, str(each)),
                cwd=ROOT,
                env=clean_environment(),
                stdout=asyncio.subprocess.PIPE,
                stderr=asyncio.subprocess.STDOUT,
            )
            held = Process(process)
            stack.push_async_callback(held.close)
            started.append(held)
        for held in started:
            await held.until(lambda held=held: bool(held.lines), 60, "all know the flags")  # type: ignore[misc]
        yield Listeners(started)


async def _no_truth() -> Document:
    raise StoreUnavailable("database", "not used here")


class Together:
    """The replicas of this process; says when all of them have applied the newest document."""

    def __init__(self, count: int) -> None:
        self._count = count
        self._newest = Position(0, 0)
        self._behind: set[int] = set()

    def applied(self, number: int, position: Position) -> None:
        """One of them has."""
        if position > self._newest:
            self._newest, self._behind = position, set(range(self._count))
        if position == self._newest:
            self._behind.discard(number)
            if not self._behind:
                print(json.dumps({"applied": str(position), "at": time.time()}), flush=True)


async def hold(url: str, count: int) -> None:
    """Hold the replicas for ever."""
    logs.configure(LogSection(level="error"), process="listeners", instance=ids.new_id())
    together = Together(count)
    async with Lifespan() as life:
        for number in range(count):
            await _live(life, url, functools.partial(together.applied, number))
        await life.stopping()


async def _live(life: Lifespan, url: str, applied: Callable[[Position], None]) -> None:
    """One replica: its subscription, its copy of the flags, its lease, its check of Redis. It
    hears commands and leaves them to others."""
    clock = SystemClock()
    commands = await life.enter(aclosing(redis_store.client(url)))
    listening = await life.enter(aclosing(redis_store.client(url, retries=0)))
    wire = await life.enter(aclosing(Wire(commands)))
    subscriber, replica = Subscriber(listening, clock), Replica(clock)
    presence = Presence(ids.new_id(), "worker", redis=wire, replica=replica, clock=clock)
    projection = Projection(commands, clock, wire=wire)
    link = Link(subscriber, projection, replica, Answers(clock), clock, read_truth=_no_truth)
    replica.on_change(lambda _before, after: applied(after.position))
    await link.open()
    await subscriber.add(keys.COMMANDS_CHANNEL, Listener(_hear), wait_s=0)
    life.supervise("subscriber", subscriber.run())
    life.supervise("presence", presence.run())
    probe = await life.enter(_probe(url))
    engine = Engine((Check(REDIS, probe.ask, vouched_s=VOUCHED_S),), clock=clock)
    heed(engine, Subscribers(subscriber, (subscriber,)), presence)
    life.supervise("health check", engine.run())


@asynccontextmanager
async def _probe(url: str) -> AsyncIterator[RedisProbe]:
    probe = RedisProbe(url)
    try:
        yield probe
    finally:
        await probe.close()


def _hear(message: bytes) -> None:
    with suppress(BadCommand):
        parse(message)


if __name__ == "__main__":
    with asyncio.Runner(loop_factory=new_loop) as runner:
        runner.run(hold(sys.argv[1], int(sys.argv[2])))
