"""Lists jobs, newest first. A listing holds run ids alone, in the order of their making; what has
expired meanwhile is passed over here and taken out by :meth:`Listing.trim`."""

import asyncio
import heapq
import time
from collections.abc import Sequence

from control import ids, keys
from control.errors import InvalidInput
from worker.jobs import stored
from worker.jobs.job import JobRecord, JobState, Page
from worker.jobs.shard import Shard

_LOOKS, _MOST_LOOKS = 100, 2_000
"""How many records are read at a time where some may be passed over, and how many for a page; one
that finds too few in them is short, and its cursor goes on."""

_TRIM_AT_ONCE = 500
_CLOCKS_DIFFER_MS = 60_000


class Listing:
    """The listings of all kinds, of all shards."""

    def __init__(self, shards: Sequence[Shard], *, ttl_ms: int) -> None:
        self._shards = shards
        self._ttl_ms = ttl_ms

    async def page(
        self,
        kinds: Sequence[str] | None,
        status: JobState | None,
        parent: str | None,
        limit: int,
        cursor: str | None,
    ) -> Page:
        """Up to ``limit`` jobs after ``cursor``. Raises :class:`InvalidInput` for a bad cursor."""
        first = _first_child(parent) if parent is not None else ""
        if cursor is not None and not ids.is_id(cursor):
            raise InvalidInput("is not a cursor of this listing", "cursor")
        listed = status if status in keys.LISTED else None
        indexes = [
            (shard, shard.keys.index(kind, listed))
            for shard in self._shards
            for kind in (await self._kinds(shard) if kinds is None else kinds)
        ]
        at_once = limit if status == listed and parent is None else max(limit, _LOOKS)
        found: list[JobRecord] = []
        looks = 0
        while looks < _MOST_LOOKS:
            run_ids, more = await self._run_ids(indexes, cursor, at_once)
            records = await self._records(run_ids)
            looks += len(run_ids)
            for run_id, record in zip(run_ids, records, strict=True):
                cursor = run_id
                if run_id < first:
                    return Page(found, None)
                if record is None or parent not in (None, record.parent):
                    continue
                if status in (None, record.status):
                    found.append(record)
                    if len(found) == limit:
                        return Page(found, cursor if more or run_id != run_ids[-1] else None)
            if not more:
                return Page(found, None)
        return Page(found, cursor)

    async def trim(self) -> int:
        """Take out what has expired; how many. One call looks at all that is old enough."""
        count = 0
        before = ids.id_at(int(time.time() * 1000) - self._ttl_ms)
        for shard in self._shards:
            for kind in await self._kinds(shard):
                for name in (kind, *(f"{kind}:{status}" for status in keys.LISTED)):
                    count += await self._trim(shard, name, before)
        return count

    async def _trim(self, shard: Shard, name: str, before: str) -> int:
        count, after = 0, ""
        while True:
            gone, last = await shard.run("trim", [name, after, before, _TRIM_AT_ONCE])
            count += int(gone)
            if not last:
                return count
            after = last

    async def _kinds(self, shard: Shard) -> list[str]:
        return sorted(kind.decode() for kind in await shard.wire("SMEMBERS", shard.keys.kinds))

    async def _run_ids(
        self, indexes: Sequence[tuple[Shard, str]], cursor: str | None, most: int
    ) -> tuple[list[str], bool]:
        """The next run ids of all ``indexes`` together, and whether there are more."""
        highest = f"({cursor}" if cursor else "+"
        found = await asyncio.gather(
            *(
                shard.wire("ZREVRANGEBYLEX", index, highest, "-", "LIMIT", 0, most + 1)
                for shard, index in indexes
            )
        )
        merged = [run_id.decode() for run_id in heapq.merge(*found, reverse=True)]
        return merged[:most], len(merged) > most

    async def _records(self, run_ids: Sequence[str]) -> list[JobRecord | None]:
        shards = [self._shards[ids.last_digit(run_id) % len(self._shards)] for run_id in run_ids]
        rows = await asyncio.gather(
            *(
                shard.wire("HMGET", shard.keys.job(run_id), *stored.FIELDS)
                for shard, run_id in zip(shards, run_ids, strict=True)
            )
        )
        return [stored.record(run_id, row) for run_id, row in zip(run_ids, rows, strict=True)]


def _first_child(parent: str) -> str:
    """The lowest run id that a child can have. Raises :class:`InvalidInput` for what is no id."""
    if not ids.is_id(parent):
        raise InvalidInput("is not the id of a job", "parent")
    return ids.id_at(max(0, ids.moment_ms(parent) - _CLOCKS_DIFFER_MS))
