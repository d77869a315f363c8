"""The part of the jobs that lies under one hash tag: its connections, its scripts.

Mostly it is all of the jobs. See :mod:`control.job_keys` for which job belongs where.
"""

import zlib
from collections.abc import Iterable, Sequence

import msgspec
from redis.asyncio import Redis

from control import logs
from control.job_keys import JobKeys
from control.stores.line import Argument
from control.stores.wire import ReplicatedWire, Wire
from worker.jobs import stored
from worker.jobs.ended import EndedJobs
from worker.jobs.errors import WorkerLost
from worker.jobs.job import (
    Accepted,
    Ask,
    Claim,
    JobError,
    JobState,
    NewJob,
    Outcome,
    Progress,
)
from worker.jobs.scripts import LARGE, Scripts, passed
from worker.jobs.submissions import Submissions
from worker.jobs.timetable import Timetable

_CORRUPT = JobError("CorruptJob", "its record or its payload in Redis cannot be read")
_encode = msgspec.json.Encoder().encode
_HELD, _SPOILT = 1, -1
"""What finish and requeue answer for a run; 0 for one that belongs to somebody else by now."""


class Shard:
    """One of ``count``, the ``number``-th. ``redis`` leads to where its keys lie.

    A job counts as accepted once ``replicas`` of Redis have it too, within ``replicas_within_s``.
    """

    def __init__(
        self,
        redis: Redis,
        keys: JobKeys,
        number: int,
        count: int,
        *,
        ttl_ms: int,
        replicas: int,
        replicas_within_s: float,
    ) -> None:
        self.keys = keys
        self._ttl_ms = ttl_ms
        self._log = logs.get(__name__)
        self.wire = Wire(redis)
        self.run = accept = Scripts(self.wire, redis, keys.prefix)
        if replicas:
            wire = ReplicatedWire(redis, replicas=replicas, within_s=replicas_within_s)
            accept = Scripts(wire, wire, keys.prefix)
        self.submissions = Submissions(accept, ttl_ms=ttl_ms)
        self.timetable = Timetable(self.wire, self.run, keys, number, count)
        self.ended = EndedJobs(self.run)

    async def create(
        self, many: Sequence[NewJob], *, within_s: float | None
    ) -> list[Accepted | Exception]:
        """See :meth:`worker.jobs.manager.JobStateManager.create_jobs`."""
        return await self.submissions.many(many, within_s)

    async def claim(self, ask: Ask) -> tuple[list[Claim], bool]:
        """See :meth:`worker.jobs.manager.JobStateManager.claim_or_wait`."""
        came = _handed(ask.came) if ask.came else ""
        arguments: list[Argument] = [
            ask.worker, ask.lane, ask.count, _encode(dict(ask.limits)), ask.offer, int(ask.direct),
            came, int(ask.known is not None), *(ask.known or ()),
        ]  # fmt: skip
        answer = await self.run("claim", arguments, again=False)
        if answer == b"lost":
            raise WorkerLost(f"worker {ask.worker} has no lease")
        stands, rows = passed(answer)
        claims = []
        for row in rows:
            try:
                claims.append(await stored.claim(row))
            except (msgspec.DecodeError, zlib.error, TypeError):
                # Bytes that somebody else wrote, or lost: this job cannot run, the others can.
                run_id, token = row[0].decode(), row[1]
                self._log.error("job is corrupt", run_id=run_id)
                end = Outcome(run_id=run_id, token=token, status=JobState.FAILED, error=_CORRUPT)
                await self.finish([end])
        return claims, bool(stands)

    async def withdraw(self, worker: str, lane: str, known: Iterable[str]) -> int:
        """See :meth:`worker.jobs.manager.JobStateManager.withdraw`."""
        count: int = await self.run("withdraw", [self._ttl_ms, worker, lane, *known])
        return count

    async def say_came(self, claim: Claim) -> None:
        """Tell that a job that a call brought did come, where no claim would tell it soon."""
        await self.wire("ZREM", self.keys.handed, _handed(claim))

    async def finish(self, outcomes: Sequence[Outcome]) -> list[bool]:
        """See :meth:`worker.jobs.manager.JobStateManager.finish`; of many."""
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
        answers = await self.run("finish", arguments, large=size > LARGE)
        if _SPOILT in answers:
            spoilt = [end.run_id for end, a in zip(outcomes, answers, strict=True) if a == _SPOILT]
            self._log.error("record is spoilt", run_ids=spoilt)
        return [answer == _HELD for answer in answers]

    async def report(self, items: Sequence[Progress]) -> list[bool]:
        """See :meth:`worker.jobs.manager.JobStateManager.report`; of many."""
        arguments: list[Argument] = []
        size = 0
        for item in items:
            progress = _encode(item.progress) if item.progress is not None else b""
            size += len(item.checkpoint or b"")
            arguments += [item.run_id, item.token, progress, item.checkpoint or b""]
        answers = await self.run("progress", arguments, large=size > LARGE)
        return [answer == _HELD for answer in answers]

    async def requeue(
        self, runs: Sequence[tuple[str, int, bytes | None]], *, drained: bool
    ) -> list[bool]:
        """See :meth:`worker.jobs.manager.JobStateManager.requeue`."""
        arguments: list[Argument] = [self._ttl_ms, int(drained)]
        size = 0
        for run_id, token, checkpoint in runs:
            arguments += [run_id, token, checkpoint or b""]
            size += len(checkpoint or b"")
        answers = await self.run("requeue", arguments, large=size > LARGE)
        return [answer == _HELD for answer in answers]


def _handed(claim: Claim) -> str:
    return f"{claim.run_id} {claim.token}"
