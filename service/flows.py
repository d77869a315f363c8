"""A flow over a network as other programs and people read it: CSV, GraphML, a picture."""

import csv
import io
import re
from collections.abc import Iterator
from xml.sax.saxutils import escape, quoteattr

import msgspec

from control.networks.columns import ends

_UNPRINTABLE = re.compile("[^\t\n\r\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")
_COLUMNS = ("column", "value", "source", "target", "cost", "lower", "capacity")
_KEYS = (
    ("node", "supply"),
    ("edge", "flow"),
    ("edge", "cost"),
    ("edge", "lower"),
    ("edge", "capacity"),
)


class UsedNetwork(msgspec.Struct):
    """The network that was solved, by name, version and size."""

    name: str
    version: str
    nodes: int
    edges: int


class ArcData(msgspec.Struct):
    """Figures of the arcs in the order of ``solution``; no ``capacity`` is no limit."""

    cost: list[float]
    lower: list[float]
    capacity: list[float | None]


class Flow(msgspec.Struct):
    """The result of a job over a network."""

    network: UsedNetwork
    outcome: str
    objective: float | None
    solution: dict[str, float]
    nodes: dict[str, float]
    arcs: ArcData
    places: dict[str, tuple[float, float]] | None = None

    def rows(self) -> Iterator[tuple[str, float, str, str, float, float, float | None]]:
        """Each arc: its name, what flows, from where to where, cost, lower bound, capacity."""
        arcs = self.arcs
        rows = zip(self.solution.items(), arcs.cost, arcs.lower, arcs.capacity, strict=True)
        for (name, flow), cost, lower, capacity in rows:
            yield name, flow, *ends(name), cost, lower, capacity


_FLOW = msgspec.json.Decoder(Flow)


def is_flow(result: bytes) -> bool:
    """Whether a stored result is one of a network; its text is not parsed."""
    return result.startswith(b'{"network":{')


def is_drawable(result: bytes) -> bool:
    """Whether it says where the nodes lie. Within a string the quotes would be escaped."""
    return is_flow(result) and b',"places":{' in result


def parsed(result: bytes) -> Flow:
    """A stored result. Raises :class:`msgspec.ValidationError` where it is no flow."""
    return _FLOW.decode(result)


def csv_table(flow: Flow) -> bytes:
    """Columns and values, and what is known of each arc; a capacity without limit is empty."""
    table = io.StringIO()
    writer = csv.writer(table)
    writer.writerow(_COLUMNS)
    writer.writerows(flow.rows())
    return table.getvalue().encode()


def graphml(flow: Flow) -> bytes:
    """The network with its flow as GraphML (http://graphml.graphdrawing.org), directed; of large
    networks only those arcs that something flows on."""
    text = io.StringIO()
    text.write("<?xml version='1.0' encoding='UTF-8'?>\n")
    text.write('<graphml xmlns="http://graphml.graphdrawing.org/xmlns">\n')
    for element, name in _KEYS:
        text.write(f'  <key id="{name}" for="{element}" attr.name="{name}" attr.type="double"/>\n')
    places = flow.places or {}
    if places:
        for name in "xy":
            text.write(f'  <key id="{name}" for="node" attr.name="{name}" attr.type="double"/>\n')
    text.write(f'  <graph id={_quoted(flow.network.name)} edgedefault="directed">\n')
    for node, supply in flow.nodes.items():
        data = [("supply", supply), *zip("xy", places.get(node, ()), strict=False)]
        text.write(f"    <node id={_quoted(node)}>{_data(data)}</node>\n")
    for name, value, source, target, cost, lower, capacity in flow.rows():
        data = [("flow", value), ("cost", cost), ("lower", lower)]
        data += [("capacity", capacity)] if capacity is not None else []
        text.write(
            f"    <edge id={_quoted(name)} source={_quoted(source)} target={_quoted(target)}>"
            f"{_data(data)}</edge>\n"
        )
    text.write("  </graph>\n</graphml>\n")
    return text.getvalue().encode()


def plain(text: str) -> str:
    """``text`` as XML can hold it at all, escaped."""
    return escape(_UNPRINTABLE.sub("\ufffd", text))


def _quoted(text: str) -> str:
    return quoteattr(_UNPRINTABLE.sub("\ufffd", text))


def _data(values: list[tuple[str, float]]) -> str:
    return "".join(f'<data key="{key}">{value!r}</data>' for key, value in values)
