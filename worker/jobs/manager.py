"""The state of every job, in Redis. Each transition is one Lua script: it happens or it does not.

The service creates, reads, lists and cancels jobs; workers claim, renew, finish and give back. Who
holds a job is told by its newest fencing token: a claim makes one, and what comes under an older
one is refused. Methods raise :class:`control.errors.StoreUnavailable` where Redis cannot be used.
"""

import zlib
from collections.abc import Iterable, Mapping, Sequence
from types import MappingProxyType
from typing import Any, Self

import msgspec
from redis.asyncio import Redis

from control import keys, logs
from control.config import JobsSection
from control.stores.line import Argument
from control.stores.wire import ReplicatedWire, Wire
from worker.jobs import stored
from worker.jobs.batcher import Batcher
from worker.jobs.ended import EndedJobs
from worker.jobs.errors import (
    IllegalTransition,
    JobFinished,
    JobNotFailed,
    StaleToken,
    UniqueKeyTaken,
    UnknownJob,
    WorkerLost,
)
from worker.jobs.job import (
    Accepted,
    Beat,
    Claim,
    JobError,
    JobEvent,
    JobRecord,
    JobState,
    NewJob,
    Outcome,
    Page,
    Progress,
    Rescued,
)
from worker.jobs.listing import Listing
from worker.jobs.scripts import LARGE, Scripts, passed
from worker.jobs.submissions import Submissions
from worker.jobs.timetable import Timetable

_LOST = JobError("WorkerLost", "every worker that ran this job was lost, up to its last attempt")
_CORRUPT = JobError("CorruptJob", "its record or its payload in Redis cannot be read")
_UNLIMITED: Mapping[str, int] = MappingProxyType({})
_encode = msgspec.json.Encoder().encode
_HELD, _SPOILT = 1, -1
"""What finish and requeue answer for a run; 0 for one that belongs to somebody else by now."""


class JobStateManager:
    """All that may happen to a job. Concurrent calls of a kind share their round trips.

    A job counts as accepted once ``replicas`` of Redis have it too, within ``replicas_within_s``.
    """

    def __init__(
        self,
        redis: Redis,
        *,
        result_ttl_s: int,
        lease_s: float,
        replicas: int = 0,
        replicas_within_s: float = 1.0,
    ) -> None:
        self._wire = Wire(redis)
        self._run = accept = Scripts(self._wire, redis)
        if replicas:
            wire = ReplicatedWire(redis, replicas=replicas, within_s=replicas_within_s)
            accept = Scripts(wire, wire)
        self._log = logs.get(__name__)
        self._ttl_ms = int(result_ttl_s * 1000)
        self._lease_ms = int(lease_s * 1000)
        self.timetable = Timetable(self._wire, self._run)
        self.ended = EndedJobs(self._run)
        self._listing = Listing(self._wire, self._run, ttl_ms=self._ttl_ms)
        self._submissions = Submissions(accept, ttl_ms=self._ttl_ms)
        self._finish = Batcher(self.finish_all, weight=lambda outcome: len(outcome.result or b""))
        self.accepted = self._submissions.accepted
        """Jobs that were created here, by kind."""
        self._report = Batcher(self._report_all, weight=lambda item: len(item.checkpoint or b""))

    @classmethod
    def of(cls, redis: Redis, section: JobsSection) -> Self:
        """As the configuration says."""
        return cls(
            redis, result_ttl_s=section.result_ttl_s, lease_s=section.lease_s,
            replicas=section.wait_replicas, replicas_within_s=section.wait_timeout_s,
        )  # fmt: skip

    # What callers of the API need -----------------------------------------------------------

    async def create_job(self, new: NewJob) -> Accepted:
        """Accept a job, durably. Calling again with the same run id changes nothing.

        While a live job of its kind has the same unique key, that one is the answer. Raises
        :class:`BridgeUp` under maintenance, :class:`ControlStateStale` where Redis does not tell,
        and :class:`KeyReused` where the idempotency key made a job from another body.
        """
        return await self._submissions.one(new)

    async def create_jobs(
        self, many: Sequence[NewJob], *, within_s: float | None = None
    ) -> list[Accepted | Exception]:
        """:meth:`create_job` of many, in few commands: what each was accepted as, or what that
        would have raised; :class:`StoreUnavailable` too where no answer came ``within_s``."""
        return await self._submissions.many(many, within_s)

    async def get_job(self, run_id: str) -> JobRecord | None:
        """The record, or ``None`` where the id is unknown or the record has expired."""
        return stored.record(run_id, await self._wire("HMGET", keys.job(run_id), *stored.FIELDS))

    async def get_result(self, run_id: str) -> bytes | None:
        """The JSON text that the kind's function returned, or ``None`` where there is none."""
        found = await self._wire("HGET", keys.job(run_id), "result")
        return None if found is None else await stored.unpack(found)

    async def list_jobs(
        self,
        *,
        kinds: Sequence[str] | None = None,
        status: JobState | None = None,
        parent: str | None = None,
        limit: int = 50,
        cursor: str | None = None,
    ) -> Page:
        """Jobs, newest first, of ``kinds``, in ``status`` and submitted by the job ``parent``
        (``None``: any).

        A page may be shorter than ``limit`` and yet have a cursor to go on with. Raises
        :class:`control.errors.InvalidInput` for a cursor that no page gave.
        """
        return await self._listing.page(kinds, status, parent, limit, cursor)

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

    async def rerun_job(self, run_id: str) -> None:
        """Queue a failed job again, under its own id and with all its attempts anew.

        Raises :class:`UnknownJob`, :class:`JobNotFailed`, :class:`UniqueKeyTaken` where a live job
        has its unique key, :class:`BridgeUp` and :class:`ControlStateStale`.
        """
        answer = await self._run("rerun", [run_id])
        if answer is None:
            raise UnknownJob(run_id)
        status, done, holder = (part.decode() for part in passed(answer))
        if holder:
            raise UniqueKeyTaken(run_id, holder)
        if done == "0":
            raise JobNotFailed(run_id, JobState(status))

    async def events_after(self, run_id: str, last_id: str | None) -> list[JobEvent]:
        """What is known of a job now, as events; those after ``last_id`` (``None``: all)."""
        values = await self._wire("HMGET", keys.job(run_id), *stored.EVENT_FIELDS)
        events = stored.events(run_id, values) or []
        return [event for event in events if event.number > int(last_id or 0)]

    async def follow(self, run_id: str) -> list[JobEvent] | None:
        """What is known of a job now, as events, or ``None`` where there is no such job. From now
        on its changes are published on its channel."""
        return stored.events(run_id, await self._run("follow", [run_id, *stored.EVENT_FIELDS]))

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
        self,
        worker: str,
        lane: str,
        count: int,
        *,
        limits: Mapping[str, int] = _UNLIMITED,
        known: Iterable[str] | None = None,
    ) -> list[Claim]:
        """Up to ``count`` jobs of ``lane``, now this worker's.

        ``limits`` are how many jobs of a kind may run at once in the whole fleet; what is above
        waits, without holding up other kinds, and the end of a run rings the bell for it.
        After a claim whose answer was lost, ``known`` (the run ids that did reach the worker)
        brings the others; those alone, and whatever the flags are, where ``count`` is 0. Raises
        :class:`BridgeUp`, :class:`ControlStateStale`, and :class:`WorkerLost` without a live lease.
        """
        resync = [] if known is None else list(known)
        limited = _encode(dict(limits))
        answer = await self._run(
            "claim", [worker, lane, count, limited, int(known is not None), *resync], again=False
        )
        if answer == b"lost":
            raise WorkerLost(f"worker {worker} has no lease")
        claims = []
        for row in passed(answer):
            try:
                claims.append(await stored.claim(row))
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
        size = 0
        for run_id, token, checkpoint in runs:
            arguments += [run_id, token, checkpoint or b""]
            size += len(checkpoint or b"")
        answers = await self._run("requeue", arguments, large=size > LARGE)
        return [answer == _HELD for answer in answers]

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

    async def trim(self) -> int:
        """Take jobs whose records have expired out of the listings; how many."""
        await self.ended.forget(self._ttl_ms)
        return await self._listing.trim()

    # One script for many --------------------------------------------------------------------

    async def finish_all(self, outcomes: list[Outcome]) -> list[bool]:
        """:meth:`finish` of many at once."""
        arguments: list[Argument] = [self._ttl_ms]
        size = 0
        for end in outcomes:
            result = b"" if end.result is None else await stored.pack(end.result)
            size += len(result)
            arguments += [
                end.run_id, end.token, end.status.value, end.retry_in_ms,
                _encode(end.error) if end.error else b"", result,
                _encode(end.progress) if end.progress else b"",
            ]  # fmt: skip
        answers = await self._run("finish", arguments, large=size > LARGE)
        if _SPOILT in answers:
            spoilt = [end.run_id for end, a in zip(outcomes, answers, strict=True) if a == _SPOILT]
            self._log.error("record is spoilt", run_ids=spoilt)
        return [answer == _HELD for answer in answers]

    async def _report_all(self, items: list[Progress]) -> list[bool]:
        arguments: list[Argument] = []
        size = 0
        for item in items:
            progress = _encode(item.progress) if item.progress is not None else b""
            size += len(item.checkpoint or b"")
            arguments += [item.run_id, item.token, progress, item.checkpoint or b""]
        answers = await self._run("progress", arguments, large=size > LARGE)
        return [answer == _HELD for answer in answers]


def _seconds(moment: bytes, now_ms: int) -> float | None:
    return (float(moment) - now_ms) / 1000 if moment else None
