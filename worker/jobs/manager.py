"""The state of every job, in Redis. Each transition is one Lua script: it happens or it does not.

The service creates, reads, lists and cancels jobs; workers claim, renew, finish and give back. Who
holds a job is told by its newest fencing token: a claim makes one, and what comes under an older
one is refused. Methods raise :class:`control.errors.StoreUnavailable` where Redis cannot be used.
"""

import asyncio
from collections import Counter
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from functools import partial
from typing import Any, Self, TypeVar

import msgspec
from redis.asyncio import Redis

from control import ids, logs
from control.config import JobsSection
from control.job_keys import shard_of_kind, shards
from control.stores.servers import Servers
from worker.jobs import stored
from worker.jobs.batcher import Batcher
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
    UNLIMITED,
    Accepted,
    Ask,
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
from worker.jobs.scripts import passed
from worker.jobs.shard import Shard
from worker.jobs.timetable import Periodic

_LOST = JobError("WorkerLost", "every worker that ran this job was lost, up to its last attempt")
_encode = msgspec.json.Encoder().encode
Item = TypeVar("Item")
Answer = TypeVar("Answer")


class JobStateManager:
    """All that may happen to a job. Concurrent calls of a kind share their round trips.

    A job counts as accepted once ``replicas`` of Redis have it too, within ``replicas_within_s``.
    On a Cluster the jobs may be divided into shards; what workers do with many jobs at a time they
    do with one shard.
    """

    def __init__(
        self,
        redis: Redis,
        *others: Redis,
        result_ttl_s: int,
        lease_s: float,
        replicas: int = 0,
        replicas_within_s: float = 1.0,
    ) -> None:
        """``redis`` leads to the jobs; with ``others``, each of them to one shard, in order."""
        places = (redis, *others)
        self._log = logs.get(__name__)
        self._ttl_ms = int(result_ttl_s * 1000)
        self._lease_ms = int(lease_s * 1000)
        self.shards = tuple(
            Shard(
                place, keys, number, len(places), ttl_ms=self._ttl_ms, replicas=replicas,
                replicas_within_s=replicas_within_s,
            )
            for number, (place, keys) in enumerate(zip(places, shards(len(places)), strict=True))
        )  # fmt: skip
        self._listing = Listing(self.shards, ttl_ms=self._ttl_ms)
        self._finish = [
            Batcher(shard.finish, weight=lambda end: len(end.result or b""))
            for shard in self.shards
        ]
        self._report = [
            Batcher(shard.report, weight=lambda item: len(item.checkpoint or b""))
            for shard in self.shards
        ]
        self.timetable, self.ended = self.shards[0].timetable, self.shards[0].ended

    @classmethod
    def of(cls, redis: Redis, section: JobsSection, *others: Redis) -> Self:
        """As the configuration says."""
        return cls(
            redis, *others, result_ttl_s=section.result_ttl_s, lease_s=section.lease_s,
            replicas=section.wait_replicas, replicas_within_s=section.wait_timeout_s,
        )  # fmt: skip

    @classmethod
    def on(cls, servers: Servers, section: JobsSection) -> Self:
        """The same, with a client for each shard that the configuration wants."""
        redis, *others = (servers.commands(keys.prefix) for keys in shards(section.shards))
        return cls.of(redis, section, *others)

    @property
    def accepted(self) -> Counter[str]:
        """Jobs that were created here, by kind."""
        return sum((shard.submissions.accepted for shard in self.shards), Counter())

    def new_id(self, kind: str) -> str:
        """A run id for a job of ``kind``; it tells the shard where that lies."""
        made, count = ids.new_id(), len(self.shards)
        return made if count == 1 else ids.with_last_digit(made, shard_of_kind(kind, count), count)

    def shard_of(self, run_id: str) -> int:
        """The number of the shard to which a job belongs."""
        return 0 if len(self.shards) == 1 else ids.last_digit(run_id) % len(self.shards)

    def _home(self, run_id: str) -> Shard:
        return self.shards[self.shard_of(run_id)]

    def _maker(self, new: NewJob) -> Shard:
        """Where a new job goes. Raises :class:`ValueError` where its id says otherwise."""
        number, count = self.shard_of(new.run_id), len(self.shards)
        if count > 1 and number != shard_of_kind(new.spec.kind, count):
            raise ValueError("the run id is of another shard: new_id(kind) makes a good one")
        return self.shards[number]

    # What callers of the API need -----------------------------------------------------------

    async def create_job(self, new: NewJob) -> Accepted:
        """Accept a job, durably. Calling again with the same run id changes nothing.

        While a live job of its kind has the same unique key, that one is the answer. Raises
        :class:`BridgeUp` under maintenance, :class:`ControlStateStale` where Redis does not tell,
        and :class:`KeyReused` where the idempotency key made a job from another body.
        """
        return await self._maker(new).submissions.one(new)

    async def create_jobs(
        self, many: Sequence[NewJob], *, within_s: float | None = None
    ) -> list[Accepted | Exception]:
        """:meth:`create_job` of many, in few commands: what each was accepted as, or what that
        would have raised; :class:`StoreUnavailable` too where no answer came ``within_s``."""
        for new in many:
            self._maker(new)
        create = partial(Shard.create, within_s=within_s)
        return await self._divided(many, lambda new: new.run_id, create)

    async def get_job(self, run_id: str) -> JobRecord | None:
        """The record, or ``None`` where the id is unknown or the record has expired."""
        home = self._home(run_id)
        values = await home.wire("HMGET", home.keys.job(run_id), *stored.FIELDS)
        return stored.record(run_id, values)

    async def get_result(self, run_id: str) -> bytes | None:
        """The JSON text that the kind's function returned, or ``None`` where there is none."""
        home = self._home(run_id)
        found = await home.wire("HGET", home.keys.job(run_id), "result")
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
        answer = await self._home(run_id).run("cancel", [self._ttl_ms, run_id])
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
        answer = await self._home(run_id).run("rerun", [run_id])
        if answer is None:
            raise UnknownJob(run_id)
        status, done, holder = (part.decode() for part in passed(answer))
        if holder:
            raise UniqueKeyTaken(run_id, holder)
        if done == "0":
            raise JobNotFailed(run_id, JobState(status))

    async def events_after(self, run_id: str, last_id: str | None) -> list[JobEvent]:
        """What is known of a job now, as events; those after ``last_id`` (``None``: all)."""
        home = self._home(run_id)
        values = await home.wire("HMGET", home.keys.job(run_id), *stored.EVENT_FIELDS)
        events = stored.events(run_id, values) or []
        return [event for event in events if event.number > int(last_id or 0)]

    async def follow(self, run_id: str) -> list[JobEvent] | None:
        """What is known of a job now, as events, or ``None`` where there is no such job. From now
        on its changes are published on its channel."""
        fields = [run_id, *stored.EVENT_FIELDS]
        return stored.events(run_id, await self._home(run_id).run("follow", fields))

    async def schedules(self) -> list[Periodic]:
        """The periodic kinds, the next one first."""
        found = await asyncio.gather(*(shard.timetable.list() for shard in self.shards))
        return sorted((one for each in found for one in each), key=lambda one: one.next_run_at)

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
        limits: Mapping[str, int] = UNLIMITED,
        known: Iterable[str] | None = None,
        shard: int = 0,
    ) -> list[Claim]:
        """Up to ``count`` jobs of ``lane`` in a shard, now this worker's.

        ``limits`` are how many jobs of a kind may run at once in the whole fleet; what is above
        waits, without holding up other kinds, and the end of a run rings for it.
        After a claim whose answer was lost, ``known`` (the run ids that did reach the worker)
        brings the others. Raises :class:`BridgeUp`, :class:`ControlStateStale`, and
        :class:`WorkerLost` without a live lease.
        """
        ask = Ask(worker=worker, lane=lane, count=count, limits=limits, known=known)
        claims, _ = await self.claim_or_wait(ask, shard=shard)
        return claims

    async def claim_or_wait(self, ask: Ask, *, shard: int = 0) -> tuple[list[Claim], bool]:
        """:meth:`claim`, and where fewer wait, offer to take one that comes, in the same step; and
        whether that offer stands."""
        return await self.shards[shard].claim(ask)

    async def withdraw(
        self, worker: str, lane: str, known: Iterable[str], *, shard: int = 0
    ) -> int:
        """Withdraw a worker's offer, and give back, uncharged, the jobs of ``lane`` that are its
        and not among ``known``: those that never reached it; how many."""
        return await self.shards[shard].withdraw(worker, lane, known)

    async def heartbeat(
        self, worker: str, running: Iterable[str], *, join: bool = False, shard: int = 0
    ) -> Beat:
        """Renew the worker's lease in a shard (``join``: take the first one).

        Raises :class:`WorkerLost` where it ran out: others have, or will have, its jobs.
        """
        run = self.shards[shard].run
        answer = await run("heartbeat", [worker, self._lease_ms, int(join), *running])
        if answer == b"lost":
            raise WorkerLost(f"the lease of worker {worker} ran out")
        due, lease, stop, now = answer
        return Beat(now, _seconds(due, now), _seconds(lease, now), [r.decode() for r in stop])

    async def finish(self, outcome: Outcome) -> bool:
        """End a run; false where its token is no longer the newest, and nothing happened."""
        return await self._finish[self.shard_of(outcome.run_id)](outcome)

    async def report(self, item: Progress) -> bool:
        """Store progress or a checkpoint; false where the token is no longer the newest."""
        return await self._report[self.shard_of(item.run_id)](item)

    async def requeue(
        self, runs: Sequence[tuple[str, int, bytes | None]], *, drained: bool
    ) -> list[bool]:
        """Give back ``(run_id, token, checkpoint)``, uncharged, to the head of the line."""

        give = partial(Shard.requeue, drained=drained)
        return await self._divided(runs, lambda run: run[0], give)

    async def promote(self, most: int = 256, *, shard: int = 0) -> tuple[int, float | None]:
        """Queue scheduled jobs that are due: how many, and seconds until the next one."""
        count, due, now = await self.shards[shard].run("promote", [most])
        return count, _seconds(due, now)

    async def rescue(
        self, beat_ms: int, *, within_s: float, shard: int = 0
    ) -> list[Rescued] | None:
        """Take the jobs of workers whose leases ran out, as a worker whose own link is good.

        ``beat_ms`` is :attr:`Beat.at_ms` of its last heartbeat. ``None`` where that is more than
        ``within_s`` ago by Redis's clock: the others may have been held up just as well.
        """
        answer = await self.shards[shard].run(
            "rescue", [self._ttl_ms, _encode(_LOST), beat_ms, int(within_s * 1000)]
        )
        if answer == b"late":
            return None
        return [Rescued(*(part.decode() for part in row)) for row in answer]

    async def leave(self, worker: str) -> int:
        """End the worker's leases; how many jobs it left behind for others to rescue at once."""
        return sum(await asyncio.gather(*(each.run("leave", [worker]) for each in self.shards)))

    async def trim(self) -> int:
        """Take jobs whose records have expired out of the listings; how many."""
        for shard in self.shards:
            await shard.ended.forget(self._ttl_ms)
        return await self._listing.trim()

    # One script for many --------------------------------------------------------------------

    async def finish_all(self, outcomes: Sequence[Outcome]) -> list[bool]:
        """:meth:`finish` of many at once."""
        return await self._divided(outcomes, lambda end: end.run_id, Shard.finish)

    async def _divided(
        self,
        items: Sequence[Item],
        run_id: Callable[[Item], str],
        send: Callable[[Shard, Sequence[Item]], Awaitable[list[Answer]]],
    ) -> list[Answer]:
        """Each item sent where its job belongs, and the answers in order."""
        if len(self.shards) == 1:
            return await send(self.shards[0], items)
        places = [self.shard_of(run_id(item)) for item in items]
        parts = {
            number: [item for item, place in zip(items, places, strict=True) if place == number]
            for number in sorted(set(places))
        }
        answers = await asyncio.gather(
            *(send(self.shards[number], part) for number, part in parts.items())
        )
        answer = {number: iter(each) for number, each in zip(parts, answers, strict=True)}
        return [next(answer[place]) for place in places]


def _seconds(moment: bytes, now_ms: int) -> float | None:
    return (float(moment) - now_ms) / 1000 if moment else None
