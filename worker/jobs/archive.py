"""Finished jobs in PostgreSQL: what Redis has forgotten can still be found.

Each run id has one row, however often it is stored. Methods raise
:class:`control.errors.StoreUnavailable`.
"""

import re
from collections.abc import Sequence
from datetime import datetime
from typing import Annotated, Literal

import msgspec

from control import sql
from control.clock import from_ms
from control.errors import InvalidInput
from control.stores.postgres import Database
from worker.jobs.job import JobRecord, Page

LARGEST_RESULT = 64 << 10
"""Bytes of a result that are kept; of a larger one only its size."""

_COLUMNS = (
    "run_id", "kind", "status", "correlation_id", "finished_at", "record", "words", "result",
    "result_bytes",
)  # fmt: skip
_PRUNE_AT_ONCE = 1_000
_CURSOR = re.compile(r"(\d{1,14})-([0-7][0-9A-HJKMNP-TV-Z]{25})")
_CONDITIONS = {
    "kind": "kind = ${}",
    "status": "status = ${}",
    "correlation_id": "correlation_id = ${}",
    "since": "finished_at >= ${}",
    "until": "finished_at < ${}",
    "q": "to_tsvector('simple', words) @@ websearch_to_tsquery('simple', ${})",
}
Text = Annotated[str, msgspec.Meta(min_length=1, max_length=200)]
EndedAs = Literal["completed", "failed", "cancelled"]
_decode = msgspec.json.Decoder(JobRecord).decode


class Ended(msgspec.Struct, frozen=True):
    """A job that has ended. ``result`` is JSON, ``None`` where there is none or it is too large;
    ``result_bytes`` is its size in any case."""

    record: JobRecord
    result: bytes | None
    result_bytes: int


class Described(msgspec.Struct, frozen=True, kw_only=True):
    """What is said of jobs that are looked for; ``q`` are words, ``or``, ``-not these`` and
    ``"phrases"``."""

    kind: Text | None = None
    status: EndedAs | None = None
    correlation_id: Text | None = None
    q: Text | None = None


class Wanted(Described, frozen=True, kw_only=True):
    """Which jobs to find: those that fit everything that is said. ``since`` and ``until`` are about
    their ends."""

    since: datetime | None = None
    until: datetime | None = None


class Archive:
    """The table ``drawbridge.jobs_archive``."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._queries = sql.queries("archive")

    async def store(self, jobs: Sequence[Ended]) -> None:
        """Keep them, all or none. What is there already stays, unless its job was run again."""
        rows = [_row(job) for job in jobs]
        async with self._database.acquire() as connection, connection.transaction():
            await connection.execute(self._queries["stage"])
            await connection.copy_records_to_table(
                "jobs_archive_stage", records=rows, columns=_COLUMNS
            )
            await connection.execute(self._queries["store"])

    async def get(self, run_id: str) -> JobRecord | None:
        """The record of a job, if it was kept."""
        row = await self._database.fetchrow(self._queries["record"], run_id)
        return None if row is None else _decode(row["record"])

    async def result(self, run_id: str) -> tuple[bytes | None, int]:
        """Its result, if that was kept, and how many bytes it had."""
        row = await self._database.fetchrow(self._queries["result"], run_id)
        if row is None or row["result"] is None:
            return None, 0 if row is None else row["result_bytes"]
        return row["result"].encode(), row["result_bytes"]

    async def page(self, wanted: Wanted, *, limit: int, cursor: str | None = None) -> Page:
        """Up to ``limit`` jobs after ``cursor``, the last one to end first.

        Raises :class:`InvalidInput` that names what is wrong.
        """
        arguments: list[object] = []
        conditions: list[str] = []
        for name, condition in _CONDITIONS.items():
            if (value := getattr(wanted, name)) is not None:
                if isinstance(value, str) and not value.isprintable():
                    raise InvalidInput("holds characters that cannot be printed", name)
                arguments.append(value)
                conditions.append(condition.format(len(arguments)))
        if cursor is not None:
            arguments += _parted(cursor)
            last = len(arguments)
            conditions.append(f"(finished_at, run_id) < (${last - 1}, ${last})")
        found = await self._database.fetch(_select(conditions, limit + 1), *arguments)
        records = [_decode(row["record"]) for row in found[:limit]]
        return Page(records, _cursor(records[-1]) if len(found) > limit else None)

    async def prune(self, days: int) -> int:
        """Remove some of what ended longer ago; how many, 0 where none is left."""
        done = await self._database.execute(self._queries["prune"], days, _PRUNE_AT_ONCE)
        return int(done.rpartition(" ")[2])


def _select(conditions: Sequence[str], limit: int) -> str:
    """Only what is asked for, so that PostgreSQL plans with the index that fits."""
    where = f"WHERE {' AND '.join(conditions)}" if conditions else ""
    return (
        f"SELECT record FROM drawbridge.jobs_archive {where} "  # noqa: S608 - of our own parts
        f"ORDER BY finished_at DESC, run_id DESC LIMIT {limit}"
    )


def _row(job: Ended) -> tuple[object, ...]:
    record = job.record
    error = (record.error.class_, record.error.message) if record.error else ()
    said = (record.kind, record.correlation_id, record.submitted_by, record.worker or "", *error)
    return (
        record.run_id, record.kind, record.status.value, record.correlation_id,
        record.finished_at, msgspec.json.encode(record).decode(),
        " ".join(said).replace("\0", " "),  # which PostgreSQL knows not as text
        None if job.result is None else job.result.decode(), job.result_bytes,
    )  # fmt: skip


def _cursor(record: JobRecord) -> str:
    assert record.finished_at is not None  # noqa: S101 - it is in the archive
    return f"{round(record.finished_at.timestamp() * 1000)}-{record.run_id}"


def _parted(cursor: str) -> tuple[datetime, str]:
    match = _CURSOR.fullmatch(cursor)
    if match is None:
        raise InvalidInput("is not a cursor of this listing", "cursor")
    return from_ms(int(match[1])), match[2]
