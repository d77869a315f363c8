"""What a job's hash in Redis says: as a record, as a claim, and as events."""

import asyncio
import zlib
from collections.abc import Sequence
from typing import Any

import msgspec

from control.clock import from_ms, iso
from worker.jobs.job import Claim, JobError, JobEvent, JobRecord, JobState, Spec

FIELDS = (
    "spec", "status", "submitted_at", "started_at", "finished_at", "attempt", "progress", "error",
    "worker", "drain_requeues",
)  # fmt: skip
"""The fields that :func:`record` takes."""

EVENT_FIELDS = (
    "status", "rev", "token", "attempt", "submitted_at", "started_at", "finished_at", "since",
    "progress", "progressed",
)  # fmt: skip
"""The fields that :func:`events` takes."""

_COMPRESS_FROM = 64 << 10
_PLAIN, _PACKED = b"\x00", b"\x01"
_spec = msgspec.json.Decoder(Spec).decode
_error = msgspec.json.Decoder(JobError).decode


def record(run_id: str, values: Sequence[bytes | None]) -> JobRecord | None:
    """The record of a job; ``None`` where there is none that can be read."""
    spec, status, submitted, started, finished, attempt, progress, error, worker, drained = values
    if spec is None or status is None or submitted is None:
        return None
    try:
        said = _spec(spec)
    except msgspec.DecodeError:
        return None
    return JobRecord(
        run_id=run_id, kind=said.kind, status=JobState(status.decode()),
        correlation_id=said.correlation_id, submitted_at=from_ms(int(submitted)),
        started_at=from_ms(int(started)) if started else None,
        finished_at=from_ms(int(finished)) if finished else None,
        attempt=int(attempt or 0), max_attempts=said.max_attempts, priority=said.priority,
        run_at=None if said.run_at_ms is None else from_ms(said.run_at_ms),
        timeout_s=said.timeout_s,
        progress=msgspec.json.decode(progress) if progress else None,
        error=_error(error) if error else None,
        worker=worker.decode() if worker else None,
        drain_requeues=int(drained or 0), submitted_by=said.submitted_by,
        parent=said.parent, unique=said.unique,
    )  # fmt: skip


def events(run_id: str, values: Sequence[bytes | None]) -> list[JobEvent] | None:
    """What the record says now, as the events that led there: the newest status, the newest
    progress and the end, each under the revision that it made; ``None`` where there is no job."""
    status, rev, token, attempt, submitted, started, finished, since, progress, progressed = values
    if status is None or submitted is None:
        return None
    state, number = JobState(status.decode()), int(rev or 1)
    changed = number  # see records.lua for what the revisions are
    at = since or submitted
    if state.finished:
        changed, at = number - 1, finished or submitted
    elif state is JobState.RUNNING:
        changed, at = int(token or 1), started or submitted
    when = iso(from_ms(int(at)))
    head = f'{{"run_id":"{run_id}","status":"{state}"'
    data = f'{head},"attempt":{int(attempt or 0)},"at":"{when}"}}'
    told = [JobEvent(str(changed), "status", data)]
    if progress and progressed:
        event = JobEvent(progressed.decode(), "progress", progress.decode())
        told.insert(1 if event.number > changed else 0, event)
    if state.finished:
        told.append(JobEvent(str(number), "end", f'{head},"at":"{when}"}}'))
    return told


async def claim(row: Sequence[Any]) -> Claim:
    """What ``claim.lua`` gave. Raises what decoding raises where its bytes are bad."""
    run_id, token, attempt, spec, payload, checkpoint = row
    return Claim(
        run_id=run_id.decode(), token=token, attempt=attempt, spec=_spec(spec),
        payload=payload[1:] if payload[:1] == _PLAIN else await unpack(payload),
        checkpoint=checkpoint,
    )  # fmt: skip


def call(message: bytes) -> tuple[int, Claim | None]:
    """What a worker is called with (see offers in ``records.lua``): the number of its offer, and
    the job if one was claimed for it. Raises :class:`ValueError` where that cannot be read at once.
    """
    number, _, job = message.partition(b"\n")
    if not job:
        return int(number), None
    run_id, token, attempt, spec_size, payload_size, rest = job.split(b"\n", 5)
    ends = int(spec_size), int(spec_size) + int(payload_size)
    payload = plain(rest[ends[0] : ends[1]])
    if payload is None:
        raise ValueError("it is packed")
    return int(number), Claim(
        run_id=run_id.decode(), token=int(token), attempt=int(attempt), spec=_spec(rest[: ends[0]]),
        payload=payload, checkpoint=rest[ends[1] :] or None,
    )  # fmt: skip


async def pack(text: bytes) -> bytes:
    """Large texts are kept compressed: models shrink to a tenth, in memory and in the log file."""
    if len(text) < _COMPRESS_FROM:
        return _PLAIN + text
    return await asyncio.to_thread(lambda: _PACKED + zlib.compress(text, 1))


def plain(stored: bytes) -> bytes | None:
    """The text, where it is kept as it is; ``None`` where it is so large that it was packed."""
    return stored[1:] if stored[:1] == _PLAIN else None


async def unpack(stored: bytes) -> bytes:
    """The text that was packed."""
    if stored[:1] == _PLAIN:
        return stored[1:]
    return await asyncio.to_thread(zlib.decompress, memoryview(stored)[1:])
