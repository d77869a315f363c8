"""Ingest jobs whose worker or graph fails in the middle; what the ingestion flag says meanwhile."""

import asyncio
import json
import signal
from collections.abc import AsyncIterator
from contextlib import AbstractAsyncContextManager
from typing import Any

import pytest

from control.flags.document import MAINTENANCE
from tests.conftest import LiveStores
from tests.ingesting import House, house_of
from tests.networks import read
from tests.processes import Replica
from tests.serving import problem
from tests.stack import wait_until

pytestmark = pytest.mark.graph

NODES, EDGES, SOME = 1_000, 5_000, 500
NDJSON = {"Content-Type": "application/x-ndjson"}


def ring() -> tuple[str, list[tuple[str, str, float, float, float]]]:
    """An upload, and the arcs that it has to become."""
    arcs = [(f"n{i % NODES}", f"n{(i * 7 + 1) % NODES}", float(i), float("inf"), 0.0)
            for i in range(EDGES)]  # fmt: skip
    lines = [json.dumps({"source": a, "target": b, "cost": c}) for a, b, c, _, _ in arcs]
    return "\n".join(lines), arcs


TEXT, ARCS = ring()


@pytest.fixture(scope="module")
async def house(stores: LiveStores) -> AsyncIterator[House]:
    async with house_of(stores) as opened:
        yield opened


def slow_worker(house: House, **settings: str) -> AbstractAsyncContextManager[Replica]:
    """A worker that writes in many small steps, so that there is a middle."""
    return house.worker(DRAWBRIDGE_JOBS="tests.models.small_batches", **settings)


async def begun(house: House, name: str, **query: str) -> dict[str, Any]:
    """An ingest that is in the middle of its edges."""
    receipt: dict[str, Any] = await house.ingest(TEXT, NDJSON, name=name, **query)
    await house.progressed(receipt, SOME)
    assert await house.flag() is True
    return receipt


async def whole(house: House, receipt: dict[str, Any], *, attempt: int) -> None:
    """The network is there, each arc once, and the flag is off."""
    result = await house.result(receipt)
    assert (result["nodes"], result["edges"]) == (NODES, EDGES)
    _, _, arcs = await read(house.graph, result["network"])
    assert arcs == ARCS
    assert (await house.get(receipt["links"]["status"]))["attempt"] == attempt
    assert await house.flag() is False


async def test_a_killed_worker_leaves_the_rest_to_another(house: House) -> None:
    async with slow_worker(house) as one:
        receipt = await begun(house, "killed")
        one.send(signal.SIGKILL)
        await one.ended()
        async with house.api.http.get("/networks/killed") as response:
            assert response.status == 404, "half of it is not seen"
        assert await house.flag() is True
        async with slow_worker(house):
            await whole(house, receipt, attempt=2)
    before = (await house.flag_changes())[-2:]
    assert before == [True, False]


@pytest.mark.soak
async def test_a_worker_that_was_held_writes_nothing_twice(house: House) -> None:
    async with slow_worker(house) as one, slow_worker(house) as two:
        receipt = await begun(house, "held")
        held, other = (one, two) if _runs(one, receipt) else (two, one)
        held.send(signal.SIGSTOP)
        await other.logged("job started", run_id=receipt["run_id"])
        held.send(signal.SIGCONT)
        await whole(house, receipt, attempt=2)


def _runs(worker: Replica, receipt: dict[str, Any]) -> bool:
    return any(
        line.get("event") == "job started" and line.get("run_id") == receipt["run_id"]
        for line in worker.lines
    )


async def test_a_graph_that_restarts_is_waited_for(house: House, stores: LiveStores) -> None:
    async with slow_worker(house) as one:
        receipt = await begun(house, "restarted")
        await stores.kill("graph")
        try:
            await one.logged("waiting for a store", run_id=receipt["run_id"])

            async def told() -> bool:  # soon after the line
                progress = (await house.get(receipt["links"]["status"]))["progress"]
                return bool(progress.get("waiting_for") == "neo4j")

            await wait_until(told)
            async with house.api.http.get("/networks") as response:
                assert (await problem(response))["dependency"] == "neo4j"
        finally:
            await stores.restart("graph")
        await whole(house, receipt, attempt=1)


async def test_maintenance_hands_it_back_and_it_goes_on_later(house: House) -> None:
    async with slow_worker(house, DRAWBRIDGE_DRAIN_SOFT_S="0") as one:
        receipt = await begun(house, "drained")
        await house.api.put_flag(MAINTENANCE, True)
        await one.logged("job ended", run_id=receipt["run_id"], status="handed back")
        await house.api.put_flag(MAINTENANCE, False)
        await whole(house, receipt, attempt=1)


async def test_the_flag_goes_off_when_no_attempt_is_left_and_when_it_is_cancelled(
    house: House,
) -> None:
    async with slow_worker(house) as one:
        receipt = await begun(house, "hopeless", max_attempts="1")
        one.send(signal.SIGKILL)
        await one.ended()
    async with slow_worker(house):
        assert (await house.ended(receipt))["error"]["class"] == "WorkerLost"
        await wait_until(lambda: _off(house))
        receipt = await begun(house, "cancelled")
        async with house.api.http.delete(f"/jobs/{receipt['run_id']}") as response:
            assert response.status == 202
        assert (await house.ended(receipt))["status"] == "cancelled"
        await wait_until(lambda: _off(house))


async def _off(house: House) -> bool:
    return await house.flag() is False


async def test_the_flag_is_on_until_the_last_of_several_ends(house: House) -> None:
    before = len(await house.flag_changes())
    async with slow_worker(house):
        receipts = [await house.ingest(TEXT, NDJSON, name=f"several-{i}") for i in range(3)]
        await asyncio.gather(*(house.result(receipt) for receipt in receipts))
        await wait_until(lambda: _off(house))
    assert (await house.flag_changes())[before:] == [True, False]
