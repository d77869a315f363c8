"""A quick look at a model in MPS: what the solver would misread, or not read at all.

The solver reads a word that is no number as 0, leaves out what it does not know, and warns at
most; so a spoilt file would be solved as another model. The look is lenient wherever a model
might be meant: both the free format and the fixed one, whose names may hold spaces, are taken.

Format: http://lpsolve.sourceforge.net/5.5/mps-format.htm, and what HiGHS reads.
"""

import re

from control.errors import InvalidInput
from worker.optimize.text import last_line, line, lines, shown

_TRUNCATED = "the model ends without ENDATA: it seems to be truncated"
_NUMBER = re.compile(r"[+-]?(?:\d+\.?\d*|\.\d+)(?:[eEdD][+-]?\d+)?")
_INFINITY = re.compile(r"[+-]?inf(?:inity)?", re.IGNORECASE)
_SECTIONS = frozenset(
    {
        *("NAME", "OBJSENSE", "ROWS", "COLUMNS", "RHS", "RANGES", "BOUNDS", "ENDATA"),
        *("QUADOBJ", "QMATRIX", "QSECTION"),
    }
)
_UNSUPPORTED = frozenset(
    {
        *("SETS", "SOS", "SOS1", "SOS2", "INDICATORS", "QCMATRIX", "CSECTION", "DELAYEDROWS"),
        *("LAZYCONS", "MODELCUTS", "USERCUTS", "GENCONS", "PWLOBJ", "PWLNAM", "PWLCON", "OBJNAME"),
    }
)
_WITH_TEXT = frozenset(["NAME", "OBJSENSE", "QSECTION", "QCMATRIX", "CSECTION"])
_SENSES = ("MAX", "MIN")
_ROW_TYPES = frozenset("NGEL")
_VALUED_BOUNDS = frozenset(["UP", "LO", "FX", "LI", "UI", "SC", "SI"])
_OTHER_BOUNDS = frozenset(["FR", "MI", "PL", "BV"])


def check(content: str) -> None:
    """Raises :class:`InvalidInput`, naming the line, for what cannot be a model in MPS."""
    if not content.isascii():  # names may be anything, but only ASCII blanks separate words
        content = content.encode("ascii", "backslashreplace").decode()
    if not content.strip():
        raise InvalidInput("the model is empty")
    last = line(last_line(content))
    try:
        complete = _Look().through(content)
    except InvalidInput as fault:
        if fault.where != last:
            raise
        message = str(fault).removeprefix(f"{last}: ")
        raise InvalidInput(f"{message}; and {_TRUNCATED}", last) from None
    if not complete:
        raise InvalidInput(_TRUNCATED, last)


class _Look:
    """One pass over a model."""

    def __init__(self) -> None:
        self._number = 0
        self._section = ""
        self._seen: set[str] = set()
        self._rows: set[str] = set()
        self._columns: set[str] = set()
        self._column = ""
        self._integer = False

    def through(self, content: str) -> bool:
        """Look at each line up to ENDATA; false where that does not come."""
        rows, columns = self._rows, False
        for self._number, text in enumerate(lines(content), 1):
            words = text.split()
            if columns and len(words) == 3 and words[0] == self._column and words[1] in rows:
                # The bulk of a model, kept short: another entry of the column at hand.
                try:
                    if abs(float(words[2])) < 1e300 and "_" not in words[2]:
                        continue
                except ValueError:
                    pass
            if not words or text[0] == "*":
                continue
            if self._begins_section(text, words):
                if self._section == "ENDATA":
                    self._finish()
                    return True
                columns = self._section == "COLUMNS"
            else:
                self._look(text, words)
        return False

    def _begins_section(self, text: str, words: list[str]) -> bool:
        word = words[0].upper()
        if len(words) > 1 and word not in _WITH_TEXT:
            return False
        if word in _SECTIONS:
            if word == "RHS" == self._section:
                return False
            self._section = word
            self._seen.add(word)
            if word == "OBJSENSE" and len(words) > 1 and words[1].upper() not in _SENSES:
                # The solver would minimise then, without a word.
                raise self._wrong(f"write OBJSENSE MAX or OBJSENSE MIN, not {shown(words[1])}")
            return True
        if word in _UNSUPPORTED:
            raise self._wrong(f"the solver does not support the section {word}")
        if text[0] not in " \t" and len(words) == 1 and not self._is_sense(word):
            raise self._wrong(f"there is no section {shown(words[0])} in MPS")
        return False

    def _is_sense(self, word: str) -> bool:
        return self._section == "OBJSENSE" and word.startswith(_SENSES)

    def _look(self, text: str, words: list[str]) -> None:
        match self._section:
            case "COLUMNS":
                self._entry(text, words)
            case _ if "'MARKER'" in text:
                raise self._wrong("a marker belongs in COLUMNS")
            case "ROWS":
                self._row(text, words)
            case "RHS" | "RANGES":
                self._side(words)
            case "BOUNDS":
                self._bound(words)
            case "OBJSENSE":
                if not self._is_sense(words[0].upper()):
                    raise self._wrong(f"OBJSENSE is MAX or MIN, not {shown(words[0])}")
            case "" | "NAME":
                raise self._wrong(f"{shown(words[0])} comes before the first section")
            case _:  # the quadratic ones
                self._value(words[-1])

    def _row(self, text: str, words: list[str]) -> None:
        if words[0] not in _ROW_TYPES:
            raise self._wrong(f"a row is of type N, E, L or G, not {shown(words[0])}")
        if len(words) == 1:
            raise self._wrong("the row has no name")
        name = words[1] if len(words) == 2 else text[4:12].strip()
        if name in self._rows:
            raise self._wrong(f"the row {shown(name)} is there already")
        self._rows.add(name)

    def _entry(self, text: str, words: list[str]) -> None:
        if len(words) >= 3 and words[1] == "'MARKER'":
            self._marker(words[2])
            return
        fixed = _fixed(text)
        if len(fixed) > 2 and fixed[1] in self._rows and (" " in fixed[0] or " " in fixed[1]):
            words = fixed
        if "$" in text:
            words = _without_comment(words)
        if len(words) < 3:
            raise self._wrong(f"the column {shown(words[0])} needs a row and a value here")
        self._name_column(words[0])
        for at in range(1, min(len(words), 5), 2):
            row = words[at]
            if row not in self._rows:
                raise self._wrong(f"there is no row {shown(row)} in ROWS")
            if at + 1 == len(words):
                raise self._wrong(f"there is no value for the row {shown(row)}")
            self._value(words[at + 1], finite=True)

    def _name_column(self, name: str) -> None:
        if name == self._column:
            return
        if name in self._columns:
            # The solver would take it for a second column of that name.
            raise self._wrong(f"the column {shown(name)} is there already: its lines must follow")
        self._columns.add(name)
        self._column = name

    def _marker(self, word: str) -> None:
        if word != ("'INTEND'" if self._integer else "'INTORG'"):
            raise self._wrong(f"a marker {shown(word)} is out of place")
        self._integer = not self._integer

    def _side(self, words: list[str]) -> None:
        """A line of RHS or RANGES: the set's name, which may be missing, then rows and values."""
        self._value(words[-1])
        if len(words) == 5 and words[1] in self._rows and words[3] in self._rows:
            self._value(words[2])
        elif len(words) == 4 and words[0] in self._rows and words[2] in self._rows:
            self._value(words[1])

    def _bound(self, words: list[str]) -> None:
        if words[0] in _VALUED_BOUNDS:
            if len(words) < 3:
                raise self._wrong("the bound needs a column and a value")
            self._value(words[-1])
        elif words[0] not in _OTHER_BOUNDS:
            raise self._wrong(f"there is no bound of type {shown(words[0])}")
        elif len(words) < 2:
            raise self._wrong("the bound needs a column")

    def _value(self, word: str, *, finite: bool = False) -> None:
        if _NUMBER.fullmatch(word):
            if finite and abs(float(word.upper().replace("D", "E"))) == float("inf"):
                raise self._wrong(f"{shown(word)} is too large")
        elif not _INFINITY.fullmatch(word):
            raise self._wrong(f"{shown(word)} is not a number")
        elif finite:
            raise self._wrong(f"{shown(word)} must be finite")

    def _finish(self) -> None:
        for section in ("ROWS", "COLUMNS"):
            if section not in self._seen:
                raise self._wrong(f"the model has no section {section}")

    def _wrong(self, message: str) -> InvalidInput:
        return InvalidInput(message, line(self._number))


def _fixed(text: str) -> list[str]:
    """The fields 2 to 6 of a line in fixed format, as far as there are any."""
    fields = [text[4:12], text[14:22], text[24:36], text[39:47], text[49:61]]
    words = [field.strip() for field in fields]
    while words and not words[-1]:
        words.pop()
    return words


def _without_comment(words: list[str]) -> list[str]:
    """``words`` up to one that begins with a dollar sign where a name of a row would be."""
    for at in (1, 3):
        if at < len(words) and words[at].startswith("$"):
            return words[:at]
    return words
