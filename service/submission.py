"""From a checked request to an accepted job: what every kind's submission has in common."""

import asyncio
import hashlib
from collections.abc import Callable
from datetime import datetime
from functools import cache
from typing import Annotated, TypeVar, cast

import msgspec
from aiohttp import web
from msgspec import Meta

from control import ids
from control.errors import InvalidInput
from service import auth, deadline, inputs
from service.appkeys import JOBS, REQUEST_ID
from service.handlers.jobs import JobHandlers, Links, answer
from worker.jobs.job import JobState, NewJob, Spec, priority_name
from worker.jobs.kinds import Kind

T = TypeVar("T")
_IN_A_THREAD_FROM = 64 << 10

RunAt = Annotated[str, Meta(extra_json_schema={"format": "date-time"})]


class Terms(msgspec.Struct, kw_only=True, forbid_unknown_fields=True):
    """How a job is to be run."""

    priority: str | int = "normal"
    run_at: RunAt | None = None
    timeout_s: Annotated[float, Meta(gt=0, le=31_536_000)] | None = None
    max_attempts: Annotated[int, Meta(ge=1, le=100)] | None = None
    callback_url: str | None = None


class Receipt(msgspec.Struct, frozen=True):
    """What a submission is answered with."""

    run_id: str
    status: JobState
    correlation_id: str
    submitted_at: datetime
    links: Links


@cache
def with_terms(kind: Kind) -> type[Terms]:
    """The body of a submission: the fields of the kind's payload beside those of :class:`Terms`."""
    own = [
        (field.name, field.type, _default(field)) for field in msgspec.structs.fields(kind.payload)
    ]
    name = f"{kind.name.title()}Submission"
    made = msgspec.defstruct(name, own, bases=(Terms,), kw_only=True, forbid_unknown_fields=True)
    return cast(type[Terms], made)


def payload_of(kind: Kind, submission: Terms) -> object:
    """The part of a submission that the kind's function gets."""
    names = [field.name for field in msgspec.structs.fields(kind.payload)]
    return kind.payload(**{name: getattr(submission, name) for name in names})


async def off_loop(size: int, work: Callable[[], T]) -> T:
    """``work()``, in a thread where ``size`` bytes would hold up the loop."""
    return await asyncio.to_thread(work) if size >= _IN_A_THREAD_FROM else work()


async def submit(
    request: web.Request, family: JobHandlers, kind: Kind, payload: bytes, terms: Terms
) -> web.Response:
    """Accept the job: 202, or 200 with the first job where the Idempotency-Key had made one."""
    jobs = request.app[JOBS]
    new = NewJob(
        run_id=ids.new_id(),
        spec=_spec(request, kind, terms),
        payload=payload,
        idempotency_key=inputs.idempotency_key(request),
        digest=await off_loop(len(payload), lambda: _digest(payload, terms)),
    )
    async with deadline.redis(sending=len(payload)):
        accepted = await jobs.create_job(new)
    receipt = Receipt(
        accepted.run_id,
        accepted.status,
        accepted.correlation_id,
        accepted.submitted_at,
        family.links(accepted.run_id),
    )
    location = f"{family.path}/{accepted.run_id}"
    return answer(receipt, 202 if accepted.created else 200, Location=location)


def _spec(request: web.Request, kind: Kind, terms: Terms) -> Spec:
    if terms.callback_url is not None:
        raise InvalidInput("is not available yet; follow the job's events", "callback_url")
    try:
        priority = priority_name(terms.priority)
    except ValueError as error:
        raise InvalidInput(str(error), "priority") from None
    return Spec(
        kind=kind.name,
        correlation_id=request[REQUEST_ID],
        lane=kind.lane,
        priority=priority,
        max_attempts=terms.max_attempts or kind.max_attempts,
        run_at_ms=None if terms.run_at is None else inputs.moment_ms(terms.run_at, "run_at"),
        timeout_s=terms.timeout_s or kind.timeout_s,
        submitted_by=auth.caller(request),
        traceparent=inputs.traceparent(request),
    )


def _digest(payload: bytes, terms: Terms) -> str:
    """Tells whether two submissions under one Idempotency-Key ask for the same."""
    asked = (terms.priority, terms.run_at, terms.timeout_s, terms.max_attempts)
    digest = hashlib.sha256(payload)
    digest.update(msgspec.json.encode(asked))
    return digest.hexdigest()


def _default(field: msgspec.structs.FieldInfo) -> object:
    if field.default_factory is not msgspec.NODEFAULT:
        return msgspec.field(default_factory=field.default_factory)
    return msgspec.field() if field.default is msgspec.NODEFAULT else field.default
