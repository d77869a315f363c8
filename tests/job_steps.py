"""Moves jobs through their states by hand, as services and workers do."""

from redis.asyncio import Redis

from control import keys
from control.ids import new_id
from worker.jobs.job import Claim, JobState, NewJob, Outcome, Rescued, Spec
from worker.jobs.manager import JobStateManager

LEASE_S = 15


def new(kind: str = "demo", *, key: str | None = None, digest: str = "", **spec: object) -> NewJob:
    made = Spec(kind=kind, correlation_id="corr-1", **spec)  # type: ignore[arg-type]
    return NewJob(
        run_id=new_id(), spec=made, payload=b'{"n":1}', idempotency_key=key, digest=digest
    )


async def claim_one(jobs: JobStateManager, worker: str = "w1") -> Claim:
    await jobs.heartbeat(worker, [], join=True)
    [claim] = await jobs.claim(worker, "io", 1)
    return claim


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
