"""From a request that changes a flag to what became of it; the same for every route that does."""

import math
from datetime import datetime
from typing import Annotated, Any, Literal

import msgspec
from aiohttp import web
from msgspec import UNSET, Meta, UnsetType

from control.errors import InvalidInput, StoreUnavailable
from control.flags import commands
from control.flags.acknowledgement import Acknowledgement
from control.flags.commands import Verb
from control.flags.document import MAINTENANCE, Document, Mode
from control.flags.outcome import Outcome, Verdict
from control.flags.presence import ReplicaReport
from service import auth, inputs
from service.appkeys import FLAGS, PLANE, REQUEST_ID
from service.problems import (
    ACKNOWLEDGEMENT_TIMEOUT,
    DEBOUNCED,
    INVALID,
    KEY_REUSED,
    NOT_FOUND,
    VERSION_MISMATCH,
    Problem,
)

SOON_S = 2.0
"""``Retry-After`` of a debounced change where nobody said more."""


class Waiting(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Whether to answer only when every live instance has confirmed, and for how many seconds."""

    wait: Literal["applied", "quiesced"] | None = None
    timeout: Annotated[float, Meta(ge=0.1, le=600)] = 10.0


class Acknowledged(msgspec.Struct, frozen=True):
    """How many live instances have confirmed the change, and which have not."""

    complete: bool
    replicas: int
    stragglers: list[ReplicaReport]


class Changed(msgspec.Struct, frozen=True, kw_only=True):
    """A change that was made, or was not needed. ``acknowledged`` where the caller waited."""

    document: Document
    outcome: Literal["applied", "unchanged"]
    command_id: str
    acknowledged: Acknowledged | UnsetType = UNSET


async def send(
    request: web.Request,
    verb: Verb,
    flag: str,
    *,
    value: bool | None = None,
    reason: str | None = None,
    until: datetime | None = None,
    mode: Mode | None = None,
) -> Outcome:
    """Send the command as the caller's, once however often it comes with one Idempotency-Key.

    Raises :class:`InvalidInput`, :class:`StoreUnavailable` and the errors of
    :mod:`control.flags.errors`; a verdict that is no success is returned like any other.
    """
    key, actor = inputs.idempotency_key(request), auth.caller(request)
    command = commands.new(
        verb,
        flag,
        id=None if key is None else commands.id_of_key(actor, key),
        actor=actor,
        value=value,
        reason=reason,
        until=until,
        mode=mode,
        expected=inputs.if_match(request, request.app[PLANE].replica.position),
        request_id=request[REQUEST_ID],
    )
    outcome = await request.app[PLANE].change(command)
    if outcome.verdict is Verdict.UNAVAILABLE:
        raise StoreUnavailable("database", "nothing was changed; the flags stand as they were")
    return outcome


def require_done(outcome: Outcome, request: web.Request, flag: str) -> None:
    """Raises the :class:`Problem` that a verdict means, unless the flag stands as was wished."""
    document = outcome.document
    members: dict[str, Any] = {
        "flag": flag,
        "is_active": document.is_active(flag),
        "document": document,
        "command_id": outcome.command_id,
    }
    match outcome.verdict:
        case Verdict.DEBOUNCED:
            detail = outcome.detail or f"{flag} has just been changed."
            headers = {"Retry-After": str(retry_after_s(outcome))}
            raise Problem(DEBOUNCED, detail, members, headers)
        case Verdict.CONFLICT:
            detail = f"The flags are at {document.position}, not where If-Match says."
            raise Problem(VERSION_MISMATCH, detail, members, {"ETag": etag(document)})
        case Verdict.KEY_REUSED:
            detail = "This key was used before for another command."
            raise Problem(KEY_REUSED, detail, {"field": "Idempotency-Key"})
        case Verdict.REFUSED if flag not in request.app[FLAGS]:
            raise unknown_flag(request, flag)
        case Verdict.REFUSED:
            raise Problem(INVALID, outcome.detail or "The command makes no sense.", members)


def unknown_flag(request: web.Request, flag: str) -> Problem:
    """The problem that no flag has this name."""
    known = request.app[FLAGS]
    return Problem(NOT_FOUND, f"There is no flag {flag}.", {"flags": sorted(known)})


def retry_after_s(outcome: Outcome) -> int:
    """Whole seconds until a debounced change may be tried again."""
    return max(1, math.ceil(outcome.retry_after_s or SOON_S))


def etag(document: Document) -> str:
    """The document's position as an entity tag."""
    return f'"{document.position}"'


async def confirmed(request: web.Request, outcome: Outcome, flag: str) -> Changed:
    """The answer to a change; where the query asks to wait, once every live instance confirmed.

    Only a raised bridge has anything to quiesce: for any other change, applied is enough. Raises
    :class:`Problem` 504 naming the stragglers; the change itself stands.
    """
    waiting = inputs.query(request, Waiting)
    document = outcome.document
    changed = Changed(
        document=document,
        outcome="applied" if outcome.verdict is Verdict.APPLIED else "unchanged",
        command_id=outcome.command_id,
    )
    if waiting.wait is None:
        return changed
    rests = flag == MAINTENANCE and document.is_active(MAINTENANCE)
    found = await request.app[PLANE].acknowledged(
        document.position,
        waiting.wait if rests else "applied",
        timeout_s=waiting.timeout,
    )
    told = Acknowledged(found.complete, len(found.replicas), found.stragglers)
    changed = msgspec.structs.replace(changed, acknowledged=told)
    if not found.complete:
        members = msgspec.structs.asdict(changed) | {"stragglers": found.stragglers}
        detail = _unconfirmed(found, waiting.timeout)
        raise Problem(ACKNOWLEDGEMENT_TIMEOUT, detail, members, {"ETag": etag(document)})
    return changed


def check(request: web.Request, flag: str) -> None:
    """Refuse what can be refused before anything is sent: 404 and 422."""
    inputs.query(request, Waiting)
    try:
        commands.new("toggle", flag, actor="nobody")
    except InvalidInput:
        raise unknown_flag(request, flag) from None


def _unconfirmed(found: Acknowledgement, timeout_s: float) -> str:
    late = ", ".join(
        f"{each.kind} {each.id} on {each.host} ({each.phase}, version {each.version}, "
        f"{each.running} running)"
        for each in found.stragglers
    )
    missing = late or "no instance is known to be late, but the list of live ones may have a gap"
    return f"The change stands. Not confirmed within {timeout_s:g} s: {missing}."
