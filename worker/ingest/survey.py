"""The rows of uploaded files; what is wrong with them is found before anything is written."""

import asyncio
import itertools
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable

from control.errors import DrawbridgeError
from control.networks.loading import NewNode
from control.networks.uploads import unpacked
from worker.ingest.dimacs import Dimacs
from worker.ingest.documents import Documents
from worker.ingest.payload import Role
from worker.ingest.rows import BadRow, Line, Parser
from worker.ingest.tables import EDGES, NODES, Table

MOST_TOLD = 100
"""How many bad rows are told of."""

_TOLD_IN_A_LINE = 3
_AT_ONCE = 5_000
"""Rows that a parser is asked for in one go, off the loop."""

_PARSERS: dict[Role, Callable[[], Parser]] = {
    "nodes": lambda: Table(NODES),
    "edges": lambda: Table(EDGES),
    "ndjson": Documents,
    "dimacs": Dimacs,
}


class BadRows(DrawbridgeError):
    """Rows that cannot be used; nothing was stored. ``told`` are the first of them."""

    def __init__(self, told: list[dict[str, object]], count: int) -> None:
        first = "; ".join(
            f"{row['file']} line {row['line']}: {row['reason']}" for row in told[:_TOLD_IN_A_LINE]
        )
        rows = "1 row cannot be used" if count == 1 else f"{count} rows cannot be used"
        super().__init__(f"{rows}: {first}{'; …' if count > _TOLD_IN_A_LINE else ''}")
        self.told = told
        self.count = count


class Complaints:
    """Bad rows, the first :data:`MOST_TOLD` of them kept."""

    def __init__(self) -> None:
        self.told: list[dict[str, object]] = []
        self.count = 0

    def add(self, file: str, line: int, reason: str) -> None:
        """One more."""
        self.count += 1
        if len(self.told) < MOST_TOLD:
            self.told.append({"file": file, "line": line, "reason": reason})

    def require_none(self) -> None:
        """Raise :class:`BadRows` if there is any."""
        if self.count:
            raise BadRows(self.told, self.count)


async def rows(
    fetch: Callable[[int], Awaitable[bytes | None]], role: Role
) -> AsyncIterator[list[Line | BadRow]]:
    """The rows of one file, some thousand at a time; ``fetch`` gives its pieces by number.

    Parsing happens in a thread.
    """
    parser = _PARSERS[role]()
    number = 0
    while (packed := await fetch(number)) is not None:
        yield await asyncio.to_thread(_parsed, parser, packed)
        number += 1
    rest = iter(parser.finish())
    while batch := await asyncio.to_thread(_next, rest):
        yield batch


def _parsed(parser: Parser, packed: bytes) -> list[Line | BadRow]:
    return list(parser.feed(unpacked(packed)))


def _next(rest: Iterable[Line | BadRow]) -> list[Line | BadRow]:
    return list(itertools.islice(rest, _AT_ONCE))


class Survey:
    """Counts what there is, and collects complaints."""

    def __init__(self) -> None:
        self.nodes = 0
        self.edges = 0
        self.complaints = Complaints()

    @property
    def rows(self) -> int:
        """How many rows were looked at."""
        return self.nodes + self.edges + self.complaints.count

    def add(self, file: str, found: list[Line | BadRow]) -> None:
        """Take note of some rows of a file."""
        for each in found:
            if isinstance(each, BadRow):
                self.complaints.add(file, each.line, each.reason)
            elif isinstance(each.row, NewNode):
                self.nodes += 1
            else:
                self.edges += 1
