"""Jobs over networks in the real graph: read, solved, written back; stopped, replaced, cut off."""

import asyncio
import json
import os
import signal
from collections.abc import AsyncIterator, Callable
from dataclasses import replace
from typing import Any

import pytest
import structlog

from control import graph_migrations
from control.clock import SystemClock
from control.config import GraphSection
from control.errors import StoreUnavailable
from control.ids import new_id
from control.networks.loading import NewArc, NewNode
from control.networks.network import PAGE, Network, NetworkReplaced
from control.networks.reading import NetworkReader
from control.stores.graph import Graph
from tests.conftest import LiveStores
from tests.flows import drawn, solved
from tests.networks import store
from tests.timing import timed
from worker.cpu.frames import GraphAccess
from worker.cpu.process import CpuProcess, Ended
from worker.jobs.kinds import kind_of
from worker.optimize.flow import FlowNetwork
from worker.optimize.kind import optimize
from worker.optimize.network import PatientGraph, read, write_back

pytestmark = pytest.mark.graph

WITHIN_S = 60
ROADS = (
    [NewNode("mine", 10, {"x": 0, "y": 0}), NewNode("town", -10, {"x": 3, "y": 4})],
    [
        NewArc("mine", "rail", 1, 6, 0),
        NewArc("rail", "town", 1, None, 0),
        NewArc("mine", "town", 5, None, 0),
        NewArc("mine", "town", 4, 3, 1),
    ],
)
FLOW = {"mine->rail": 6, "rail->town": 6, "mine->town": 1, "mine->town#2": 3}
OPTIMUM = 6 + 6 + 5 + 12


@pytest.fixture
def graph(stores: LiveStores) -> GraphSection:
    """Not emptied each time: these networks have names of their own."""
    return stores.config.graph


@pytest.fixture
async def opened(graph: GraphSection) -> AsyncIterator[Graph]:
    async with Graph(graph) as connected:
        await graph_migrations.migrate(connected)
        yield connected


@pytest.fixture
async def roads(opened: Graph) -> Network:
    nodes, arcs = ROADS
    return await store(opened, "roads", [*nodes, NewNode("rail", 0, {"x": 1, "y": 1})], arcs)


class Run:
    """One job over a network."""

    def __init__(
        self, graph: GraphSection, network: str, *, write_back: bool = False, **options: Any
    ) -> None:
        self.progress: list[dict[str, Any]] = []
        self.checkpoints: list[bytes] = []
        self.restored: bytes | None = None
        self.run_id = new_id()
        self._on: dict[str, Callable[[], None]] = {}
        problem = {"format": "network", "network": network}
        document = {"problem": problem, "options": options, "write_back": write_back}
        self._payload = json.dumps(document).encode()
        access = GraphAccess(graph.uri, graph.user, graph.password, graph.database)
        self.process = CpuProcess(
            "optimize", [], memory=4 << 30, graph=access, on_progress=self._on_progress,
            on_checkpoint=self.checkpoints.append, on_submit=None,  # type: ignore[arg-type]
            log=structlog.get_logger(),
        )  # fmt: skip

    def _on_progress(self, fields: dict[str, Any]) -> None:
        self.progress.append(fields)
        if act := self._on.pop(fields["phase"], None):
            act()

    def on(self, phase: str, act: Callable[[], None]) -> None:
        """Act as soon as the job tells of a phase."""
        self._on[phase] = act

    async def until(self, **fields: Any) -> None:
        """Wait for a progress with these fields."""
        async with asyncio.timeout(WITHIN_S):
            while not any(fields.items() <= told.items() for told in self.progress):
                await asyncio.sleep(0.01)

    async def end(self) -> Ended:
        async with asyncio.timeout(WITHIN_S):
            return await self.process.run(
                run_id=self.run_id,
                attempt=1,
                correlation_id="c",
                payload=self._payload,
                checkpoint=self.restored,
            )

    async def answer(self) -> dict[str, Any]:
        ended = await self.end()
        assert ended.result is not None, ended
        answer: dict[str, Any] = json.loads(ended.result)
        return answer


async def put(opened: Graph, name: str, network: FlowNetwork) -> Network:
    """Store a network that was made in memory."""
    supplies = zip(network.ids, network.supply.tolist(), strict=True)
    columns = (network.tail, network.head, network.cost, network.capacity, network.lower)
    rows = zip(*(column.tolist() for column in columns), strict=True)
    arcs = [
        NewArc(network.ids[t], network.ids[h], cost, None if cap == float("inf") else cap, low)
        for t, h, cost, cap, low in rows
    ]
    return await store(opened, name, [NewNode(*each) for each in supplies], arcs)


async def written(opened: Graph, name: str) -> tuple[Network, dict[int, float | None]]:
    """What readers see of a network's flow."""
    reader = NetworkReader(opened, SystemClock())
    network = await reader.open(name)
    return network, {a.seq: a.flow async for page in reader.arcs(network) for a in page}


async def test_the_best_flow_in_the_shape_of_every_result(
    graph: GraphSection, roads: Network
) -> None:
    run = Run(graph, "roads")
    answer = await run.answer()
    assert (answer["outcome"], answer["objective"]) == ("optimal", OPTIMUM)
    assert (answer["bound"], answer["gap"]) == (OPTIMUM, 0)
    assert answer["solution"] == FLOW
    assert answer["solver"].startswith("HiGHS 1.")
    assert answer["network"] == {
        "name": "roads", "version": roads.version, "nodes": 3, "edges": 4,
    }  # fmt: skip
    assert answer["nodes"] == {"mine": 10, "town": -10, "rail": 0}
    assert answer["arcs"]["capacity"] == [6, None, None, 3]
    assert answer["places"]["town"] == [0.75, 1.0]
    assert answer["written_back"] is False
    assert run.checkpoints == []
    assert run.progress[-1]["phase"] == "finished"


async def test_a_flow_is_written_back_over_an_older_one(
    graph: GraphSection, opened: Graph, roads: Network
) -> None:
    first = Run(graph, "roads", write_back=True)
    answer = await first.answer()
    assert answer["written_back"] is True
    network, flows = await written(opened, "roads")
    assert flows == {0: 6, 1: 6, 2: 1, 3: 3}
    assert network.flow is not None
    assert (network.flow.run_id, network.flow.objective) == (first.run_id, OPTIMUM)
    # What a killed run has solved is only written by the next one.
    again = Run(graph, "roads", write_back=True)
    (again.restored,) = first.checkpoints
    repeated = await again.answer()
    assert repeated["solution"] == FLOW
    assert repeated["solve_s"] == answer["solve_s"]
    assert "checking" not in {told["phase"] for told in again.progress}
    network, _ = await written(opened, "roads")
    assert network.flow is not None
    assert network.flow.run_id == again.run_id


async def test_why_there_is_no_flow(graph: GraphSection, opened: Graph) -> None:
    nodes = [NewNode("a", 1), NewNode("b", -1), NewNode("c", 0)]
    await store(opened, "torn", nodes, [NewArc("a", "c", 1, None, 0)])
    answer = await Run(graph, "torn", write_back=True).answer()
    assert answer["outcome"] == "infeasible"
    assert answer["why"]["nodes"] == ["b"]
    assert answer["why"]["message"] == "the node b must take in 1, but no arc enters it"
    assert (answer["objective"], answer["solution"]) == (None, {})
    assert answer["written_back"] is False
    around = [NewArc("a", "b", 1, None, 0), NewArc("b", "c", -3, None, 0),
              NewArc("c", "b", 1, None, 0)]  # fmt: skip
    await store(opened, "free", nodes, around)
    answer = await Run(graph, "free").answer()
    assert answer["outcome"] == "unbounded"
    assert answer["why"]["nodes"] == ["b", "c"]


async def test_a_network_that_is_not_there(graph: GraphSection, opened: Graph) -> None:
    ended = await Run(graph, "nowhere").end()
    assert ended.error is not None
    assert (ended.error.class_, ended.retryable) == ("UnknownNetwork", False)
    assert ended.error.message == "no network nowhere is stored"


async def test_what_was_kept_of_a_replaced_version_counts_no_more(
    graph: GraphSection, opened: Graph, roads: Network
) -> None:
    first = Run(graph, "roads", write_back=True)
    await first.answer()
    nodes, arcs = ROADS
    await store(opened, "roads", [*nodes, NewNode("rail", 0)], arcs[2:])
    again = Run(graph, "roads")
    (again.restored,) = first.checkpoints
    answer = await again.answer()
    assert answer["network"]["version"] != roads.version
    assert answer["solution"] == {"mine->town": 7, "mine->town#2": 3}


@timed
async def test_a_frozen_graph_is_waited_for_and_a_cancel_is_heard_meanwhile(
    stores: LiveStores, graph: GraphSection, roads: Network
) -> None:
    run = Run(graph, "roads")
    stores.freeze("graph")
    try:
        task = asyncio.create_task(run.end())
        await run.until(phase="reading")
        run.process.cancel("cancelled")
        async with asyncio.timeout(1.0):
            ended = await task
    finally:
        stores.thaw("graph")
    assert ended.interrupted
    assert ended.result is None


class Outages:
    """Kills the graph once some arcs are done, and brings it back when it is waited for."""

    def __init__(self, stores: LiveStores) -> None:
        self._stores = stores
        self._struck: set[str] = set()
        self._restarting: asyncio.Task[None] | None = None

    def tell(self, phase: str, done: int, _total: int) -> None:
        if done and phase not in self._struck:
            self._struck.add(phase)
            os.kill(self._stores.pid("graph"), signal.SIGKILL)

    def waiting(self) -> None:
        if self._restarting is None or self._restarting.done():
            self._restarting = asyncio.create_task(self._stores.restart("graph"))

    async def over(self, phase: str) -> None:
        """Whether it happened, and all is well again."""
        assert phase in self._struck
        assert self._restarting is not None
        await self._restarting


async def test_a_graph_that_is_killed_while_it_is_read_and_while_it_is_written(
    stores: LiveStores, graph: GraphSection, opened: Graph
) -> None:
    made = drawn(6, PAGE + 10, PAGE + 60)
    await put(opened, "long", made)
    outages, clock = Outages(stores), SystemClock()
    async with PatientGraph(graph, clock, outages.waiting) as patient:
        used, found, _ = await read(patient, "long", clock, outages.tell)
        await outages.over("reading")
        for name in ("tail", "head", "cost", "lower", "capacity", "supply"):
            assert (getattr(found, name) == getattr(made, name)).all()
        best = solved(found)
        run_id = new_id()
        await write_back(
            patient, used, found, best.values, best.objective or 0,
            run_id=run_id, clock=clock, tell=outages.tell,
        )  # fmt: skip
        await outages.over("writing back")
        network, flows = await written(patient, "long")
    assert network.flow is not None
    assert (network.flow.run_id, network.flow.objective) == (run_id, best.objective)
    assert [flows[seq] for seq in range(made.arcs)] == best.values.tolist()


async def test_a_graph_that_stays_away_has_the_job_tried_again_later(
    graph: GraphSection, opened: Graph
) -> None:
    nobody = replace(graph, uri="bolt://127.0.0.1:1")
    waited: list[None] = []
    async with PatientGraph(
        nobody, SystemClock(), lambda: waited.append(None), patience_s=0.2
    ) as patient:
        with pytest.raises(StoreUnavailable):
            await read(patient, "roads", SystemClock(), lambda *_: None)
    assert waited
    assert StoreUnavailable in kind_of(optimize).retry_on


async def test_a_network_replaced_while_it_is_solved_cannot_take_its_flow(
    graph: GraphSection, opened: Graph, roads: Network
) -> None:
    """The job is tried again, on the network that is there then."""
    async with PatientGraph(graph, SystemClock(), lambda: None) as patient:
        used, found, _ = await read(patient, "roads", SystemClock(), lambda *_: None)
        await opened.write(
            "MATCH (v:NetworkVersion {id: $id}) SET v.state = 'superseded'", id=roads.version
        )
        with pytest.raises(NetworkReplaced):
            await write_back(
                patient, used, found, solved(found).values, 0.0,
                run_id="r", clock=SystemClock(), tell=lambda *_: None,
            )  # fmt: skip
    assert NetworkReplaced in kind_of(optimize).retry_on


async def test_a_process_that_is_killed_while_it_runs_is_tried_again(
    graph: GraphSection, roads: Network
) -> None:
    run = Run(graph, "roads", write_back=True)
    run.on("reading", lambda: os.kill(run.process.pid or 0, signal.SIGKILL))
    ended = await run.end()
    assert ended.error is not None
    assert (ended.error.class_, ended.retryable) == ("ProcessDied", True)
