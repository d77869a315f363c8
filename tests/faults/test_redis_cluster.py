"""A Redis Cluster loses masters by kill -9 while jobs are submitted and flags are changed."""

import time

import pytest

from control import keys
from control.job_keys import shard_of_kind, shards
from tests.conftest import LiveStores
from tests.faults.redis_cluster import MASTERS, Nodes, clustered
from tests.faults.redis_forms import SERVER, Node
from tests.faults.test_sentinel import everything_accepted_ends, fleet_on, under_load
from tests.stack import SO_S, wait_until


@pytest.mark.soak
@pytest.mark.timeout(600)
@pytest.mark.parametrize(("program", "count"), [("of the wheel", 1), ("installed", MASTERS)])
async def test_lost_masters_cost_no_accepted_job_and_no_acknowledged_change(
    stores: LiveStores, database_url: str, program: str, count: int
) -> None:
    installed = program == "installed"
    if installed and SERVER is None:
        pytest.skip("redis-server is not installed")
    naps = shards(count)[shard_of_kind("nap", count)].prefix
    async with (
        clustered(replicas=MASTERS, program=SERVER if installed else None) as nodes,
        fleet_on(nodes, stores, database_url, DRAWBRIDGE_JOB_SHARDS=str(count)) as fleet,
    ):
        async with under_load(fleet):
            await fleet.works_after(time.monotonic())
            for key in (naps, keys.CONTROL, naps):
                moment, took_s = await fail_over(nodes, key)
                job_s, change_s = await fleet.works_after(moment + took_s)
                print(
                    f"new master of {key} after {took_s:.2f} s, first job accepted after "
                    f"{took_s + job_s:.2f} s, first change acknowledged after "
                    f"{took_s + change_s:.2f} s"
                )
                await whole(nodes)
        await everything_accepted_ends(fleet)
        newest = max(place for _, place in fleet.changes if place is not None)
        for instance in fleet.all:
            await instance.until(
                lambda one=instance: max(fleet.positions(one)) >= newest, SO_S, f"{newest}"
            )
            assert fleet.positions(instance) == sorted(fleet.positions(instance))
        assert {said.status for said in fleet.jobs} <= {202, 503}
        print(f"{sum(said.status == 202 for said in fleet.jobs)} jobs accepted")


async def fail_over(nodes: Nodes, key: str) -> tuple[float, float]:
    """kill -9 of the master that has ``key``; when that was, and how long until another had it."""
    old = await nodes.master_of(key)
    moment = time.monotonic()
    await old.end()

    async def another() -> bool:
        return await nodes.master_of(key) is not old

    await wait_until(another, 2 * SO_S)
    took_s = time.monotonic() - moment
    await old.start()  # it comes back as a replica
    return moment, took_s


async def whole(nodes: Nodes) -> None:
    """Wait until every master has a replica that is in step."""
    await nodes.agree(lambda view: all(shard.replicas for shard in view.shards), 2 * SO_S)
    for node in nodes.nodes.values():

        async def linked(node: Node = node) -> bool:
            async with node.client() as client:
                told = await client.info("replication")
            return told["role"] == "master" or told["master_link_status"] == "up"

        await wait_until(linked, 2 * SO_S)
