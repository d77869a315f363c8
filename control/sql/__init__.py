"""SQL in files under its own names, read once.

``queries/api_keys.sql`` holds blocks that begin with ``-- name: by_digest``;
``queries("api_keys")["by_digest"]`` is one. ``migrations/NNNN_name.sql`` are whole files.
"""

from collections.abc import Mapping

from control import named_queries


def queries(file: str) -> Mapping[str, str]:
    """The queries of ``queries/<file>.sql`` by name. Raises :class:`ValueError` for a twin."""
    return named_queries.queries(__name__, f"{file}.sql", "--")


def migration_files() -> list[tuple[str, str]]:
    """``(file name, text)`` of every migration, ordered by name; line ends as on Unix."""
    return named_queries.migration_files(__name__, ".sql")
