"""From a checked request to an accepted job: what every kind's submission has in common."""

import asyncio
import hashlib
import re
from collections.abc import Callable, Sequence
from datetime import datetime
from functools import cache
from typing import Annotated, TypeVar, cast

import msgspec
from aiohttp import web
from msgspec import Meta

from control.errors import DrawbridgeError, InvalidInput, StoreUnavailable
from service import auth, deadline, inputs, problems
from service.appkeys import CALLBACKS, JOBS, REQUEST_ID, RUN_ID
from service.handlers.jobs import JobHandlers, Links, answer
from service.problems import Problem
from worker.jobs.job import Accepted, JobState, NewJob, Spec, priority_name
from worker.jobs.kinds import Kind
from worker.jobs.manager import JobStateManager

T = TypeVar("T")
MOST_AT_ONCE = 1_000
"""Jobs in one batch."""

_IN_A_THREAD_FROM = 64 << 10
_NATURAL = re.compile(r"0|[1-9][0-9]*")

Unique = Annotated[
    str,
    Meta(
        min_length=1,
        max_length=255,
        description="While a job of this kind with the same key has not ended, it is the answer.",
    ),
]
RunAt = Annotated[str, Meta(extra_json_schema={"format": "date-time"})]

CallbackUrl = Annotated[str, Meta(extra_json_schema={"format": "uri"})]


class Terms(msgspec.Struct, kw_only=True, forbid_unknown_fields=True):
    """How a job is to be run."""

    priority: str | int = "normal"
    run_at: RunAt | None = None
    timeout_s: Annotated[float, Meta(gt=0, le=31_536_000)] | None = None
    max_attempts: Annotated[int, Meta(ge=1, le=100)] | None = None
    callback_url: CallbackUrl | None = None
    unique: Unique | None = None


class Receipt(msgspec.Struct, frozen=True):
    """What a submission is answered with."""

    run_id: str
    status: JobState
    correlation_id: str
    submitted_at: datetime
    links: Links


class Receipts(msgspec.Struct, frozen=True):
    """What a batch is answered with: a receipt for each submission, in their order."""

    jobs: list[Receipt]


class Asked(msgspec.Struct, frozen=True):
    """One checked submission: the encoded payload, and how to run it."""

    payload: bytes
    terms: Terms
    spec: Spec


class Caller(msgspec.Struct, frozen=True):
    """Who submits, and what their jobs carry along."""

    name: str
    correlation_id: str
    traceparent: str | None

    @classmethod
    def of(cls, request: web.Request) -> "Caller":
        """The caller of ``request``."""
        return cls(auth.caller(request), request[REQUEST_ID], inputs.traceparent(request))


@cache
def with_terms(kind: Kind) -> type[Terms]:
    """The body of a submission: the fields of the kind's payload beside those of :class:`Terms`."""
    own = [
        (field.name, field.type, _default(field)) for field in msgspec.structs.fields(kind.payload)
    ]
    name = f"{kind.name.title()}Submission"
    made = msgspec.defstruct(name, own, bases=(Terms,), kw_only=True, forbid_unknown_fields=True)
    return cast(type[Terms], made)


def numeric_priority(terms: Terms) -> None:
    """In a query every value is text; a priority that is a number is meant as one."""
    if isinstance(terms.priority, str) and _NATURAL.fullmatch(terms.priority):
        terms.priority = int(terms.priority[:2])


def payload_of(kind: Kind, submission: Terms) -> object:
    """The part of a submission that the kind's function gets."""
    names = [field.name for field in msgspec.structs.fields(kind.payload)]
    return kind.payload(**{name: getattr(submission, name) for name in names})


async def off_loop(size: int, work: Callable[[], T]) -> T:
    """``work()``, in a thread where ``size`` bytes would hold up the loop."""
    return await asyncio.to_thread(work) if size >= _IN_A_THREAD_FROM else work()


def asked(caller: Caller, kind: Kind, payload: bytes, terms: Terms) -> Asked:
    """A submission whose payload is checked, its terms checked too. Raises InvalidInput."""
    return Asked(payload, terms, _spec(caller, kind, terms))


async def submit(
    request: web.Request,
    family: JobHandlers,
    one: Asked,
    *,
    run_id: str | None = None,
) -> web.Response:
    """Accept the job: 202, or 200 with the first job where the Idempotency-Key had made one or the
    unique key has one that has not ended.

    ``run_id`` is what it is to be called, where something has that name already.
    """
    jobs, key = request.app[JOBS], inputs.idempotency_key(request)
    await request.app[CALLBACKS].require([one.spec.callback_url])
    digest = await off_loop(len(one.payload), lambda: _digest([one])) if key else ""
    new = _new_job(jobs, one, key, digest, run_id)
    async with deadline.redis(sending=len(one.payload)):
        accepted = await jobs.create_job(new)
    receipt = _receipt(family, accepted)
    request[RUN_ID] = receipt.run_id
    location = f"{family.path}/{receipt.run_id}"
    return answer(receipt, 202 if accepted.created else 200, Location=location)


async def submit_all(
    request: web.Request, family: JobHandlers, many: Sequence[Asked]
) -> web.Response:
    """Accept all of them: 202, or 200 where the Idempotency-Key had made every one before.

    Each has a key of its own, made from the batch's and its place, and the digest of the whole
    batch: so the first one tells whether the key was used for another batch, and a batch that
    Redis left half accepted may be sent again. Raises :class:`Problem` saying what was accepted.
    """
    jobs, key = request.app[JOBS], inputs.idempotency_key(request)
    await request.app[CALLBACKS].require([one.spec.callback_url for one in many], numbered=True)
    size = sum(len(one.payload) for one in many)
    digest = await off_loop(size, lambda: _digest(many)) if key else ""
    new = [
        _new_job(jobs, one, None if key is None else f"{key}\n{at}", digest)
        for at, one in enumerate(many)
    ]
    ends: list[Accepted | Exception] = []
    if key is not None:
        async with deadline.redis():
            ends.append(await jobs.create_job(new[0]))
    ends += await jobs.create_jobs(new[len(ends) :], within_s=deadline.redis_s(size))
    accepted = [end for end in ends if isinstance(end, Accepted)]
    if len(accepted) < len(ends):
        raise _half_done(new, ends)
    receipts = Receipts([_receipt(family, each) for each in accepted])
    return answer(receipts, 202 if any(each.created for each in accepted) else 200)


def _half_done(new: Sequence[NewJob], ends: Sequence[Accepted | Exception]) -> Exception:
    """What to raise where not every job of a batch was accepted, as far as that is known."""
    errors = [end for end in ends if isinstance(end, Exception)]
    worst = next((each for each in errors if not isinstance(each, DrawbridgeError)), errors[0])
    problem = problems.of(worst)
    accepted, unknown = [], []
    for at, (job, end) in enumerate(zip(new, ends, strict=True)):
        if isinstance(end, Accepted):
            accepted.append({"index": at, "run_id": end.run_id})
        elif isinstance(end, StoreUnavailable):  # its answer may have been lost on the way
            unknown.append({"index": at, "run_id": job.run_id})
    if problem is None or not (accepted or unknown):
        return worst
    detail = (
        f"{problem.detail} {len(accepted)} of {len(new)} jobs were accepted, "
        f"of {len(unknown)} it is not known."
    )
    members = {**problem.members, "accepted": accepted, "unknown": unknown}
    return Problem(problem.type, detail, members, problem.headers, problem.status)


def _receipt(family: JobHandlers, accepted: Accepted) -> Receipt:
    return Receipt(
        accepted.run_id,
        accepted.status,
        accepted.correlation_id,
        accepted.submitted_at,
        family.links(accepted.run_id),
    )


def _new_job(
    jobs: JobStateManager, one: Asked, key: str | None, digest: str, run_id: str | None = None
) -> NewJob:
    return NewJob(
        run_id=run_id or jobs.new_id(one.spec.kind),
        spec=one.spec,
        payload=one.payload,
        idempotency_key=key,
        digest=digest,
    )


def _spec(caller: Caller, kind: Kind, terms: Terms) -> Spec:
    try:
        priority = priority_name(terms.priority)
    except ValueError as error:
        raise InvalidInput(str(error), "priority") from None
    return Spec(
        kind=kind.name,
        correlation_id=caller.correlation_id,
        lane=kind.lane,
        priority=priority,
        max_attempts=terms.max_attempts or kind.max_attempts,
        run_at_ms=None if terms.run_at is None else inputs.moment_ms(terms.run_at, "run_at"),
        timeout_s=terms.timeout_s or kind.timeout_s,
        submitted_by=caller.name,
        traceparent=caller.traceparent,
        callback_url=terms.callback_url,
        unique=terms.unique,
    )


def _digest(submissions: Sequence[Asked]) -> str:
    """Tells whether two requests under one Idempotency-Key ask for the same."""
    digest = hashlib.sha256()
    for one in submissions:
        terms = one.terms
        stated = [
            terms.priority, terms.run_at, terms.timeout_s, terms.max_attempts, terms.unique,
            terms.callback_url,
        ]  # fmt: skip
        digest.update(hashlib.sha256(one.payload).digest())
        digest.update(msgspec.json.encode(stated))
    return digest.hexdigest()


def _default(field: msgspec.structs.FieldInfo) -> object:
    if field.default_factory is not msgspec.NODEFAULT:
        return msgspec.field(default_factory=field.default_factory)
    return msgspec.field() if field.default is msgspec.NODEFAULT else field.default
