"""Resources in a real worker, and kinds of one's own from submission to result."""

import asyncio
import signal
from dataclasses import replace

from tests.processes import replica
from tests.serving import served
from tests.stack import wait_until

USERS = "tests.models.user_kinds"


async def test_a_job_uses_what_its_worker_opened(stores, redis) -> None:
    jobs = replace(stores.config.jobs, modules=(USERS,))
    async with (
        replica("worker", stores.environment, DRAWBRIDGE_JOBS=USERS) as worker,
        served(replace(stores.config, jobs=jobs)) as api,
    ):
        sent = [{"payload": n} for n in range(20)]
        async with api.http.post("/jobs/shout:batch", json=sent) as response:
            assert response.status == 202
            receipts = (await response.json())["jobs"]
        for at, receipt in enumerate(receipts):
            result = receipt["links"]["result"]

            async def completed(result: str = result) -> bool:
                async with api.http.get(result) as response:
                    return response.status == 200

            await wait_until(completed)
            async with api.http.get(result) as response:
                assert (await response.json())["result"] == ["ahoy", at]
        worker.send(signal.SIGTERM)
        assert await worker.ended() == 0
        events = [line["event"] for line in worker.lines]
        assert events.index("resource open") < events.index("working")


async def test_a_worker_without_its_resource_ends_with_one_line(stores) -> None:
    settings = {"DRAWBRIDGE_JOBS": "tests.models.bad_resource"}
    async with replica("worker", stores.environment, **settings) as worker:
        assert await worker.ended() == 1
        async with asyncio.timeout(60):
            line = await worker.logged(
                "drawbridge: the resource ledger did not open: ConnectionError: no ledger here"
            )
    assert line["plain"]
    assert not any("Traceback" in str(line["event"]) for line in worker.lines)
