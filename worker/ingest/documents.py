"""NDJSON: a node or an edge a line, in any order.

``{"type": "node", "id": …, "supply": …}`` or ``{"type": "edge", "source": …, "target": …,
"cost": …, "capacity": …, "lower": …}``; other members are attributes. Without ``type`` a line that
has a ``source`` is an edge.
"""

from collections.abc import Iterable, Iterator
from typing import Any

import msgspec

from control.networks.loading import NO_ATTRIBUTES, NewArc, NewNode
from worker.ingest.rows import BadRow, Line, Lines, Unreadable, arc, attribute_name, node
from worker.ingest.tables import EDGES, NODES

_decode = msgspec.json.Decoder(dict[str, Any]).decode
_TYPES = {"node": "node", "edge": "edge", "arc": "edge"}
_OWN_OF_NODE = frozenset((*NODES, "type"))
_OWN_OF_EDGE = frozenset((*EDGES, "type", "flow"))


class Documents:
    """Parses NDJSON."""

    def __init__(self) -> None:
        self._lines = Lines()
        self._stopped = False

    def feed(self, data: bytes) -> Iterable[Line | BadRow]:
        """The rows that ``data`` completes."""
        if self._stopped:
            return []
        found: list[Line | BadRow] = []
        try:
            found.extend(self._parsed(self._lines.feed(data)))
        except Unreadable as error:
            self._stopped = True
            found.append(BadRow(self._lines.next, str(error)))
        return found

    def finish(self) -> Iterable[Line | BadRow]:
        """The last row, if the file does not end with a line's end."""
        return [] if self._stopped else self._parsed(self._lines.finish())

    def _parsed(self, lines: Iterable[tuple[int, bytes]]) -> Iterator[Line | BadRow]:
        for line, text in lines:
            if not text.strip():
                continue
            try:
                yield Line(line, _row(_decode(text.removeprefix(b"\xef\xbb\xbf"))))
            except Unreadable as error:
                yield BadRow(line, str(error))
            except msgspec.ValidationError as error:
                yield BadRow(line, _misfit(error))
            except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
                yield BadRow(line, "is not JSON")


def _misfit(error: msgspec.ValidationError) -> str:
    if str(error).startswith("Number out of range"):
        return "holds a number that is out of range"
    return "is not a JSON object"


def _row(found: dict[str, Any]) -> NewNode | NewArc:
    stated = found.get("type")
    if stated is None:
        stated = "edge" if "source" in found or "target" in found else "node"
    kind = _TYPES.get(stated) if isinstance(stated, str) else None
    if kind == "node":
        return node([found.get(name) for name in NODES], _attributes(found, _OWN_OF_NODE))
    if kind == "edge":
        return arc([found.get(name) for name in EDGES], _attributes(found, _OWN_OF_EDGE))
    raise Unreadable('type is neither "node" nor "edge"')


def _attributes(found: dict[str, Any], own: frozenset[str]) -> Any:
    if found.keys() <= own:
        return NO_ATTRIBUTES
    attributes = {}
    for name, value in found.items():
        if name in own or value is None:
            continue
        if not isinstance(value, str | int | float | bool):
            raise Unreadable(f"the attribute {name} is not text, a number, true or false")
        if isinstance(value, int) and not -(2**63) <= value < 2**63:
            raise Unreadable(f"the attribute {name} is too large a number")
        attributes[attribute_name(name, ("id", "supply", "cost", "capacity", "lower"))] = value
    return attributes
