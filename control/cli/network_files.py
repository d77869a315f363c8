"""The files of a network on this machine: what each is, and how it is sent."""

import asyncio
import gzip
import zlib
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass
from pathlib import Path

_PIECE = 256 << 10
_FIRST_LINE = 64 << 10
_GZIP = b"\x1f\x8b"


@dataclass(frozen=True)
class NetworkFile:
    """One file. ``role`` is nodes, edges, ndjson or dimacs: the field of the form it goes into."""

    path: Path
    role: str
    packed: bool

    @property
    def sent_name(self) -> str:
        """What it is called on the way: what is sent is always compressed."""
        return self.path.name if self.path.suffix == ".gz" else f"{self.path.name}.gz"

    async def compressed(self, sent: Callable[[int], None]) -> AsyncIterator[bytes]:
        """Its bytes, gzipped; ``sent`` is told how many of the file were read with each piece."""
        packer = None if self.packed else zlib.compressobj(level=3, wbits=16 + zlib.MAX_WBITS)
        file = await asyncio.to_thread(self.path.open, "rb")
        with file:
            while piece := await asyncio.to_thread(file.read, _PIECE):
                out = await asyncio.to_thread(packer.compress, piece) if packer else piece
                sent(len(piece))
                if out:
                    yield out
        if packer:
            yield packer.flush()


def recognised(path: Path) -> NetworkFile:
    """What a file is, by its first line. Raises :class:`ValueError`."""
    with path.open("rb") as file:
        packed = file.read(2) == _GZIP
    try:
        with gzip.open(path) if packed else path.open("rb") as file:
            lines = file.read(_FIRST_LINE).decode("utf-8-sig", "replace").splitlines()
    except (OSError, EOFError, zlib.error) as error:
        raise ValueError(f"{path.name} cannot be read: {error}") from None
    first = next((line.strip() for line in lines if line.strip()), "")
    return NetworkFile(path, _role(path.name, first), packed)


def _role(name: str, first: str) -> str:
    if first.startswith("{"):
        return "ndjson"
    if first.split(maxsplit=1)[:1] in (["c"], ["p"]):
        return "dimacs"
    marks = first.replace(";", ",").replace("\t", ",").lower().split(",")
    columns = {column.strip().strip('"') for column in marks}
    if columns & {"source", "target"}:
        return "edges"
    if "id" in columns:
        return "nodes"
    raise ValueError(
        f"{name} is neither a table with the column id (nodes) or source and target (edges), nor "
        "NDJSON, nor a DIMACS file"
    )
