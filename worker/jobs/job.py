"""A job: what is asked for (:class:`NewJob`), what is known of it (:class:`JobRecord`), and what
a worker holds while it runs one (:class:`Claim`) and says at its end (:class:`Outcome`)."""

from collections.abc import Iterable, Mapping
from datetime import datetime
from enum import StrEnum
from types import MappingProxyType
from typing import Any

import msgspec

from control import keys

UNLIMITED: Mapping[str, int] = MappingProxyType({})
"""No kind is limited."""


class JobState(StrEnum):
    """The states of a job."""

    QUEUED = "queued"
    SCHEDULED = "scheduled"
    RUNNING = "running"
    COMPLETED = "completed"
    FAILED = "failed"
    CANCELLED = "cancelled"

    @property
    def finished(self) -> bool:
        """Whether no further transition can come."""
        return self in (JobState.COMPLETED, JobState.FAILED, JobState.CANCELLED)


class JobError(msgspec.Struct, frozen=True, rename={"class_": "class"}):
    """Why a job failed: a class to act on and a message for people, never a stack trace."""

    class_: str
    message: str


class JobRecord(msgspec.Struct, frozen=True, kw_only=True):
    """What is known of a job, as the API shows it. Times are UTC."""

    run_id: str
    kind: str
    status: JobState
    correlation_id: str
    submitted_at: datetime
    started_at: datetime | None = None
    finished_at: datetime | None = None
    attempt: int = 0
    max_attempts: int = 1
    priority: str = "normal"
    run_at: datetime | None = None
    timeout_s: float | None = None
    progress: dict[str, Any] | None = None
    error: JobError | None = None
    worker: str | None = None
    drain_requeues: int = 0
    submitted_by: str = "anonymous"
    parent: str | None = None
    unique: str | None = None


class Spec(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True, gc=False):
    """The part of a job that never changes after its submission; stored as one JSON text."""

    kind: str
    correlation_id: str
    lane: str = "io"
    priority: str = "normal"
    max_attempts: int = 1
    run_at_ms: int | None = None
    timeout_s: float | None = None
    submitted_by: str = "anonymous"
    traceparent: str | None = None
    parent: str | None = None
    """The run id of the job that submitted this one."""
    unique: str | None = None
    """At most one live job of the kind has this key."""
    callback_url: str | None = None


class NewJob(msgspec.Struct, frozen=True, kw_only=True):
    """A submission.

    ``payload`` is the encoded JSON that the kind's function gets. ``idempotency_key`` makes a
    second submission with the same key give the first job back; ``digest`` tells whether its body
    is the same.
    """

    run_id: str
    spec: Spec
    payload: bytes
    idempotency_key: str | None = None
    digest: str = ""


class Accepted(msgspec.Struct, frozen=True):
    """The answer to a submission. ``created`` is false where a key gave an earlier job back;
    ``status`` is what the job was accepted as, or where that earlier one stands now."""

    run_id: str
    created: bool
    status: JobState
    submitted_at: datetime
    correlation_id: str


class Claim(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """A job that this worker may run now. Whoever holds the newest ``token`` may finish it."""

    run_id: str
    token: int
    attempt: int
    spec: Spec
    payload: bytes
    checkpoint: bytes | None = None


class Ask(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """What a worker asks for in one lane of one shard: jobs now, and to be called when one comes.

    ``limits`` and ``known`` are those of :meth:`worker.jobs.manager.JobStateManager.claim`. An
    offer has the number ``offer`` (0: none is made) and is good for one call on the worker's
    :meth:`~control.job_keys.JobKeys.call_channel`, which may bring a job that is claimed already
    where ``direct``. Tell soon that it ``came``, with the next claim, or others take it. A call may
    be lost, or cross with the next claim. So ask with ``known`` while an offer stands: that
    withdraws it, what it brought is among the claims, and a call under its number counts no more.
    """

    worker: str
    lane: str
    count: int
    limits: Mapping[str, int] = UNLIMITED
    known: Iterable[str] | None = None
    offer: int = 0
    direct: bool = False
    came: Claim | None = None


Told = dict[str, Any] | msgspec.Raw
"""How far a job is: an object for people, or its JSON."""


class Outcome(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """How a run ended.

    ``status`` is completed, failed or cancelled; or scheduled, to run again after
    ``retry_in_ms``. ``result`` is encoded JSON and may come with any of them but scheduled.
    """

    run_id: str
    token: int
    status: JobState
    result: bytes | None = None
    error: JobError | None = None
    progress: Told | None = None
    retry_in_ms: int = 0


class Page(msgspec.Struct, frozen=True):
    """A page of a listing, newest first; ``cursor`` fetches the next one, ``None`` at the end."""

    jobs: list[JobRecord]
    cursor: str | None


class Progress(msgspec.Struct, frozen=True):
    """What a running job reports: an object for people, a checkpoint for its next attempt."""

    run_id: str
    token: int
    progress: Told | None = None
    checkpoint: bytes | None = None


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


class JobEvent(msgspec.Struct, frozen=True):
    """One event of a job. ``type`` is status, progress or end; ``data`` is JSON text.

    ``id`` is the revision of the job's record that the event made.
    """

    id: str
    type: str
    data: str

    @property
    def number(self) -> int:
        """The id as a number."""
        return int(self.id)

    @classmethod
    def parse(cls, text: bytes) -> "JobEvent":
        """From ``id LF type LF data``, as it is published."""
        return cls(*text.decode().split("\n", 2))


def priority_name(value: str | int) -> str:
    """``high``, ``normal`` or ``low`` from a name or from 0–9, where 9 is the most urgent.

    Raises :class:`ValueError`.
    """
    if isinstance(value, str) and value in keys.PRIORITIES:
        return value
    if isinstance(value, int) and not isinstance(value, bool) and 0 <= value <= 9:
        return "low" if value <= 3 else "normal" if value <= 6 else "high"
    raise ValueError("must be high, normal or low, or a number from 0 to 9 (9 is the most urgent)")
