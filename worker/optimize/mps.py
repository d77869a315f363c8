"""A quick look at a model in MPS: what the solver would misread, or not read at all.

The solver reads a word that is no number as 0, leaves out rows that it does not know, makes columns
of names in BOUNDS, and warns at most; so a spoilt file would be solved as another model. The look
is lenient wherever a model might be meant, and finds names where the solver does: it takes words
apart at blanks, and goes by columns of characters only where a name holds spaces.

Format: http://lpsolve.sourceforge.net/5.5/mps-format.htm, and what HiGHS reads.
"""

import re
from collections.abc import Collection, Iterator

from control.errors import InvalidInput
from worker.optimize.text import empty, last_line, line, lines, shown, unmarked

_COLUMNS = "where names hold spaces, all must keep to the columns of fixed MPS"
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
_LONGEST = 8
"""Characters of a name that holds spaces."""

_VALUED_BOUNDS = frozenset(["UP", "LO", "FX", "LI", "UI", "SC", "SI"])
_OTHER_BOUNDS = frozenset(["FR", "MI", "PL", "BV"])
_BOUNDS_AMONG_SPACES = frozenset(["UP", "LO", "FX", "FR", "MI", "PL"])
"""Those that the solver tells apart where names hold spaces."""


class _NamesWithSpaces(Exception):
    """Words do not tell what is a name: the solver begins anew then, in fixed format."""


def check(content: str) -> None:
    """Raises :class:`InvalidInput`, naming the line, for what cannot be a model in MPS."""
    content = unmarked(content)
    if not content.strip():
        raise empty()
    last = line(last_line(content))
    try:
        complete = _through(content)
    except InvalidInput as fault:
        if fault.where != last:
            raise
        message = str(fault).removeprefix(f"{last}: ")
        raise InvalidInput(f"{message}; and {_TRUNCATED}", last) from None
    if not complete:
        raise InvalidInput(_TRUNCATED, last)


def _through(content: str) -> bool:
    try:
        return _Look(fixed=False).through(content)
    except _NamesWithSpaces:
        return _Look(fixed=True).through(content)


class _Look:
    """One pass over a model."""

    def __init__(self, *, fixed: bool) -> None:
        self._fixed = fixed
        self._number = 0
        self._section = ""
        self._seen: set[str] = set()
        self._name = ""
        self._rows: set[str] = set()
        self._objective = ""
        self._dropped: set[str] = set()
        """Rows of type N beyond the first, which the solver leaves out."""
        self._columns: set[str] = set()
        self._column = ""
        self._given: set[str] = set()
        """The rows that the column at hand has a value in."""
        self._sides: set[tuple[str, str]] = set()
        """Sets and rows that the section at hand, RHS or RANGES, has a value for."""
        self._integer = False

    def through(self, content: str) -> bool:
        """Look at each line up to ENDATA; false where that does not come."""
        rows, given, quick = self._rows, self._given, False
        for self._number, each in enumerate(lines(content), 1):
            text = each if each.isascii() else _bytes(each)
            words = text.split()
            if quick and len(words) == 3 and words[0] == self._column and words[1] in rows:
                # The bulk of a model, kept short: another entry of the column at hand.
                try:
                    value = abs(float(words[2]))
                    if value < 1e300 and "_" not in words[2] and words[1] not in given:
                        given.add(words[1])
                        continue
                except ValueError:
                    pass
            if not words or text[0] == "*":
                continue
            if self._begins_section(text, words):
                if self._section == "ENDATA":
                    self._finish()
                    return True
                quick = self._section == "COLUMNS" and not self._fixed
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
            self._begin(word, words[1] if len(words) > 1 else "")
            return True
        if word in _UNSUPPORTED:
            raise self._wrong(f"the solver does not support the section {word}")
        if text[0] not in " \t" and len(words) == 1 and not self._is_sense(word):
            raise self._wrong(f"there is no section {shown(words[0])} in MPS")
        return False

    def _begin(self, section: str, stated: str) -> None:
        if section == "NAME":
            self._name = stated
        elif section == "OBJSENSE" and stated and stated.upper() not in _SENSES:
            # The solver would minimise then, without a word.
            raise self._wrong(f"write OBJSENSE MAX or OBJSENSE MIN, not {shown(stated)}")
        elif section == "QSECTION" and stated not in self._rows and not self._fixed:
            raise self._wrong(f"there is no row {shown(stated)}")
        elif section == "RHS" and "RANGES" in self._seen:
            # It would measure the ranges from 0.
            raise self._wrong("RHS comes before RANGES")
        elif section in ("RANGES", "BOUNDS") and self._fixed and "RHS" not in self._seen:
            # It would take the first section after COLUMNS for the right-hand sides.
            raise self._wrong(f"where names hold spaces, a section RHS comes before {section}")
        self._section = section
        self._seen.add(section)
        self._sides.clear()

    def _is_sense(self, word: str) -> bool:
        return self._section == "OBJSENSE" and word.startswith(_SENSES)

    def _look(self, text: str, words: list[str]) -> None:
        section = self._section
        if section == "OBJSENSE":
            if not self._is_sense(words[0].upper()):
                raise self._wrong(f"OBJSENSE is MAX or MIN, not {shown(words[0])}")
            return
        if section in ("", "NAME"):
            raise self._wrong(f"{shown(words[0])} comes before the first section")
        if "'MARKER'" in text and section != "COLUMNS":
            raise self._wrong("a marker belongs in COLUMNS")
        if self._fixed:
            words = self._fields(text)
        match section:
            case "ROWS":
                self._row(text, words)
            case "COLUMNS":
                self._entry(text, words)
            case "RHS" | "RANGES":
                self._side(words)
            case "BOUNDS":
                self._bound(words)
            case _:
                self._product(words)

    def _fields(self, text: str) -> list[str]:
        """The fields of a line in fixed format, as far as there are any and the section has them;
        a value may be longer than its field."""
        text = text.rstrip()
        if (text[:1] + text[3:4] + text[12:14] + text[22:24] + text[47:49]).strip():
            raise self._wrong(_COLUMNS)
        parts = text[1:3], text[4:12], text[14:22], text[24:39], text[39:47], text[49:]
        words = [part.strip() for part in parts]
        while not words[-1]:
            words.pop()
        if self._section in ("ROWS", "BOUNDS"):
            return words
        if words[0] or (self._section == "COLUMNS" and not words[1]):
            raise self._wrong(_COLUMNS)
        return words[1:]

    def _row(self, text: str, words: list[str]) -> None:
        if words[0] not in _ROW_TYPES:
            raise self._wrong(f"a row is of type N, E, L or G, not {shown(words[0])}")
        if len(words) == 1:
            raise self._wrong("the row has no name")
        if len(words) > 2:
            if not self._fixed and len(text.strip()[1:].strip()) <= _LONGEST:
                raise _NamesWithSpaces
            raise self._wrong(f"{shown(words[2])} is too much: a row has a type and a name")
        name = words[1]
        if name in self._rows:
            raise self._wrong(f"the row {shown(name)} is there already")
        self._rows.add(name)
        if words[0] == "N" and self._objective:
            self._dropped.add(name)
        elif words[0] == "N":
            self._objective = name

    def _entry(self, text: str, words: list[str]) -> None:
        if len(words) >= 3 and words[1] == "'MARKER'":
            self._marker(words[-1])
            return
        known = len(words) < 3 or words[1] in self._rows
        if not (self._fixed or known) and _is_spaced(text, self._rows):
            raise _NamesWithSpaces
        self._name_column(words[0])
        for row, _ in self._pairs(words, self._rows, "row", finite=True):
            if row in self._given:
                raise self._wrong(f"the column {shown(words[0])} has the row {shown(row)} already")
            self._given.add(row)

    def _name_column(self, name: str) -> None:
        if name == self._column:
            return
        if name in self._columns:
            # The solver would take it for a second column of that name.
            raise self._wrong(f"the column {shown(name)} is there already: its lines must follow")
        self._columns.add(name)
        self._column = name
        self._given.clear()

    def _marker(self, word: str) -> None:
        if word != ("'INTEND'" if self._integer else "'INTORG'"):
            raise self._wrong(f"a marker {shown(word)} is out of place")
        self._integer = not self._integer

    def _side(self, words: list[str]) -> None:
        """A line of RHS or RANGES: the set's name, which may be missing, then rows and values."""
        if not self._fixed:
            words = self._after_set(words)
        for row, value in self._pairs(words, self._rows, "row"):
            key = words[0], row
            if row in self._dropped and self._section == "RHS":
                # The solver takes the first of such values for the objective's constant.
                key = words[0], self._objective
                if key not in self._sides and _float(value):
                    raise self._wrong(f"{shown(row)} is not the objective: it has no value here")
            elif key in self._sides:
                raise self._wrong(f"the row {shown(row)} has a value in {self._section} already")
            self._sides.add(key)

    def _after_set(self, words: list[str]) -> list[str]:
        """``words`` from the set's name on; an empty one is put where there is none."""
        rows, even = self._rows, len(words) % 2 == 0
        if self._section == "RANGES":
            if even and words[0] in rows:
                raise self._wrong(f"the solver needs the name of a set before {shown(words[0])}")
        elif words[0] in rows or (even and words[1] not in rows and _NUMBER.fullmatch(words[1])):
            return ["", *words]
        elif len(words) > 3 and words[1] == self._name and words[1] not in rows:
            return words[1:]  # as SIF has it
        return words

    def _bound(self, words: list[str]) -> None:
        kind, columns = words[0], self._columns
        valued = kind in _VALUED_BOUNDS
        if not valued and kind not in _OTHER_BOUNDS:
            raise self._wrong(f"there is no bound of type {shown(kind)}")
        if self._fixed and kind not in _BOUNDS_AMONG_SPACES:
            raise self._wrong(f"where names hold spaces, the solver knows no bound of type {kind}")
        needed = "a column and a value" if valued else "a column"
        if len(words) < 2 or (self._fixed and len(words) < 3):
            raise self._wrong(f"the bound needs {needed}")
        at = 2
        if not self._fixed and (words[1] in columns or len(words) == 2):
            at = 1
        elif len(words) == 3 and words[2] not in columns and _NUMBER.fullmatch(words[2]):
            at = 1  # a name that is spelt wrong, and no set
        if words[at] not in columns:
            raise self._wrong(f"there is no column {shown(words[at])}")
        rest = _without_comment(words[at + 1 :])
        if valued and not rest:
            raise self._wrong(f"the bound needs {needed}")
        if rest:
            self._value(rest[0])
        if len(rest) > 1:
            raise self._wrong(f"{shown(rest[1])} is too much: a bound has one column and one value")

    def _product(self, words: list[str]) -> None:
        """A line of a quadratic section: a column, then columns and values."""
        if words[0] not in self._columns:
            raise self._wrong(f"there is no column {shown(words[0])}")
        for _ in self._pairs(words, self._columns, "column"):
            pass

    def _pairs(
        self, words: list[str], names: Collection[str], what: str, *, finite: bool = False
    ) -> Iterator[tuple[str, str]]:
        """The names and values after the first word: one or two, of which each name is known."""
        if len(words) < 3:
            raise self._wrong(f"{shown(words[0])} needs a {what} and a value here")
        for at in range(1, len(words), 2):
            name = words[at]
            if at > 1 and name.startswith("$") and name not in names:
                return  # a comment
            if at > 3:
                raise self._wrong(f"{shown(name)} is too much: a line has two values at most")
            if name not in names:
                raise self._wrong(f"there is no {what} {shown(name)}")
            if at + 1 == len(words):
                raise self._wrong(f"there is no value for the {what} {shown(name)}")
            self._value(words[at + 1], finite=finite)
            yield name, words[at + 1]

    def _value(self, word: str, *, finite: bool = False) -> None:
        if _NUMBER.fullmatch(word):
            if finite and abs(_float(word)) == float("inf"):
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


def _bytes(text: str) -> str:
    """``text`` with a character for each byte: columns are bytes, and only ASCII divides words."""
    return text.encode().decode("ascii", "surrogateescape")


def _is_spaced(text: str, rows: Collection[str]) -> bool:
    """Whether a line of COLUMNS, read in fixed format, has a column's name that holds spaces."""
    return " " in text[4:12].strip() and text[14:22].strip() in rows


def _float(number: str) -> float:
    return float(number.upper().replace("D", "E"))


def _without_comment(words: list[str]) -> list[str]:
    """``words`` up to one that begins with a dollar sign."""
    return words[: next((at for at, word in enumerate(words) if word.startswith("$")), None)]
