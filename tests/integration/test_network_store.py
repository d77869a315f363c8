"""What is stored of a network, and what its readers see while it is written and replaced."""

import math

import pytest

from control import graph_migrations
from control.clock import SystemClock
from control.config import GraphSection
from control.ids import new_id
from control.networks.catalogue import Catalogue
from control.networks.flows import FlowWriter
from control.networks.loading import (
    DuplicateNodes,
    Loader,
    NewArc,
    NewNode,
    Overtaken,
    UnknownNodes,
)
from control.networks.network import PAGE, FlowSuperseded, NetworkReplaced, UnknownNetwork
from control.networks.reading import NetworkReader
from control.networks.removal import Remover
from control.stores.graph import Graph
from tests.networks import read, store

CLOCK = SystemClock()


@pytest.fixture
async def opened(graph: GraphSection):
    async with Graph(graph) as store:
        await graph_migrations.migrate(store)
        yield store


async def test_migrations_of_the_graph_are_applied_once(opened: Graph) -> None:
    assert await graph_migrations.migrate(opened) == ()
    assert await graph_migrations.pending(opened, graph_migrations.shipped()) == ()


async def test_a_network_is_read_as_it_was_written(opened: Graph) -> None:
    count = 2 * PAGE + 1
    nodes = [
        NewNode(f"n{i}", float(i % 3 - 1), {"country": "DE", "lat": 1.5} if i == 7 else {})
        for i in range(count)
    ]
    arcs = [
        NewArc(f"n{i}", f"n{(i * 7 + 1) % count}", i / 2, None if i % 2 else 10.0, 0.0)
        for i in range(count)
    ]
    arcs.append(arcs[0])  # two arcs between the same nodes
    stored = await store(opened, "europe", nodes, arcs)
    assert (stored.nodes, stored.edges) == (count, count + 1)
    assert stored.total_supply == stored.total_demand == count // 3
    network, by_id, seen = await read(opened, "europe")
    assert network == stored
    assert [(n.id, n.supply) for n in by_id.values()] == [(n.id, n.supply) for n in nodes]
    assert by_id["n7"].attributes == {"country": "DE", "lat": 1.5}
    assert seen == [
        (a.source, a.target, a.cost, math.inf if a.capacity is None else a.capacity, a.lower)
        for a in arcs
    ]


async def test_a_hub_is_read_in_pieces(opened: Graph, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("control.networks.reading.ARCS", 10)
    nodes = [NewNode(f"n{i}", 0.0) for i in range(5)]
    arcs = [NewArc("n0", f"n{i % 5}", float(i), None, 0.0) for i in range(30)]
    await store(opened, "hub", nodes, arcs)
    reader = NetworkReader(opened, CLOCK)
    network = await reader.open("hub")
    pieces = [[arc.cost for arc in piece] async for piece in reader.arcs(network)]
    assert list(map(len, pieces)) == [10, 10, 10]
    assert [cost for piece in pieces for cost in piece] == [float(i) for i in range(30)]


async def test_nothing_is_seen_before_it_is_published(opened: Graph) -> None:
    loader = Loader(opened, new_id(), "half", CLOCK)
    await loader.begin(digest="", format_="test")
    await loader.add_nodes(0, [NewNode("a", 1.0), NewNode("b", -1.0)])
    catalogue = Catalogue(opened)
    assert await catalogue.page(limit=10) == []
    with pytest.raises(UnknownNetwork):
        await catalogue.get("half")


async def test_a_batch_that_is_sent_again_is_written_once(opened: Graph) -> None:
    version = new_id()
    loader, other = (Loader(opened, version, "twice", CLOCK) for _ in range(2))
    await loader.begin(digest="", format_="test")
    nodes, arcs = [NewNode("a", 1.0), NewNode("b", -1.0)], [NewArc("a", "b", 1.0, None, 0.0)]
    await loader.add_nodes(0, nodes)
    await other.add_nodes(0, nodes)
    await loader.add_arcs(0, arcs, implied=False)
    await other.add_arcs(0, arcs, implied=False)
    with pytest.raises(Overtaken):
        await other.add_arcs(5, arcs, implied=False)
    written = await other.begin(digest="", format_="test")
    assert (written.nodes, written.edges) == (2, 1)
    assert await loader.publish()
    assert await other.publish()
    network, _, seen = await read(opened, "twice")
    assert (network.total_supply, network.total_demand) == (1.0, 1.0)
    assert len(seen) == 1


async def test_wrong_rows_are_named_and_not_written(opened: Graph) -> None:
    loader = Loader(opened, new_id(), "wrong", CLOCK)
    await loader.begin(digest="", format_="test")
    await loader.add_nodes(0, [NewNode("a", 0.0), NewNode("b", 0.0)])
    with pytest.raises(DuplicateNodes) as twice:
        await loader.add_nodes(2, [NewNode("c", 0.0), NewNode("b", 0.0)])
    assert twice.value.ids == {"b"}
    with pytest.raises(UnknownNodes) as unknown:
        await loader.add_arcs(
            0, [NewArc("a", "b", 1.0, None, 0.0), NewArc("a", "x", 1.0, None, 0.0)], implied=False
        )
    assert unknown.value.ids == {"x"}
    written = await loader.begin(digest="", format_="test")
    assert (written.nodes, written.edges) == (2, 0)
    await loader.add_arcs(0, [NewArc("a", "x", 1.0, None, 0.0, {"mode": "rail"})], implied=True)
    assert await loader.publish()
    network, nodes, _ = await read(opened, "wrong")
    assert list(nodes) == ["a", "b", "x"]
    assert network.nodes == 3


async def test_the_later_upload_wins_whichever_is_written_first(opened: Graph) -> None:
    earlier, later = new_id(), new_id()
    await store(opened, "race", [NewNode("later", 0.0)], [], version=max(earlier, later))
    loader = Loader(opened, min(earlier, later), "race", CLOCK)
    await loader.begin(digest="", format_="test")
    await loader.add_nodes(0, [NewNode("earlier", 0.0)])
    assert not await loader.publish()
    assert list((await read(opened, "race"))[1]) == ["later"]
    assert await Remover(opened, CLOCK).unneeded() == ([min(earlier, later)], 0)


async def test_a_reader_keeps_its_version_until_its_pin_runs_out(
    opened: Graph, monkeypatch: pytest.MonkeyPatch
) -> None:
    nodes = [NewNode(f"n{i}", 0.0) for i in range(PAGE + 1)]
    old = await store(opened, "moving", nodes, [])
    reader, remover = NetworkReader(opened, CLOCK), Remover(opened, CLOCK)
    network = await reader.open("moving")
    pages = reader.nodes(network)
    assert len(await anext(pages)) == PAGE
    new = await store(opened, "moving", nodes[:5], [NewArc("n0", "n1", 1.0, None, 0.0)])
    assert not await remover.remove(old.version)
    assert not await remover.remove(new.version)
    assert await remover.unneeded() == ([], 1)
    assert len(await anext(pages)) == 1
    monkeypatch.setattr("control.networks.reading.PIN_S", -1.0)  # it has run out
    await opened.write("MATCH (v:NetworkVersion) SET v.pinned_until_ms = 0")
    pages = reader.nodes(network)
    await anext(pages)
    assert await remover.unneeded() == ([old.version], 0)
    assert await remover.remove(old.version)
    with pytest.raises(NetworkReplaced):
        await anext(pages)
    [left] = await opened.rows("MATCH (n:NetworkNode) RETURN count(n)")
    assert left == (5,)


async def test_a_flow_is_shown_once_it_is_whole(opened: Graph) -> None:
    nodes = [NewNode("a", 3.0), NewNode("b", -3.0)]
    arcs = [
        NewArc("a", "b", 1.0, 2.0, 0.0),
        NewArc("a", "b", 2.0, 2.0, 0.0),
        NewArc("a", "b", 9.0, 2.0, 0.0),
    ]
    network = await store(opened, "flows", nodes, arcs)
    mine, later = (FlowWriter(opened, network, run, CLOCK) for run in ("run-1", "run-2"))
    await mine.begin()
    await mine.write(0, {0: 2.0, 1: 1.0, 2: 0.0})
    catalogue = Catalogue(opened)
    assert (await catalogue.get("flows")).flow is None
    await mine.finish(4.0)
    flow = (await catalogue.get("flows")).flow
    assert flow is not None
    assert (flow.run_id, flow.objective) == ("run-1", 4.0)
    reader = NetworkReader(opened, CLOCK)
    [piece] = [piece async for piece in reader.arcs(network)]
    assert [arc.flow for arc in piece] == [2.0, 1.0, 0.0]
    await mine.begin()
    await later.begin()
    with pytest.raises(FlowSuperseded):
        await mine.write(0, {0: 2.0})
    with pytest.raises(FlowSuperseded):
        await mine.finish(4.0)
    assert (await catalogue.get("flows")).flow is None
