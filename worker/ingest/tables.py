"""CSV with a header: nodes (id, supply, attributes) or edges (source, target, cost, capacity,
lower, attributes). Comma, semicolon or tab, whichever the header has; quoting as RFC 4180 says."""

import csv
import io
from collections.abc import Callable, Iterable, Iterator

from control.networks.loading import NewArc, NewNode
from worker.ingest.rows import (
    MAX_LINE,
    BadRow,
    Line,
    Unreadable,
    arc,
    attribute_name,
    node,
    told,
)

NODES = ("id", "supply")
EDGES = ("source", "target", "cost", "capacity", "lower")
_NEEDED = {NODES: ("id",), EDGES: ("source", "target", "cost")}
_DELIMITERS = ",;\t"
_FLOW = "flow"
"""Drawbridge's own on an edge: what an exported table had there is not taken over."""


class Table:
    """Parses a table of nodes (``columns`` is :data:`NODES`) or edges (:data:`EDGES`).

    Where the header is wrong there is one bad row, and nothing else is read.
    """

    def __init__(self, columns: tuple[str, ...]) -> None:
        self._columns = columns
        self._rest = b""
        self._line = 1
        self._delimiter = ","
        self._make: Callable[[list[str]], NewNode | NewArc] | None = None
        self._stopped = False

    def feed(self, data: bytes) -> Iterable[Line | BadRow]:
        """The rows that ``data`` completes."""
        if self._stopped:
            return []
        text = self._rest + data
        end = _end_of_rows(text)
        self._rest = text[end:]
        found = self._rows(text[:end]) if end else []
        if len(self._rest) > MAX_LINE:
            self._stopped = True
            found.append(
                BadRow(self._line, f"is longer than {MAX_LINE} bytes; is a quote not closed?")
            )
        return found

    def finish(self) -> Iterable[Line | BadRow]:
        """The last row, if the file does not end with a line's end."""
        if self._stopped:
            return []
        rest, self._rest = self._rest, b""
        found = self._rows(rest) if rest else []
        if self._make is None and not self._stopped:
            found.append(BadRow(1, "the file has no header"))
        return found

    def _rows(self, data: bytes) -> list[Line | BadRow]:
        try:
            text = data.decode("utf-8-sig" if self._line == 1 else "utf-8")
        except UnicodeDecodeError as error:
            self._stopped = True
            return [BadRow(self._line + data.count(b"\n", 0, error.start), "is not UTF-8")]
        return list(self._parsed(text))

    def _parsed(self, text: str) -> Iterator[Line | BadRow]:
        first, at = self._line, 0
        self._line += text.count("\n")
        if self._make is None:
            self._delimiter = max(_DELIMITERS, key=text.partition("\n")[0].count)
        reader = csv.reader(io.StringIO(text, newline=""), delimiter=self._delimiter, strict=True)
        while True:
            line = first + at
            try:
                cells = next(reader)
            except StopIteration:
                return
            except csv.Error as error:
                yield BadRow(line, f"is not CSV: {error}")
                self._stopped = True
                return
            at = reader.line_num
            if not cells or cells == [""]:
                continue
            try:
                if self._make is None:
                    self._make = self._reader(cells)
                    continue
                yield Line(line, self._make(cells))
            except Unreadable as error:
                yield BadRow(line, str(error))
                if self._make is None:
                    self._stopped = True
                    return

    def _reader(self, header: list[str]) -> Callable[[list[str]], NewNode | NewArc]:
        """What makes a row of cells. Raises :class:`Unreadable` for a header that will not do."""
        names = [name.strip() for name in header]
        names = [name.lower() if name.lower() in self._columns else name for name in names]
        twice = next((name for name in names if names.count(name) > 1), None)
        if twice is not None:
            raise Unreadable(f"the header has the column {twice} twice")
        for needed in _NEEDED[self._columns]:
            if needed not in names:
                raise Unreadable(f"the header lacks the column {needed}")
        places = [names.index(name) if name in names else None for name in self._columns]
        others = [
            (place, attribute_name(name, ()))
            for place, name in enumerate(names)
            if name not in (*self._columns, _FLOW)
        ]

        def attributes(cells: list[str]) -> dict[str, str | int | float]:
            return {name: told(cells[place]) for place, name in others if cells[place] != ""}

        def values(cells: list[str]) -> list[str | None]:
            return [None if place is None else cells[place] for place in places]

        make, width = (node if self._columns is NODES else arc), len(names)

        def row(cells: list[str]) -> NewNode | NewArc:
            if len(cells) != width:
                raise Unreadable(f"has {len(cells)} fields, the header has {width}")
            return make(
                [None if place is None else cells[place] for place in places],
                {name: told(cells[at]) for at, name in others if cells[at] != ""},
            )

        return row


def _end_of_rows(text: bytes) -> int:
    """Where the last whole row of ``text`` ends; a line's end within quotes ends none."""
    end = text.rfind(b"\n") + 1
    quoted = text.count(b'"', 0, end) % 2
    while end and quoted:
        before = text.rfind(b"\n", 0, end - 1) + 1
        quoted ^= text.count(b'"', before, end) % 2
        end = before
    return end
