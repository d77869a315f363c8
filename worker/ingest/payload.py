"""What an ingest job is given: where its files are, and what they are."""

from typing import Literal

import msgspec

Role = Literal["nodes", "edges", "ndjson", "dimacs"]
"""A table of nodes, a table of edges, or a file with both."""


class UploadedFile(msgspec.Struct, frozen=True):
    """One file: its name for people, and what it is."""

    name: str
    role: Role


class IngestPayload(msgspec.Struct, frozen=True, kw_only=True):
    """The files of the upload that has the job's run id, in their order.

    ``digest`` is of their contents: a network that has it already stays as it is. ``implied_nodes``
    lets edges name nodes that no row declares; without any declared node they may anyway.
    """

    network: str
    files: list[UploadedFile]
    digest: str
    implied_nodes: bool = False


class Ingested(msgspec.Struct, frozen=True, kw_only=True):
    """What became of an upload.

    ``outcome`` is ``stored``; ``unchanged`` where the network had the same contents already; or
    ``superseded`` where a later upload of the network was stored first, which then stays.
    """

    outcome: Literal["stored", "unchanged", "superseded"]
    network: str
    version: str
    nodes: int
    edges: int
    total_supply: float
    total_demand: float
