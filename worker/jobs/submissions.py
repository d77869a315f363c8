"""Submissions on their way to Redis: those that come at the same time share a command, and many
that come together take few."""

import asyncio
from collections import Counter
from collections.abc import Iterator, Sequence
from hashlib import sha256
from typing import Any

import msgspec

from control.clock import from_ms
from control.errors import StoreUnavailable
from control.stores.line import Argument
from worker.jobs import stored
from worker.jobs.batcher import Batcher
from worker.jobs.errors import KeyReused
from worker.jobs.job import Accepted, JobState, NewJob, Spec
from worker.jobs.scripts import LARGE, Scripts, passed

_PORTION, _HEAVIEST = 128, 8 << 20
"""Submissions in one command of :meth:`Submissions.many` at most, and bytes of their payloads."""

_encode = msgspec.json.Encoder().encode
_spec = msgspec.json.Decoder(Spec).decode


class Submissions:
    """``run`` calls ``accept.lua``; idempotency keys are kept for ``ttl_ms``."""

    def __init__(self, run: Scripts, *, ttl_ms: int) -> None:
        self._run = run
        self._ttl_ms = ttl_ms
        self._accept = Batcher(self._accept_all, weight=lambda pair: len(pair[1]))
        self.accepted: Counter[str] = Counter()
        """Jobs that were created here, by kind."""

    async def one(self, new: NewJob) -> Accepted:
        """See :meth:`worker.jobs.manager.JobStateManager.create_job`."""
        return self._accepted(new, await self._accept((new, await stored.pack(new.payload))))

    async def many(
        self, jobs: Sequence[NewJob], within_s: float | None
    ) -> list[Accepted | Exception]:
        """See :meth:`worker.jobs.manager.JobStateManager.create_jobs`."""
        portions, tasks = list(_portions(jobs)), []
        for some in portions:
            tasks.append(asyncio.create_task(self._create(some)))
            await asyncio.sleep(0)  # it goes out, and Redis works while the next one is made
        try:
            if tasks:
                await asyncio.wait(tasks, timeout=within_s)
        finally:
            for task in tasks:
                task.cancel()
            ends = await asyncio.gather(*tasks, return_exceptions=True)
        told: list[Accepted | Exception] = []
        for some, end in zip(portions, ends, strict=True):
            if isinstance(end, list):
                told += end
            elif isinstance(end, Exception):
                told += [end] * len(some)
            else:
                told += [StoreUnavailable("redis", "no answer in time")] * len(some)
        return told

    async def _create(self, some: Sequence[NewJob]) -> list[Accepted | Exception]:
        answers = await self._accept_all([(new, await stored.pack(new.payload)) for new in some])
        told: list[Accepted | Exception] = []
        for new, answer in zip(some, answers, strict=True):
            try:
                told.append(self._accepted(new, answer))
            except KeyReused as error:
                told.append(error)
        return told

    async def _accept_all(self, jobs: list[tuple[NewJob, bytes]]) -> list[Any]:
        arguments: list[Argument] = [self._ttl_ms]
        size = 0
        for new, payload in jobs:
            spec = new.spec
            key = f"{spec.submitted_by}\n{spec.kind}\n{new.idempotency_key}"
            size += len(payload)
            arguments += [
                new.run_id, spec.kind, spec.lane, spec.priority,
                "" if spec.run_at_ms is None else spec.run_at_ms,
                _digest(key) if new.idempotency_key else "", new.digest,
                _digest(f"{spec.kind}\n{spec.unique}") if spec.unique else "",
                _encode(spec), payload,
            ]  # fmt: skip
        return passed(await self._run("accept", arguments, large=size > LARGE))

    def _accepted(self, new: NewJob, answer: Any) -> Accepted:
        """What ``accept.lua`` said of a job. Raises :class:`KeyReused`."""
        if answer == b"conflict":
            raise KeyReused
        if isinstance(answer, int):
            self.accepted[new.spec.kind] += 1
            later = new.spec.run_at_ms is not None and new.spec.run_at_ms > answer
            status = JobState.SCHEDULED if later else JobState.QUEUED
            return Accepted(new.run_id, True, status, from_ms(answer), new.spec.correlation_id)
        run_id, status, submitted_ms, spec = answer
        return Accepted(
            run_id.decode(), False, JobState(status.decode()), from_ms(submitted_ms),
            _spec(spec).correlation_id,
        )  # fmt: skip


def _portions(jobs: Sequence[NewJob]) -> Iterator[Sequence[NewJob]]:
    """So many at a time that a command is neither long nor heavy."""
    begin = size = 0
    for at, new in enumerate(jobs):
        if at > begin and (at - begin == _PORTION or size + len(new.payload) > _HEAVIEST):
            yield jobs[begin:at]
            begin, size = at, 0
        size += len(new.payload)
    if begin < len(jobs):
        yield jobs[begin:]


def _digest(key: str) -> str:
    return sha256(key.encode()).hexdigest()
