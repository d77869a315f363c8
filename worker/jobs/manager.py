"""The state of every job, in Redis. Each transition is one Lua script: it happens or it does not.

The service creates, reads, lists and cancels jobs; workers claim, renew, finish and give back. Who
holds a job is told by its newest fencing token: a claim makes one, and what comes under an older
one is refused. Methods raise :class:`control.errors.StoreUnavailable` where Redis cannot be used.
"""

import asyncio
import heapq
import zlib
from collections.abc import Iterable, Sequence
from hashlib import sha256
from typing import Any

import msgspec
from redis.asyncio import Redis

from control import keys, logs
from control.clock import from_ms
from control.errors import BridgeUp, ControlStateStale, InvalidInput
from control.ids import is_id
from control.stores.redis import guard
from control.stores.scripts import Argument
from worker.jobs.batcher import Batcher
from worker.jobs.errors import (
    IllegalTransition,
    JobFinished,
    KeyReused,
    StaleToken,
    UnknownJob,
    WorkerLost,
)
from worker.jobs.job import (
    Accepted,
    Claim,
    JobError,
    JobEvent,
    JobRecord,
    JobState,
    NewJob,
    Outcome,
    Page,
    Spec,
)
from worker.jobs.scripts import Scripts

_COMPRESS_FROM = 64 << 10
_PLAIN, _PACKED = b"\x00", b"\x01"
_STATE = (
    b"spec", b"status", b"submitted_at", b"started_at", b"finished_at", b"attempt",
    b"max_attempts", b"progress", b"error", b"worker", b"drain_requeues",
)  # fmt: skip
_LOST = JobError("WorkerLost", "every worker that ran this job was lost, up to its last attempt")
_CORRUPT = JobError("CorruptJob", "its record or its payload in Redis cannot be read")
_encode = msgspec.json.encode


class Beat(msgspec.Struct, frozen=True):
    """What a heartbeat brings back; times in seconds from now, ``None`` where there is none.

    ``at_ms`` is Redis's clock at that moment; ``stop`` are run ids that this worker should not run.
    """

    at_ms: int
    due_in_s: float | None
    lease_ends_in_s: float | None
    stop: list[str]


class Rescued(msgspec.Struct, frozen=True):
    """A job taken from a lost worker; ``outcome`` is queued, failed or cancelled."""

    run_id: str
    worker: str
    outcome: str


class Progress(msgspec.Struct, frozen=True):
    """What a running job reports: an object for people, a checkpoint for its next attempt."""

    run_id: str
    token: int
    progress: dict[str, Any] | None = None
    checkpoint: bytes | None = None


class JobStateManager:
    """All that may happen to a job. Concurrent calls of a kind share their round trips."""

    def __init__(self, redis: Redis, *, result_ttl_s: int, lease_s: float) -> None:
        self._redis: Any = redis  # bytes in, bytes out; redis-py types both ways
        self._run = Scripts(redis)
        self._log = logs.get(__name__)
        self._ttl_ms = int(result_ttl_s * 1000)
        self._lease_ms = int(lease_s * 1000)
        self._accept = Batcher(self._accept_all, weight=lambda pair: len(pair[1]))
        self._finish = Batcher(self._finish_all, weight=lambda outcome: len(outcome.result or b""))
        self._report = Batcher(self._report_all, weight=lambda item: len(item.checkpoint or b""))

    # What callers of the API need -----------------------------------------------------------

    async def create_job(self, new: NewJob) -> Accepted:
        """Accept a job, durably. Calling again with the same run id changes nothing.

        Raises :class:`BridgeUp` under maintenance, :class:`ControlStateStale` where Redis does not
        tell, and :class:`KeyReused` where the idempotency key made a job from another body.
        """
        payload = await _pack(new.payload)
        answer = await self._accept((new, payload))
        if answer == b"conflict":
            raise KeyReused
        if answer == b"created":
            return Accepted(new.run_id, created=True)
        return Accepted(answer.decode(), created=False)

    async def get_job(self, run_id: str) -> JobRecord | None:
        """The record, or ``None`` where the id is unknown or the record has expired."""
        with guard():
            values = await self._redis.hmget(keys.job(run_id), list(_STATE))
        return _record(run_id, values)

    async def get_result(self, run_id: str) -> bytes | None:
        """The JSON text that the kind's function returned, or ``None`` where there is none."""
        with guard():
            stored = await self._redis.get(keys.job(run_id, "result"))
        return None if stored is None else await _unpack(stored)

    async def list_jobs(
        self,
        *,
        kinds: Sequence[str] | None = None,
        status: JobState | None = None,
        limit: int = 50,
        cursor: str | None = None,
    ) -> Page:
        """Jobs, newest first, of ``kinds`` (``None``: all) and in ``status`` (``None``: any).

        Raises :class:`InvalidInput` for a cursor that no page gave.
        """
        if cursor is not None and not is_id(cursor):
            raise InvalidInput("is not a cursor of this listing", "cursor")
        with guard():
            if kinds is None:
                kinds = sorted(k.decode() for k in await self._redis.smembers(keys.KINDS))
            pipe = self._redis.pipeline(transaction=False)
            before = f"({cursor}" if cursor else "+"
            for kind in kinds:
                for state in [status] if status else JobState:
                    pipe.zrevrangebylex(keys.index(kind, state), before, "-", 0, limit + 1)
            found = heapq.merge(*await pipe.execute(), reverse=True)
            ids = [run_id.decode() for run_id in dict.fromkeys(found)][: limit + 1]
            for run_id in ids[:limit]:
                pipe.hmget(keys.job(run_id), list(_STATE))
            rows = await pipe.execute()
        records = [_record(run_id, row) for run_id, row in zip(ids, rows, strict=False)]
        more = len(ids) > limit
        return Page([r for r in records if r is not None], ids[limit - 1] if more else None)

    async def cancel_job(self, run_id: str) -> JobState:
        """Cancel a job: ``cancelled`` at once, or ``running`` until its worker has stopped it.

        Raises :class:`UnknownJob` and :class:`JobFinished`.
        """
        answer = await self._run("cancel", [self._ttl_ms, run_id])
        if answer is None:
            raise UnknownJob(run_id)
        status = JobState(answer[0].decode())
        if answer[1] == b"0":
            raise JobFinished(run_id, status)
        return status

    async def events_after(self, run_id: str, last_id: str | None) -> list[JobEvent]:
        """The stored events of a job that came after ``last_id`` (``None``: all), oldest first."""
        with guard():
            pipe = self._redis.pipeline(transaction=True)
            pipe.lrange(keys.job(run_id, "events"), 0, -1)
            pipe.hget(keys.job(run_id), "dropped")
            stored, dropped = await pipe.execute()
        first = int(dropped or 0) + 1
        events = [JobEvent.parse(b"%d\n%b" % (n, text)) for n, text in enumerate(stored, first)]
        return [event for event in events if event.number > int(last_id or 0)]

    # What workers need ----------------------------------------------------------------------

    async def update_job_status(
        self,
        run_id: str,
        status: JobState,
        *,
        token: int,
        result: bytes | None = None,
        error: JobError | None = None,
        progress: dict[str, Any] | None = None,
        checkpoint: bytes | None = None,
        retry_in_ms: int = 0,
    ) -> None:
        """Move a running job on, as the holder of its newest ``token``.

        ``running`` stores progress; ``completed``, ``failed`` and ``cancelled`` end it;
        ``scheduled`` runs it again after ``retry_in_ms``; ``queued`` gives it back, uncharged.
        Raises :class:`StaleToken`; :class:`IllegalTransition` for a result of a job that goes on.
        """
        if result is not None and not status.finished:
            raise IllegalTransition(f"a job that is {status.value} has no result")
        if status is JobState.RUNNING:
            held = await self.report(Progress(run_id, token, progress, checkpoint))
        elif status is JobState.QUEUED:
            held = await self.requeue([(run_id, token, checkpoint)], drained=False) == [True]
        else:
            held = await self.finish(
                Outcome(
                    run_id=run_id, token=token, status=status, result=result, error=error,
                    progress=progress, retry_in_ms=retry_in_ms,
                )
            )  # fmt: skip
        if not held:
            raise StaleToken(run_id)

    async def claim(
        self, worker: str, lane: str, count: int, *, known: Iterable[str] | None = None
    ) -> list[Claim]:
        """Up to ``count`` jobs of ``lane``, now this worker's.

        After a claim whose answer was lost, ``known`` (the run ids that did reach the worker)
        brings the others; those alone, and whatever the flags are, where ``count`` is 0. Raises
        :class:`BridgeUp`, :class:`ControlStateStale`, and :class:`WorkerLost` without a live lease.
        """
        resync = [] if known is None else list(known)
        answer = await self._run("claim", [worker, lane, count, int(known is not None), *resync])
        if answer == b"lost":
            raise WorkerLost(f"worker {worker} has no lease")
        claims = []
        for row in _passed(answer):
            try:
                claims.append(await _claim(row))
            except (msgspec.DecodeError, zlib.error, TypeError):
                # Bytes that somebody else wrote, or lost: this job cannot run, the others can.
                self._log.error("job is corrupt", run_id=row[0].decode())
                await self.finish(
                    Outcome(
                        run_id=row[0].decode(), token=row[1], status=JobState.FAILED, error=_CORRUPT
                    )
                )
        return claims

    async def heartbeat(self, worker: str, running: Iterable[str], *, join: bool = False) -> Beat:
        """Renew the worker's lease (``join``: take the first one).

        Raises :class:`WorkerLost` where it ran out: others have, or will have, its jobs.
        """
        answer = await self._run("heartbeat", [worker, self._lease_ms, int(join), *running])
        if answer == b"lost":
            raise WorkerLost(f"the lease of worker {worker} ran out")
        due, lease, stop, now = answer
        return Beat(now, _seconds(due, now), _seconds(lease, now), [r.decode() for r in stop])

    async def finish(self, outcome: Outcome) -> bool:
        """End a run; false where its token is no longer the newest, and nothing happened."""
        return await self._finish(outcome)

    async def report(self, item: Progress) -> bool:
        """Store progress or a checkpoint; false where the token is no longer the newest."""
        return await self._report(item)

    async def requeue(
        self, runs: Sequence[tuple[str, int, bytes | None]], *, drained: bool
    ) -> list[bool]:
        """Give back ``(run_id, token, checkpoint)``, uncharged, to the head of the line."""
        arguments: list[Argument] = [self._ttl_ms, int(drained)]
        for run_id, token, checkpoint in runs:
            arguments += [run_id, token, checkpoint or b""]
        return [answer == b"1" for answer in await self._run("requeue", arguments)]

    async def promote(self, most: int = 256) -> tuple[int, float | None]:
        """Queue scheduled jobs that are due: how many, and seconds until the next one."""
        count, due, now = await self._run("promote", [most])
        return count, _seconds(due, now)

    async def rescue(self, beat_ms: int, *, within_s: float) -> list[Rescued] | None:
        """Take the jobs of workers whose leases ran out, as a worker whose own link is good.

        ``beat_ms`` is :attr:`Beat.at_ms` of its last heartbeat. ``None`` where that is more than
        ``within_s`` ago by Redis's clock: the others may have been held up just as well.
        """
        answer = await self._run(
            "rescue", [self._ttl_ms, _encode(_LOST), beat_ms, int(within_s * 1000)]
        )
        if answer == b"late":
            return None
        return [Rescued(*(part.decode() for part in row)) for row in answer]

    async def leave(self, worker: str) -> int:
        """End the worker's lease; how many jobs it left behind for others to rescue at once."""
        return int(await self._run("leave", [worker]))

    # One script for many --------------------------------------------------------------------

    async def _accept_all(self, jobs: list[tuple[NewJob, bytes]]) -> list[bytes]:
        arguments: list[Argument] = [self._ttl_ms]
        for new, payload in jobs:
            spec = new.spec
            key = f"{spec.submitted_by}\n{spec.kind}\n{new.idempotency_key}"
            arguments += [
                new.run_id, spec.kind, spec.lane, spec.priority, spec.max_attempts,
                "" if spec.run_at_ms is None else spec.run_at_ms,
                sha256(key.encode()).hexdigest() if new.idempotency_key else "",
                new.digest, _encode(spec), payload,
            ]  # fmt: skip
        return _passed(await self._run("accept", arguments))

    async def _finish_all(self, outcomes: list[Outcome]) -> list[bool]:
        arguments: list[Argument] = [self._ttl_ms]
        for end in outcomes:
            arguments += [
                end.run_id, end.token, end.status.value, end.retry_in_ms, _encode(end.error)
                if end.error else b"", await _pack(end.result) if end.result is not None else b"",
                _encode(end.progress) if end.progress else b"",
            ]  # fmt: skip
        return [answer == b"1" for answer in await self._run("finish", arguments)]

    async def _report_all(self, items: list[Progress]) -> list[bool]:
        arguments: list[Argument] = []
        for item in items:
            progress = _encode(item.progress) if item.progress is not None else b""
            arguments += [item.run_id, item.token, progress, item.checkpoint or b""]
        return [answer == b"1" for answer in await self._run("progress", arguments)]


def _passed(answer: Any) -> list[Any]:
    """What a script answered that the gate let pass; raises what the gate said otherwise."""
    if answer == b"closed":
        raise BridgeUp("maintenance is on: no job is accepted or claimed")
    if answer == b"unknown":
        raise ControlStateStale("Redis does not tell whether maintenance is on")
    answers: list[Any] = answer
    return answers


async def _claim(row: Sequence[Any]) -> Claim:
    run_id, token, attempt, spec, payload, checkpoint = row
    return Claim(
        run_id=run_id.decode(),
        token=token,
        attempt=attempt,
        spec=msgspec.json.decode(spec, type=Spec),
        payload=await _unpack(payload),
        checkpoint=checkpoint,
    )


def _record(run_id: str, values: Sequence[bytes | None]) -> JobRecord | None:
    state = dict(zip(_STATE, values, strict=True))
    stored, status = state[b"spec"], state[b"status"]
    if stored is None or status is None:
        return None
    try:
        spec = msgspec.json.decode(stored, type=Spec)
    except msgspec.DecodeError:
        return None

    def moment(name: bytes) -> Any:
        text = state[name]
        return None if text is None else from_ms(int(text))

    progress, error, worker = state[b"progress"], state[b"error"], state[b"worker"]
    return JobRecord(
        run_id=run_id, kind=spec.kind, status=JobState(status.decode()),
        correlation_id=spec.correlation_id, submitted_at=moment(b"submitted_at"),
        started_at=moment(b"started_at"), finished_at=moment(b"finished_at"),
        attempt=int(state[b"attempt"] or 0), max_attempts=spec.max_attempts,
        priority=spec.priority,
        run_at=None if spec.run_at_ms is None else from_ms(spec.run_at_ms),
        timeout_s=spec.timeout_s,
        progress=msgspec.json.decode(progress) if progress else None,
        error=msgspec.json.decode(error, type=JobError) if error else None,
        worker=worker.decode() if worker else None,
        drain_requeues=int(state[b"drain_requeues"] or 0), submitted_by=spec.submitted_by,
    )  # fmt: skip


def _seconds(moment: bytes, now_ms: int) -> float | None:
    return (float(moment) - now_ms) / 1000 if moment else None


async def _pack(text: bytes) -> bytes:
    """Large texts are kept compressed: models shrink to a tenth, in memory and in the log file."""
    if len(text) < _COMPRESS_FROM:
        return _PLAIN + text
    return await asyncio.to_thread(lambda: _PACKED + zlib.compress(text, 1))


async def _unpack(stored: bytes) -> bytes:
    if stored[:1] == _PLAIN:
        return stored[1:]
    return await asyncio.to_thread(zlib.decompress, memoryview(stored)[1:])
