"""Many replicas in few processes: the real link of an instance, without the rest of it.

As a program: ``python -m tests.benchmarks.listeners URL COUNT`` holds that many replicas, each on
connections of its own, and prints a line for each document that one of them applies.
"""

import asyncio
import json
import sys
import time
from collections import defaultdict
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, aclosing, asynccontextmanager

from control import ids, logs
from control.clock import SystemClock
from control.config import LogSection
from control.errors import StoreUnavailable
from control.flags.answers import Answers
from control.flags.document import Document
from control.flags.link import Link
from control.flags.presence import Presence
from control.flags.projection import Projection
from control.flags.replica import Replica
from control.lifespan import Lifespan, new_loop
from control.stores import redis as redis_store
from control.subscriber import Subscriber
from tests.processes import Replica as Process
from tests.stack import ROOT, clean_environment, wait_until


class Listeners:
    """The processes, and when the last of their replicas applied a document."""

    def __init__(self, processes: list[Process], each: int) -> None:
        self._processes = processes
        self._each = each

    async def last(self, position: str) -> float:
        """When the last of them applied it, in seconds since 1970."""

        def all_of_them() -> list[float] | None:
            found: dict[int, list[float]] = defaultdict(list)
            for number, process in enumerate(self._processes):
                for line in process.lines[-2 * self._each :]:
                    if line.get("applied") == position:
                        found[number].append(line["at"])
            times = [at for moments in found.values() for at in moments]
            return times if len(times) == self._each * len(self._processes) else None

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
            await held.until(lambda held=held: len(held.lines) >= each, 60, "all know the flags")  # type: ignore[misc]
        yield Listeners(started, each)


async def _no_truth() -> Document:
    raise StoreUnavailable("database", "not used here")


async def hold(url: str, count: int) -> None:
    """Hold the replicas for ever."""
    logs.configure(LogSection(level="error"), process="listeners", instance=ids.new_id())
    clock = SystemClock()
    async with Lifespan() as life:
        for _ in range(count):
            commands = await life.enter(aclosing(redis_store.client(url)))
            listening = await life.enter(aclosing(redis_store.client(url, retries=0)))
            subscriber, replica = Subscriber(listening, clock), Replica(clock)
            presence = Presence(
                ids.new_id(), "worker", redis=commands, replica=replica, clock=clock
            )
            projection = Projection(commands, clock)
            link = Link(
                subscriber, projection, replica, Answers(clock), clock, read_truth=_no_truth
            )
            replica.on_change(_say)
            await link.open()
            life.supervise("subscriber", subscriber.run())
            life.supervise("presence", presence.run())
        await life.stopping()


def _say(_before: Document, after: Document) -> None:
    print(json.dumps({"applied": str(after.position), "at": time.time()}), flush=True)


if __name__ == "__main__":
    with asyncio.Runner(loop_factory=new_loop) as runner:
        runner.run(hold(sys.argv[1], int(sys.argv[2])))
