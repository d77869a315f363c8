"""Cypher in files under its own names, read once; plain Cypher 5, which both kinds of server run.

``queries/networks.cypher`` holds blocks that begin with ``// name: page_of_arcs``.
``migrations/NNNN_name.cypher`` are whole files, whose statements end with a semicolon.

What the embedded server asks of a query, beside what Neo4j does: a relationship is found through
its node, never by its own properties (it would walk through all there are); a range of an index is
slow, a value of it is not.
"""

from collections.abc import Mapping

from control import named_queries


def queries(file: str) -> Mapping[str, str]:
    """The queries of ``queries/<file>.cypher`` by name. Raises :class:`ValueError` for a twin."""
    return named_queries.queries(__name__, f"{file}.cypher", "//")


def migration_files() -> list[tuple[str, str]]:
    """``(file name, text)`` of every migration, ordered by name; line ends as on Unix."""
    return named_queries.migration_files(__name__, ".cypher")
