"""What the job engine does on this machine: `make bench`. Figures to compare, not to assert.

A Redis of its own, one process for submitting and working. Prints one line a measurement; with
--json one JSON object.
"""

import asyncio
import json
import statistics
import sys
import tempfile
import time
from collections.abc import Awaitable, Callable
from pathlib import Path

from control.config import Config
from control.ids import new_id
from control.lifespan import new_loop
from control.stores import redis
from deploy.embedded.folder import DataFolder
from deploy.embedded.keeper import Keeper
from deploy.embedded.redis_server import RedisServer
from tests.conftest import open_gate
from worker.jobs.job import JobState, NewJob, Outcome, Spec
from worker.jobs.manager import JobStateManager

ROUNDS = 3
JOBS = 5_000
SAMPLES = 500


class Bench:
    """The measurements, each on the state that the one before left."""

    def __init__(self, jobs: JobStateManager) -> None:
        self.jobs = jobs

    async def one_by_one(self) -> float:
        """Submissions a second, each waiting for the one before."""
        return await per_second(JOBS // 5, self._submit_in_turn)

    async def together(self) -> float:
        """Submissions a second, all at once."""
        return await per_second(JOBS, self._submit_together)

    async def drained(self) -> float:
        """Jobs a second claimed and finished with a stored result."""
        return await per_second(JOBS + JOBS // 5, self._drain)

    async def round_trip_ms(self) -> float:
        """Median milliseconds from submission to the end of a job, alone."""
        took = []
        for _ in range(SAMPLES):
            began = time.perf_counter()
            await self._submit_in_turn(1)
            await self._drain(1)
            took.append((time.perf_counter() - began) * 1000)
        return statistics.median(took)

    async def _submit_in_turn(self, count: int) -> None:
        for _ in range(count):
            await self.jobs.create_job(_new())

    async def _submit_together(self, count: int) -> None:
        await asyncio.gather(*(self.jobs.create_job(_new()) for _ in range(count)))

    async def _drain(self, count: int) -> None:
        done = 0
        while done < count:
            claims = await self.jobs.claim("bench", "io", 128)
            ends = (
                Outcome(
                    run_id=claim.run_id, token=claim.token, status=JobState.COMPLETED, result=b"1"
                )
                for claim in claims
            )
            done += sum(await asyncio.gather(*map(self.jobs.finish, ends)))


async def per_second(count: int, work: Callable[[int], Awaitable[None]]) -> float:
    """How many of ``count`` a second ``work`` gets done."""
    began = time.perf_counter()
    await work(count)
    return count / (time.perf_counter() - began)


def _new() -> NewJob:
    return NewJob(run_id=new_id(), spec=Spec(kind="bench", correlation_id="bench"), payload=b"{}")


async def measure() -> dict[str, float]:
    """The median of each measurement over the rounds."""
    found: dict[str, list[float]] = {}
    with tempfile.TemporaryDirectory() as name:
        folder = DataFolder(Path(name) / "data")
        server = RedisServer(folder, {})
        keeper = Keeper(server, lambda _line: None)
        await keeper.start()
        client = redis.client(server.url, timeout_s=60)
        section = Config().jobs
        bench = Bench(JobStateManager(client, result_ttl_s=600, lease_s=section.lease_s))
        try:
            await open_gate(client)
            await bench.jobs.heartbeat("bench", [], join=True)
            for _ in range(ROUNDS):
                for measurement in (
                    bench.one_by_one, bench.together, bench.drained, bench.round_trip_ms,
                ):  # fmt: skip
                    told = (measurement.__doc__ or "").rstrip(".")
                    found.setdefault(told, []).append(await measurement())
                    await bench.jobs.heartbeat("bench", [])
        finally:
            await client.aclose()
            await keeper.stop()
            folder.close()
    return {told: statistics.median(values) for told, values in found.items()}


def main() -> None:
    """Measure and print."""
    with asyncio.Runner(loop_factory=new_loop) as runner:
        figures = runner.run(measure())
    if "--json" in sys.argv:
        print(json.dumps(figures))
    else:
        for told, figure in figures.items():
            print(f"{figure:12,.2f}  {told}")


if __name__ == "__main__":
    main()
