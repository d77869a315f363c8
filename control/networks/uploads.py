"""Files that were uploaded, kept in PostgreSQL until the job that reads them has ended.

They are cut into pieces of a bounded size on the way in, so neither the service nor a worker ever
holds more than one of them, and a worker that takes over from one that died reads them again.
"""

import asyncio
import zlib

from control import sql
from control.stores.postgres import Database

PIECE = 1 << 20
"""Bytes of a file in one piece, before compression."""

QUERY_S = 10.0
_LEVEL = 1
"""Of compression: the fastest makes a table a quarter as large."""


class Uploads:
    """The uploaded files. Methods raise :class:`control.errors.StoreUnavailable`."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._queries = sql.queries("uploads")

    async def open(self, run_id: str) -> None:
        """Begin an upload."""
        await self._execute("open", run_id)

    async def append(self, run_id: str, file: int, piece: int, data: bytes) -> None:
        """Add the next piece of a file; files and pieces count from 0."""
        packed = await asyncio.to_thread(zlib.compress, data, _LEVEL)
        await self._execute("append", run_id, file, piece, packed)

    async def piece(self, run_id: str, file: int, number: int) -> bytes | None:
        """One piece as it is stored, see :func:`unpacked`; ``None`` behind the last one."""
        async with self._database.acquire() as connection:
            found: bytes | None = await connection.fetchval(
                self._queries["piece"], run_id, file, number, timeout=QUERY_S
            )
        return found

    async def there(self, run_id: str) -> bool:
        """Whether the files of an upload are still kept."""
        return bool(await self._database.fetch(self._queries["exists"], run_id))

    async def discard(self, run_id: str, attempt: int) -> None:
        """Forget the files, unless a later attempt reads them: the job has ended, or there will be
        none (attempt 0)."""
        await self._execute("remove", run_id, attempt)

    async def old(self, age_s: float) -> list[tuple[str, int]]:
        """Uploads that were made longer ago and whose job is not running, and its attempts; up to
        100."""
        rows = await self._database.fetch(self._queries["old"], age_s)
        return [(row["run_id"], row["attempt"]) for row in rows]

    async def _execute(self, query: str, *arguments: object) -> None:
        async with self._database.acquire() as connection:
            await connection.execute(self._queries[query], *arguments, timeout=QUERY_S)


def unpacked(piece: bytes) -> bytes:
    """What a stored piece holds of its file."""
    return zlib.decompress(piece)
