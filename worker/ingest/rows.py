"""What parsers make of a file: nodes, arcs, and lines that are neither."""

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple, Protocol

from control.errors import DrawbridgeError
from control.networks.loading import NO_ATTRIBUTES, NewArc, NewNode

MAX_LINE = 1 << 20
"""Bytes of one line; more is no table."""

MAX_ID = 512
RESERVED = "network_"
"""What names of properties that are not the user's begin with."""

_NUMBER = re.compile(r"[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?")
_PLAIN = re.compile(r"-?(0|[1-9]\d{0,15})(\.\d+)?")
_LARGEST = 1e300
_UNLIMITED = ("", "inf", "+inf", "infinity", "+infinity")


class BadRow(NamedTuple):
    """A line that cannot be used, and why."""

    line: int
    reason: str


class Line(NamedTuple):
    """A node or an arc, and the line of the file that it came from."""

    line: int
    row: NewNode | NewArc


class Unreadable(DrawbridgeError):
    """A value cannot be used; the message completes a sentence that begins with the row."""


class Parser(Protocol):
    """Reads one file, given piece by piece."""

    def feed(self, data: bytes) -> Iterable[Line | BadRow]:
        """What the rows that ``data`` completes are."""
        ...

    def finish(self) -> Iterable[Line | BadRow]:
        """The rest, once all was given."""
        ...


class Lines:
    """Splits bytes into numbered lines."""

    def __init__(self) -> None:
        self._rest = b""
        self._count = 0

    def feed(self, data: bytes) -> Iterator[tuple[int, bytes]]:
        """The lines that ``data`` completes, without their ends. Raises :class:`Unreadable`."""
        *whole, self._rest = (self._rest + data).split(b"\n")
        for line in whole:
            self._count += 1
            yield self._count, line
        if len(self._rest) > MAX_LINE:
            raise Unreadable(f"is longer than {MAX_LINE} bytes")

    def finish(self) -> Iterator[tuple[int, bytes]]:
        """The last line, if the file does not end with a line's end."""
        if self._rest:
            self._count += 1
            yield self._count, self._rest
        self._rest = b""

    @property
    def next(self) -> int:
        """The number of the line that is not complete yet."""
        return self._count + 1


def number(name: str, value: object) -> float:
    """A finite number. Raises :class:`Unreadable`."""
    match value:
        case None | "":
            raise Unreadable(f"{name} is missing")
        case bool():
            pass
        case int() | float():
            if abs(value) < _LARGEST:
                return float(value)
        case str() if _NUMBER.fullmatch(text := value.strip()):
            if abs(found := float(text)) < _LARGEST:
                return found
    raise Unreadable(f"{name} is not a number: {_shown(value)}")


def identifier(name: str, value: object) -> str:
    """A node's id, as text. Raises :class:`Unreadable`."""
    if isinstance(value, int) and not isinstance(value, bool):
        value = str(value)
    if not isinstance(value, str) or not (text := value.strip()):
        raise Unreadable(f"{name} is missing" if value in (None, "") else f"{name} is not text")
    if len(text) > MAX_ID or not text.isprintable():
        raise Unreadable(f"{name} is not 1 to {MAX_ID} printable characters")
    return text


def capacity_of(value: object) -> float | None:
    """A capacity; ``None`` without a limit. Raises :class:`Unreadable`."""
    if value is None or (isinstance(value, str) and value.strip().lower() in _UNLIMITED):
        return None
    found = number("capacity", value)
    if found < 0:
        raise Unreadable(f"capacity is below 0: {_shown(value)}")
    return found


def arc(values: Sequence[object], attributes: Mapping[str, Any] = NO_ATTRIBUTES) -> NewArc:
    """An arc from source, target, cost, capacity and lower. Raises :class:`Unreadable`."""
    source, target, cost, capacity, lower = values
    limit = capacity_of(capacity)
    least = 0.0 if lower in (None, "") else number("lower", lower)
    if least < 0:
        raise Unreadable(f"lower is below 0: {_shown(lower)}")
    if limit is not None and least > limit:
        raise Unreadable(f"lower is above capacity: {least:g} > {limit:g}")
    return NewArc(
        identifier("source", source),
        identifier("target", target),
        number("cost", cost),
        limit,
        least,
        attributes,
    )


def node(values: Sequence[object], attributes: Mapping[str, Any] = NO_ATTRIBUTES) -> NewNode:
    """A node from its id and supply. Raises :class:`Unreadable`."""
    key, supply = values
    given = 0.0 if supply in (None, "") else number("supply", supply)
    return NewNode(identifier("id", key), given, attributes)


def attribute_name(name: str, own: Iterable[str]) -> str:
    """The name of an attribute. Raises :class:`Unreadable` for one that would hide another."""
    if not name or len(name) > 128 or not name.isprintable() or "`" in name:
        raise Unreadable(f"the name of an attribute cannot be used: {_shown(name)}")
    if name.startswith(RESERVED) or name in own:
        raise Unreadable(f"the name of an attribute is reserved: {name}")
    return name


def told(text: str) -> str | int | float:
    """A cell of a table as what it looks like; 007 and 1e5 stay text."""
    if _PLAIN.fullmatch(text):
        return float(text) if "." in text else int(text)
    return text


def _shown(value: object) -> str:
    text = repr(value)
    return text if len(text) <= 60 else text[:57] + "..."
