"""Minimum-cost flow in the format of the first DIMACS challenge (``p min NODES ARCS``).

``n ID FLOW`` gives a node's supply, ``a TAIL HEAD LOWER CAPACITY COST`` is an arc, ``c`` a comment.
Nodes are numbered from 1. The format is described in "The first DIMACS international algorithm
implementation challenge: problem definitions and specifications" (1990).
"""

from collections.abc import Callable, Iterable, Iterator

from control.networks.loading import NewNode
from worker.ingest.rows import BadRow, Line, Lines, Unreadable, arc, number

MOST_NODES = 100_000_000
_UNLIMITED_FROM = 1e18


class Dimacs:
    """Parses a file. Its nodes are those that have an ``n`` line, and after the end the others."""

    def __init__(self) -> None:
        self._lines = Lines()
        self._seen: bytearray | None = None
        self._arcs = self._announced = 0
        self._stopped = False
        self._read: dict[bytes, Callable[[list[str]], Line | None]] = {}
        self._line = 0

    def feed(self, data: bytes) -> Iterable[Line | BadRow]:
        """The rows that ``data`` completes."""
        found: list[Line | BadRow] = []
        try:
            found.extend(self._parsed(self._lines.feed(data)))
        except Unreadable as error:
            self._stopped = True
            found.append(BadRow(self._lines.next, str(error)))
        return found

    def finish(self) -> Iterator[Line | BadRow]:
        """The nodes that had no line of their own; what the file lacks."""
        yield from self._parsed(self._lines.finish())
        if self._stopped:
            return
        if self._seen is None:
            yield BadRow(self._lines.next, "the file ends without a line p min NODES ARCS")
            return
        if self._arcs != self._announced:
            yield BadRow(
                self._lines.next,
                f"the file has {self._arcs} arcs, its line p announces {self._announced}",
            )
        for at, seen in enumerate(self._seen):
            if not seen:
                yield Line(0, NewNode(str(at + 1), 0.0))

    def _parsed(self, lines: Iterable[tuple[int, bytes]]) -> Iterator[Line | BadRow]:
        for self._line, text in lines:
            if self._stopped:
                return
            try:
                row = self._row(text.decode("ascii", "replace").split())
            except Unreadable as error:
                yield BadRow(self._line, str(error))
                self._stopped = self._stopped or self._seen is None
                continue
            if row is not None:
                yield row

    def _row(self, words: list[str]) -> Line | None:
        match words:
            case [] | ["c", *_]:
                return None
            case ["p", "min", nodes, arcs] if self._seen is None:
                count = _whole("the number of nodes", nodes)
                if count > MOST_NODES:
                    raise Unreadable(f"announces more than {MOST_NODES} nodes")
                self._announced = _whole("the number of arcs", arcs)
                self._seen = bytearray(count)
            case ["p", *_] if self._seen is None:
                raise Unreadable("is not p min NODES ARCS: only minimum-cost flow is understood")
            case _ if self._seen is None:
                raise Unreadable("comes before the line p min NODES ARCS")
            case ["n", key, flow]:
                at = self._node(key)
                if self._seen[at]:
                    raise Unreadable(f"node {key} has a second line")
                self._seen[at] = 1
                return Line(self._line, NewNode(str(at + 1), number("the flow", flow)))
            case ["a", tail, head, lower, capacity, cost]:
                self._arcs += 1
                source, target = (str(self._node(each) + 1) for each in (tail, head))
                limit = number("capacity", capacity)
                unlimited = limit < 0 or limit >= _UNLIMITED_FROM
                values = [source, target, cost, None if unlimited else limit, lower]
                return Line(self._line, arc(values))
            case _:
                raise Unreadable(f"is not understood: {' '.join(words)[:60]!r}")
        return None

    def _node(self, word: str) -> int:
        """The place of a node, from 0."""
        number_ = _whole("a node", word)
        if self._seen is None or not 1 <= number_ <= len(self._seen):
            raise Unreadable(f"there is no node {word}: they are 1 to {len(self._seen or b'')}")
        return number_ - 1


def _whole(name: str, word: str) -> int:
    if not word.isdecimal() or len(word) > 12:
        raise Unreadable(f"{name} is not a whole number: {word[:60]!r}")
    return int(word)
