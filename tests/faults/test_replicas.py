"""Acceptance that waits for replicas: two real servers, one of which stands still or is away."""

from collections.abc import AsyncIterator
from contextlib import aclosing
from dataclasses import replace
from typing import Any, NamedTuple

import pytest

from control import keys
from control.errors import BridgeUp, StoreUnavailable
from control.flags.document import MAINTENANCE
from control.migrations import migrate
from control.stores.wire import Wire
from tests.conftest import LiveStores, open_gate
from tests.faults.servers import OwnRedis, own_redis
from tests.job_steps import LEASE_S, claim_one, new
from tests.planes import on, planes
from tests.stack import wait_until
from worker.jobs.job import NewJob
from worker.jobs.manager import JobStateManager

LARGE = b'"' + b"x" * (1 << 20) + b'"'


class Pair(NamedTuple):
    primary: OwnRedis
    replica: OwnRedis

    def jobs(self) -> JobStateManager:
        """On a new connection, over which Redis has seen no write yet."""
        return JobStateManager(
            self.primary.client, result_ttl_s=600, lease_s=LEASE_S, replicas=1,
            replicas_within_s=0.3,
        )  # fmt: skip

    async def replicated(self, run_id: str) -> bool:
        """Whether the replica has the job now."""
        return bool(await self.replica.client.exists(keys.job(run_id)))


@pytest.fixture(scope="module")
async def servers(tmp_path_factory) -> AsyncIterator[tuple[OwnRedis, OwnRedis]]:
    async with (
        own_redis(tmp_path_factory.mktemp("redis")) as primary,
        own_redis(tmp_path_factory.mktemp("replica")) as replica,
    ):
        await replica.client.replicaof("127.0.0.1", await primary.listen())
        yield primary, replica


@pytest.fixture
async def pair(servers: tuple[OwnRedis, OwnRedis]) -> AsyncIterator[Pair]:
    primary, replica = servers
    await open_gate(primary.client)

    async def follows() -> bool:
        said: Any = await primary.client.execute_command("WAIT", 1, 100)
        return bool(said)

    await primary.client.set("x", 1)
    await wait_until(follows)
    try:
        yield Pair(primary, replica)
    finally:
        replica.thaw()
        await primary.client.flushall()


@pytest.mark.parametrize("payload", [b"1", LARGE], ids=["small", "large"])
async def test_what_is_accepted_is_on_the_replica(pair: Pair, payload: bytes) -> None:
    job = NewJob(run_id=new().run_id, spec=new().spec, payload=payload)
    accepted = await pair.jobs().create_job(job)
    assert await pair.replicated(accepted.run_id)


async def test_a_replica_that_stands_still_refuses_and_the_job_may_run_all_the_same(
    pair: Pair,
) -> None:
    job = new(key="k", digest="d", unique="u")
    pair.replica.freeze()
    for repeated in (job, new(key="k", digest="d"), new(unique="u")):
        with pytest.raises(StoreUnavailable, match="0 of 1 replicas") as refused:
            await pair.jobs().create_job(repeated)
        assert refused.value.dependency == "redis"
    assert (await claim_one(pair.jobs())).run_id == job.run_id, "nothing else waits for replicas"
    pair.replica.thaw()
    again = await pair.jobs().create_job(new(key="k", digest="d"))
    assert (again.run_id, again.created) == (job.run_id, False)
    assert await pair.replicated(job.run_id)


async def test_the_gate_is_what_it_is(pair: Pair) -> None:
    await pair.primary.client.hset(keys.FLAGS, MAINTENANCE, "1")
    with pytest.raises(BridgeUp):
        await pair.jobs().create_job(new())


async def test_a_connection_to_a_replica_is_made_anew(pair: Pair) -> None:
    """Behind Sentinel the next one is to the master."""
    async with aclosing(Wire(pair.replica.client)) as wire:
        first = await wire("CLIENT", "ID")
        with pytest.raises(StoreUnavailable, match="read-only replica"):
            await wire("SET", "x", 1)
        assert await wire("CLIENT", "ID") != first


async def test_a_master_that_no_replica_follows_keeps_nobodys_door_open(
    pair: Pair, stores: LiveStores, database_url: str
) -> None:
    await migrate(database_url)
    config = on(stores.config, database_url=database_url, redis_url=pair.primary.url)
    jobs = replace(config.jobs, wait_replicas=1, wait_timeout_s=0.2)
    async with planes(replace(config, jobs=jobs)) as fleet:
        plane = await fleet.open()
        assert plane.replica.source == "redis"
        pair.replica.freeze()
        await wait_until(lambda: plane.replica.source == "database")
        pair.replica.thaw()
        await wait_until(lambda: plane.replica.source == "redis")
