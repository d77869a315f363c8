"""Workers and whole fleets as real processes, and jobs to give them."""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager
from typing import Any

import msgspec
import pytest
from redis.asyncio import Redis
from redis.asyncio.client import PubSub

from control import keys
from control.ids import new_id
from tests.conftest import LiveStores
from tests.faults.fleet import Fleet, fleet_of
from tests.faults.servers import own_redis
from tests.processes import Replica, replica
from tests.stack import SO_S, wait_until
from worker.jobs import kinds
from worker.jobs.job import JobEvent, JobRecord, NewJob, Spec
from worker.jobs.manager import JobStateManager

LEASE_S = 2.0
StartWorker = Callable[..., AbstractAsyncContextManager[Replica]]


class Jobs:
    """Submits jobs and waits for what becomes of them, by their events on ``listening``."""

    def __init__(self, redis: Redis, listening: PubSub | None = None) -> None:
        self.state = JobStateManager(redis, result_ttl_s=600, lease_s=LEASE_S)
        self._redis: Any = redis
        self._listening = listening
        self._heard: list[tuple[str, JobEvent]] = []
        self._kinds = kinds.load(("tests.kinds",))

    async def submit(self, kind: str, payload: Any = None, **spec: Any) -> str:
        """Submit a job of one of the test kinds; its run id."""
        declared = self._kinds.get(kind)
        assert declared is not None
        made = Spec(
            kind=kind,
            lane=declared.lane,
            correlation_id=f"corr-{kind}",
            **{"max_attempts": declared.max_attempts, **spec},
        )
        job = NewJob(run_id=new_id(), spec=made, payload=msgspec.json.encode(payload or {}))
        # So that all of its events are published, from the first one on.
        await self._redis.hset(keys.job(job.run_id), "followed", "1")
        return (await self.state.create_job(job)).run_id

    async def record(self, run_id: str) -> JobRecord:
        record = await self.state.get_job(run_id)
        assert record is not None
        return record

    async def result(self, run_id: str) -> Any:
        result = await self.state.get_result(run_id)
        assert result is not None
        return msgspec.json.decode(result)

    async def make_due(self, run_id: str) -> None:
        """Have a scheduled job be due now, and the workers' timers hear of it."""
        await self._redis.zadd(keys.DUE, {run_id: 1})
        await self._redis.publish(keys.DUE_CHANNEL, "1")

    async def progress(
        self, run_id: str, wanted: Callable[[dict[str, Any]], bool], *, after: str | None = None
    ) -> str:
        """Wait for progress as wanted, later than the event ``after``; the id of its event."""

        async def found() -> str | None:
            for event in await self.state.events_after(run_id, after):
                if event.type == "progress" and wanted(msgspec.json.decode(event.data)):
                    return event.id
            return None

        told: str = await wait_until(found)
        return told

    async def event(self, run_id: str, kind: str, deadline_s: float = SO_S) -> None:
        """Wait for an event of a job: status, progress or end."""
        async with asyncio.timeout(deadline_s), self._redis.pubsub() as listening:
            await listening.subscribe(keys.events_channel(run_id))
            await listening.get_message(timeout=deadline_s)
            while kind not in {event.type for event in await self.state.follow(run_id) or ()}:
                await listening.get_message(timeout=deadline_s)

    async def statuses(self, run_id: str) -> list[str]:
        """Every status since a job's submission, if Redis was not restarted meanwhile."""
        await self._listening.ping("now")
        while True:
            message = await self._listening.get_message(timeout=SO_S)
            assert message is not None
            if message["type"] == "pong":
                break
            self._heard.append((message["channel"].decode(), JobEvent.parse(message["data"])))
        events = [e for channel, e in self._heard if channel == keys.events_channel(run_id)]
        return [msgspec.json.decode(e.data)["status"] for e in events if e.type == "status"]


@pytest.fixture
async def jobs(redis: Redis) -> AsyncIterator[Jobs]:
    async with redis.pubsub() as listening:
        await listening.psubscribe(keys.events_channel("*"))
        await listening.get_message(timeout=SO_S)
        yield Jobs(redis, listening)


@pytest.fixture
def worker(stores: LiveStores, redis: Redis) -> StartWorker:
    """Start a worker that knows the test kinds, with a short lease; settings as keywords."""

    def start(**settings: str) -> AbstractAsyncContextManager[Replica]:
        known = {
            "DRAWBRIDGE_JOBS": "tests.kinds",
            "DRAWBRIDGE_LEASE_S": str(LEASE_S),
            "DRAWBRIDGE_LOG_LEVEL": "debug",  # the ordinary lives of jobs are not told otherwise
        }
        return replica("worker", stores.environment, **{**known, **settings})

    return start


@pytest.fixture(scope="module")
async def shared(
    request: pytest.FixtureRequest, stores: LiveStores, tmp_path_factory: pytest.TempPathFactory
) -> AsyncIterator[Fleet]:
    """The module's fleet: two services and a worker, unless it says otherwise by ``FLEET``."""
    services, workers = getattr(request.module, "FLEET", (2, 1))
    async with (
        own_redis(tmp_path_factory.mktemp("redis")) as server,
        fleet_of(services, workers, server, stores) as fleet,
    ):
        yield fleet


@pytest.fixture
async def fleet(shared: Fleet) -> AsyncIterator[Fleet]:
    """The module's fleet, all that live well at the beginning and at the end."""
    yield shared
    await shared.mend()
    for one in shared.all:
        assert one.positions == sorted(set(one.positions)), "it went back, or applied one twice"
