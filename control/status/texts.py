"""What people write, within limits. It is Markdown, shown escaped; nothing in it is obeyed."""

import unicodedata
from collections.abc import Iterable, Sequence
from datetime import datetime, timedelta
from typing import Protocol

from control.errors import InvalidInput

MAX_TITLE, MAX_TEXT = 200, 10_000
MAX_COMPONENTS = 50
_JOINERS = "\u200c\u200d"
FAR = timedelta(days=366)
"""Nobody promises anything for later than that."""


class HasName(Protocol):
    """A component, as far as it is asked for by name."""

    @property
    def id(self) -> str:
        """Its id."""
        ...

    @property
    def name(self) -> str:
        """Its name."""
        ...


def title(text: str, where: str = "title") -> str:
    """One line, trimmed. Raises :class:`InvalidInput`."""
    found = text.strip()
    if not found:
        raise InvalidInput("is empty", where)
    if len(found) > MAX_TITLE:
        raise InvalidInput(f"is longer than {MAX_TITLE} characters", where)
    if not all(map(_showable, found)):
        raise InvalidInput("holds characters that cannot be printed", where)
    return found


def text(given: str, where: str, *, needed: bool = True) -> str:
    """Lines of text, trimmed. Raises :class:`InvalidInput`."""
    found = given.replace("\r\n", "\n").strip()
    if needed and not found:
        raise InvalidInput("is empty", where)
    if len(found) > MAX_TEXT:
        raise InvalidInput(f"is longer than {MAX_TEXT} characters", where)
    if not all(_showable(character) or character in "\n\t" for character in found):
        raise InvalidInput("holds characters that cannot be printed", where)
    return found


def _showable(character: str) -> bool:
    """Any language, the blanks and joiners that some need too; nothing that a screen would obey."""
    return (
        character.isprintable() or character in _JOINERS or unicodedata.category(character) == "Zs"
    )


def future(at: datetime | None, now: datetime, where: str) -> datetime | None:
    """A moment that is still to come. Raises :class:`InvalidInput`."""
    if at is None:
        return None
    if at <= now:
        raise InvalidInput("is past", where)
    if at > now + FAR:
        raise InvalidInput("is more than a year away", where)
    return at


def components(wanted: Sequence[str], known: Iterable[HasName]) -> list[str]:
    """The ids of components that are named by id or name. Raises :class:`InvalidInput`."""
    where = "affected_components"
    if len(wanted) > MAX_COMPONENTS:
        raise InvalidInput(f"names more than {MAX_COMPONENTS}", where)
    names: dict[str, str] = {}
    for each in known:
        names.setdefault(each.name.casefold(), each.id)
    ids = set(names.values())
    found: dict[str, None] = {}
    for word in wanted:
        id_ = word if word in ids else names.get(word.strip().casefold())
        if id_ is None:
            raise InvalidInput(f"there is no component {word[:100]!r}", where)
        found[id_] = None
    return list(found)
