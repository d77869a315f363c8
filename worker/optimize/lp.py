"""A quick look at a model in the LP format: what the solver would misread, or not read at all.

The solver judges everything else. It takes a text without an objective for an empty model, and a
name that begins like a number that is none, ``nancy`` or ``info``, for that number and a name.
"""

import re

from control.errors import InvalidInput
from worker.optimize.text import empty, last_line, line, lines, shown, unmarked

_OBJECTIVE = frozenset({"min", "minimize", "minimum", "max", "maximize", "maximum"})
_INFINITY = frozenset({"inf", "infinity"})
_FIRST = re.compile(r"([^\s:]+)\s*(:?)")
_LAST = re.compile(r"[^\s+\-*/^<>=:\[\]]+\Z")
_LIKE_A_NUMBER = re.compile(r"(?<![^\s+\-*/^<>=:\[\]])(nan|inf)[^\s+\-*/^<>=:\[\]]*", re.IGNORECASE)


def check(content: str) -> None:
    """Raises :class:`InvalidInput`, naming the line, for what cannot be a model in LP format."""
    content, last = unmarked(content), ""
    for number, text in enumerate(lines(content), 1):
        significant = text.partition("\\")[0].strip()
        if not significant:
            continue
        if not last:
            _check_begin(significant, number)
        last = significant
        for found in _LIKE_A_NUMBER.finditer(significant):
            _check_word(found[0], number)
    if not last:
        raise empty()
    end = _LAST.search(last)
    if end is None or end[0].lower() != "end":
        message = "the model ends without End: it seems to be truncated"
        raise InvalidInput(message, line(last_line(content)))


def _check_begin(text: str, number: int) -> None:
    found = _FIRST.match(text)
    if found is None or found[2] or found[1].lower() not in _OBJECTIVE:
        message = f"a model begins with Minimize or Maximize, not with {shown(text)}"
        raise InvalidInput(message, line(number))


def _check_word(word: str, number: int) -> None:
    if word.lower() == "nan":
        raise InvalidInput("nan is no number that a model may hold", line(number))
    if word.lower() not in _INFINITY:
        message = f"the solver would read {shown(word)} as a number: a name may not begin so"
        raise InvalidInput(message, line(number))
