"""Jobs that a job submits, beside a real Redis."""

from datetime import UTC, datetime

import msgspec
import pytest
from redis.asyncio import Redis

from control import ids, keys
from control.errors import BridgeUp, InvalidInput
from control.flags.document import MAINTENANCE
from tests.job_steps import LEASE_S, claim_one, new
from worker.children import Children
from worker.context import Terms
from worker.jobs import kinds
from worker.jobs.errors import KeyReused
from worker.jobs.job import JobRecord, JobState
from worker.jobs.manager import JobStateManager

DUE = datetime(2126, 11, 21, tzinfo=UTC)


@pytest.fixture
def jobs(redis: Redis) -> JobStateManager:
    return JobStateManager(redis, result_ttl_s=600, lease_s=LEASE_S)


@pytest.fixture
async def children(jobs: JobStateManager) -> Children:
    await jobs.create_job(new(submitted_by="ada", traceparent="t"))
    return Children(jobs, kinds.load(["tests.models.user_kinds"]), await claim_one(jobs))


async def record(jobs: JobStateManager, run_id: str) -> JobRecord:
    found = await jobs.get_job(run_id)
    assert found is not None
    return found


async def test_a_child_belongs_to_the_same_request(
    jobs: JobStateManager, children: Children
) -> None:
    terms = Terms(priority=9, run_at=DUE, timeout_s=5, max_attempts=7, unique="u")
    child = await record(jobs, await children("greet", {"name": "Ada"}, terms))
    parent = children.parent
    assert (child.parent, child.correlation_id) == (parent.run_id, parent.spec.correlation_id)
    assert (child.submitted_by, child.status) == ("ada", JobState.SCHEDULED)
    assert (child.priority, child.run_at, child.timeout_s) == ("high", DUE, 5)
    assert (child.max_attempts, child.unique) == (7, "u")


async def test_a_payload_may_be_what_the_kind_takes_and_must_fit(children: Children) -> None:
    from tests.models.user_kinds import Greeting, Sum

    await children("greet", Greeting("Ada"), Terms())
    await children("add", Sum([1, 2]), Terms())
    with pytest.raises(InvalidInput, match="name"):
        await children("greet", {"times": 2}, Terms())
    with pytest.raises(LookupError, match="nonesuch"):
        await children("nonesuch", None, Terms())
    with pytest.raises(InvalidInput, match="run_at"):
        await children("shout", 1, Terms(run_at=DUE.replace(tzinfo=None)))


async def test_a_key_is_the_parents_own(jobs: JobStateManager, children: Children) -> None:
    first = await children("shout", 1, Terms(key="k"))
    assert await children("shout", 1, Terms(key="k")) == first
    with pytest.raises(KeyReused):
        await children("shout", 2, Terms(key="k"))
    await jobs.create_job(new())
    other = msgspec.structs.replace(children.parent, run_id=ids.new_id())
    assert await Children(jobs, children.kinds, other)("shout", 1, Terms(key="k")) != first


async def test_a_kinds_own_unique_key_counts(children: Children) -> None:
    bonn = await children("weather", {"city": "Bonn"}, Terms())
    assert await children("weather", {"city": "Bonn"}, Terms()) == bonn


async def test_nothing_is_submitted_under_maintenance(redis: Redis, children: Children) -> None:
    await redis.hset(keys.FLAGS, MAINTENANCE, "1")
    with pytest.raises(BridgeUp):
        await children("shout", 1, Terms())


async def test_the_children_of_a_job_are_listed(jobs: JobStateManager, children: Children) -> None:
    made = [await children("shout", n, Terms()) for n in range(5)]
    for _ in range(20):
        await jobs.create_job(new())
    seen: list[str] = []
    cursor = None
    while True:
        page = await jobs.list_jobs(parent=children.parent.run_id, limit=2, cursor=cursor)
        seen += [child.run_id for child in page.jobs]
        cursor = page.cursor
        if cursor is None:
            break
    assert seen == sorted(made, reverse=True)
    with pytest.raises(InvalidInput, match="parent"):
        await jobs.list_jobs(parent="nonsense")
