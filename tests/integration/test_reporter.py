"""Reports of running jobs on their way to Redis."""

from typing import Any

import pytest
import structlog
from redis.asyncio import Redis

from control import keys
from tests.job_steps import LEASE_S, new
from tests.stack import wait_until
from worker.jobs.job import Progress
from worker.jobs.manager import JobStateManager
from worker.reporter import Reporter


async def test_what_is_not_taken_is_told_once_and_sent_again(
    redis: Redis, monkeypatch: pytest.MonkeyPatch
) -> None:
    jobs = JobStateManager(redis, result_ttl_s=600, lease_s=LEASE_S)
    await jobs.heartbeat("w1", [], join=True)
    job = new()
    await jobs.create_job(job)
    [claim] = await jobs.claim("w1", "io", 1)
    taken, refused = jobs.report, 0

    async def report(item: Progress) -> bool:
        nonlocal refused
        if refused < 2:
            refused += 1
            raise RuntimeError("as of a script that somebody else broke")
        return await taken(item)

    monkeypatch.setattr(jobs, "report", report)
    reporter = Reporter(jobs, claim, lambda: pytest.fail("it is still its own"))
    with structlog.testing.capture_logs() as lines:
        reporter.on_progress({"step": 1})
        reporter.on_checkpoint(b"half")
        await wait_until(lambda: reporter.unsent is None)
    asking: Any = redis
    assert await asking.hget(keys.job(job.run_id), "checkpoint") == b"half"
    found = await jobs.get_job(job.run_id)
    assert found is not None
    assert found.progress == {"step": 1}
    assert [line["event"] for line in lines] == ["a report is not taken"]
