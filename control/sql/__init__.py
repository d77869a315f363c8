"""SQL in files under its own names, read once.

``queries/api_keys.sql`` holds blocks that begin with ``-- name: by_digest``;
``queries("api_keys")["by_digest"]`` is one. ``migrations/NNNN_name.sql`` are whole files.
"""

import functools
import re
from collections.abc import Mapping
from importlib.resources import files
from types import MappingProxyType

_NAME = re.compile(r"^-- name: (\w+)[ \t]*$", re.MULTILINE)


@functools.cache
def queries(file: str) -> Mapping[str, str]:
    """The queries of ``queries/<file>.sql`` by name. Raises :class:`ValueError` for a twin."""
    text = (files(__name__) / "queries" / f"{file}.sql").read_text(encoding="utf-8")
    _, *blocks = _NAME.split(text)
    names, bodies = blocks[::2], blocks[1::2]
    if len(set(names)) < len(names):
        raise ValueError(f"queries/{file}.sql names a query twice")
    return MappingProxyType({name: body.strip() for name, body in zip(names, bodies, strict=True)})


def migration_files() -> list[tuple[str, str]]:
    """``(file name, text)`` of every migration, ordered by name; line ends as on Unix."""
    folder = files(__name__) / "migrations"
    found = (entry for entry in folder.iterdir() if entry.name.endswith(".sql"))
    return sorted((entry.name, entry.read_text(encoding="utf-8")) for entry in found)
