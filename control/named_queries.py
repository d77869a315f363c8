"""Several queries in one file, each after a comment that names it."""

import functools
import re
from collections.abc import Mapping
from importlib.resources import files
from types import MappingProxyType


@functools.cache
def queries(room: str, file: str, comment: str) -> Mapping[str, str]:
    """The queries of ``queries/<file>`` in the package ``room``, by name.

    A block begins with a line such as ``-- name: by_digest``, ``comment`` being its two dashes.
    Raises :class:`ValueError` for a twin.
    """
    text = (files(room) / "queries" / file).read_text(encoding="utf-8")
    heading = re.compile(rf"^{comment} name: (\w+)[ \t]*$", re.MULTILINE)
    _, *blocks = heading.split(text)
    names, bodies = blocks[::2], blocks[1::2]
    if len(set(names)) < len(names):
        raise ValueError(f"queries/{file} names a query twice")
    return MappingProxyType({name: body.strip() for name, body in zip(names, bodies, strict=True)})


def migration_files(room: str, ending: str) -> list[tuple[str, str]]:
    """``(file name, text)`` of every migration, ordered by name; line ends as on Unix."""
    folder = files(room) / "migrations"
    found = (entry for entry in folder.iterdir() if entry.name.endswith(ending))
    return sorted((entry.name, entry.read_text(encoding="utf-8")) for entry in found)
