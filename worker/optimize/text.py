"""Reading a model's text line by line, whatever its format."""

import re
from collections.abc import Iterator

from control.errors import InvalidInput

_CHUNK = 1 << 16
_MARK = "\ufeff"
_CONTROL = re.compile(r"[\x00-\x08\x0b\x0c\x0e-\x1f\x7f\ud800-\udfff]")


def unmarked(content: str) -> str:
    """``content`` without the mark that some editors write first to say that it is UTF-8."""
    return content.removeprefix(_MARK)


def empty() -> InvalidInput:
    """What is wrong with a model that says nothing."""
    return InvalidInput("the model is empty", "problem.content")


def lines(content: str) -> Iterator[str]:
    """The lines of ``content``, the ends of line cut off (a carriage return is kept).

    In pieces, so that a long text is never held twice, nor the interpreter for long. Raises
    :class:`InvalidInput` at a character that no model holds.
    """
    start, number, length = 0, 0, len(content)
    while start < length:
        end = content.find("\n", start + _CHUNK)
        chunk = content[start : end if end >= 0 else length]
        found = _CONTROL.search(chunk)
        if found is not None:
            before = chunk[: found.start()].split("\n")
            yield from before[:-1]  # a model may end before it
            at = line(number + len(before))
            raise InvalidInput(f"there is a control character, {found[0]!a}", at)
        pieces = chunk.split("\n")
        yield from pieces
        number += len(pieces)
        start += len(chunk) + 1


def last_line(content: str) -> int:
    """The number of the last line that is not blank."""
    return content.rstrip().count("\n") + 1


def line(number: int) -> str:
    """How errors name a line."""
    return f"line {number}"


def shown(word: str) -> str:
    """``word`` as messages show it: quoted, printable and short. It may hold UTF-8 as bytes that
    were escaped by ``surrogateescape``."""
    word = word.encode("utf-8", "surrogateescape").decode("utf-8", "replace")
    return repr(word if len(word) <= 40 else word[:37] + "...")
