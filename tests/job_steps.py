"""Moves jobs through their states by hand, as services and workers do."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from redis.asyncio import Redis

from control import keys
from control.ids import new_id
from worker.jobs.job import Claim, JobState, NewJob, Outcome, Rescued, Spec
from worker.jobs.manager import JobStateManager

LEASE_S = 15


def new(
    kind: str = "demo",
    *,
    payload: bytes = b'{"n":1}',
    key: str | None = None,
    digest: str = "",
    **spec: object,
) -> NewJob:
    made = Spec(kind=kind, correlation_id="corr-1", **spec)  # type: ignore[arg-type]
    return NewJob(run_id=new_id(), spec=made, payload=payload, idempotency_key=key, digest=digest)


async def claim_one(jobs: JobStateManager, worker: str = "w1") -> Claim:
    await jobs.heartbeat(worker, [], join=True)
    [claim] = await jobs.claim(worker, "io", 1)
    return claim


class Ear:
    """Where a worker that waits is called: what it heard, and its offers."""

    def __init__(self, redis: Redis, worker: str, calls: Any) -> None:
        self._redis: Any = redis
        self._worker = worker
        self._calls = calls

    async def offer(self, number: int = 1, lane: str = "io", *, direct: bool = True) -> None:
        """Offer by hand, whatever waits, and whether there is a lease."""
        offer = f"{number} {int(direct)} {{}}"
        await self._redis.hset(keys.offers(lane), self._worker, offer)

    async def heard(self) -> list[bytes]:
        """The calls that have come since the last time."""
        await self._calls.ping()
        found = []
        while (said := await self._calls.get_message(timeout=60))["type"] != "pong":
            if said["type"] == "message":
                found.append(said["data"])
        return found


@asynccontextmanager
async def listening(redis: Redis, worker: str = "waiting", lane: str = "io") -> AsyncIterator[Ear]:
    """A worker that listens, and does nothing else by itself."""
    async with redis.pubsub() as calls:
        await calls.subscribe(keys.call_channel(lane, worker))
        yield Ear(redis, worker, calls)


async def ring(redis: Redis, worker: str, lane: str = "io") -> None:
    """Have a worker that waits look."""
    asking: Any = redis
    number, *_ = (await asking.hget(keys.offers(lane), worker)).split()
    await asking.hdel(keys.offers(lane), worker)
    await asking.publish(keys.call_channel(lane, worker), number + b"\n")


async def lose(redis: Redis, worker: str) -> None:
    """Let a worker's lease run out now."""
    await redis.zadd(keys.WORKERS, {worker: 1})


async def rescue(jobs: JobStateManager) -> list[Rescued]:
    """Rescue as a worker that has just had a heartbeat."""
    beat = await jobs.heartbeat("judge", [], join=True)
    rescued = await jobs.rescue(beat.at_ms, within_s=5)
    assert rescued is not None
    return rescued


def ended(claim: Claim, status: JobState = JobState.COMPLETED, **more: object) -> Outcome:
    return Outcome(run_id=claim.run_id, token=claim.token, status=status, **more)  # type: ignore[arg-type]
