"""Jobs that have ended and wait in Redis to be archived, in the order of their ends.

A job is entered where it ends (``conclude`` in ``records.lua``) and leaves once it is stored; what
nobody archives for as long as results are kept is forgotten with them.
"""

from collections.abc import Sequence
from typing import Any

import msgspec

from control.stores.line import Argument
from worker.jobs import archive, stored
from worker.jobs.archive import Ended
from worker.jobs.scripts import Scripts

TURN_S = 15.0
"""How long one worker archives alone; it renews that with each batch."""

_MOST_BYTES = 4 << 20


class Waiting(msgspec.Struct, frozen=True):
    """One of them, and when it ended; ``job`` is ``None`` where its record has expired, is spoilt,
    or was made to run again."""

    run_id: str
    at_ms: bytes
    job: Ended | None


class EndedJobs:
    """Methods raise :class:`control.errors.StoreUnavailable`."""

    def __init__(self, scripts: Scripts) -> None:
        self._run = scripts

    async def next(self, worker: str, most: int) -> list[Waiting] | None:
        """The first of them, up to ``most``; ``None`` while it is another worker's turn."""
        largest = archive.LARGEST_RESULT + 1  # the mark of how it is packed
        arguments: list[Argument] = [worker, int(TURN_S * 1000), most, largest, _MOST_BYTES]
        rows = await self._run("ended", [*arguments, *stored.FIELDS])
        return None if rows == b"busy" else [_waiting(*row) for row in rows]

    async def archived(self, jobs: Sequence[Waiting]) -> int:
        """They are stored, as they ended then; how many others wait."""
        arguments: list[Argument] = []
        for each in jobs:
            arguments += [each.run_id, each.at_ms]
        return int(await self._run("archived", arguments))

    async def forget(self, older_ms: int) -> int:
        """Drop those whose records have expired; how many."""
        return int(await self._run("forget", [older_ms]))


def _waiting(run_id: bytes, at_ms: bytes, size: int, result: bytes, values: list[Any]) -> Waiting:
    name = run_id.decode()
    try:
        record = stored.record(name, values) if values else None
    except (ValueError, msgspec.DecodeError):
        record = None
    if record is None or not record.status.finished or record.finished_at is None:
        return Waiting(name, at_ms, None)
    kept = stored.plain(result) if result else None
    return Waiting(name, at_ms, Ended(record, kept, max(0, size - 1)))
