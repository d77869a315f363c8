"""Networks that tests store in the graph."""

import itertools
from collections.abc import Iterable

from control import graph_migrations
from control.clock import SystemClock
from control.ids import new_id
from control.networks.catalogue import Catalogue
from control.networks.loading import Loader, NewArc, NewNode
from control.networks.network import Network
from control.networks.reading import NetworkReader
from control.stores.graph import Graph

BATCH = 2_000


async def store(
    graph: Graph,
    name: str,
    nodes: Iterable[NewNode],
    arcs: Iterable[NewArc],
    *,
    version: str | None = None,
) -> Network:
    """Store a network as an upload does; it is what readers see then."""
    loader = Loader(graph, version or new_id(), name, SystemClock())
    await loader.begin(digest="", format_="test")
    for first, batch in _batches(nodes):
        await loader.add_nodes(first, batch)
    for first, batch in _batches(arcs):
        await loader.add_arcs(first, batch, implied=False)
    assert await loader.publish()
    return await Catalogue(graph).get(name)


def _batches(rows):
    waiting, first = iter(rows), 0
    while batch := list(itertools.islice(waiting, BATCH)):
        yield first, batch
        first += len(batch)


async def read(graph: Graph, name: str) -> tuple[Network, dict, list]:
    """A network as readers see it: nodes by id; source, target, cost, capacity, lower of arcs."""
    reader = NetworkReader(graph, SystemClock())
    network = await reader.open(name)
    nodes = [node async for page in reader.nodes(network, attributes=True) for node in page]
    arcs = [arc async for page in reader.arcs(network) for arc in page]
    ids = {node.seq: node.id for node in nodes}
    return (
        network,
        {node.id: node for node in nodes},
        [
            (ids[arc.tail], ids[arc.head], arc.cost, arc.capacity, arc.lower)
            for arc in sorted(arcs, key=lambda arc: arc.seq)
        ],
    )


async def emptied(graph: Graph) -> None:
    """Empty the graph, piece by piece, and bring its schema up to date."""
    while (await graph.write("MATCH (n) WITH n LIMIT 5000 DETACH DELETE n RETURN count(*) AS n"))[
        0
    ]["n"]:
        pass
    await graph_migrations.migrate(graph)
