"""Every error of the API, as RFC 9457 ``application/problem+json``.

A handler raises :class:`Problem`, or lets a domain error pass; :func:`of` knows what each one means
to a caller. Whatever is not foreseen is a 500 that tells the caller nothing but its request id.
"""

import random
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any

import msgspec
from aiohttp import web

from control.errors import BridgeUp, ControlStateStale, InvalidInput, StoreUnavailable
from control.flags.errors import CommandTimedOut, NobodyListens
from control.networks.network import UnknownNetwork
from control.status.errors import Illegal, Unknown
from control.subscribers.tokens import BadToken
from service.problem_type import ProblemType
from worker.jobs.errors import (
    JobFinished,
    JobNotFailed,
    KeyReused,
    UniqueKeyTaken,
    UnknownJob,
)

CONTENT_TYPE = "application/problem+json"
RETRY_AFTER_S = 5
"""How soon a caller may ask again when a store is away: most restarts take less."""

BRIDGE_RETRY_AFTER_S = 60
"""The same under maintenance of unknown length."""

STALE_RETRY_AFTER_S = (1, 2)
"""The same where this instance lost touch; one of these, so that callers spread."""

_LINE = re.compile(r"line (\d+)\b")


MALFORMED = ProblemType(
    "malformed",
    400,
    "The request cannot be read",
    "The body is empty, cut off, not in the encoding that it claims, or not well-formed. "
    "`line` and `byte` say where, as far as that is known.",
)
UNAUTHORISED = ProblemType(
    "unauthorised",
    401,
    "A valid token is needed",
    "Send `Authorization: Bearer <token>`. The token is missing, unknown, expired or revoked.",
)
FORBIDDEN = ProblemType(
    "forbidden",
    403,
    "Your role does not allow this",
    "The token is good, but it has no role or one that is too low, or the job is somebody else's.",
)
NOT_FOUND = ProblemType(
    "not-found",
    404,
    "There is no such thing",
    "Nothing has this address. A finished job and its result are forgotten after a while.",
)
METHOD_NOT_ALLOWED = ProblemType(
    "method-not-allowed",
    405,
    "This address does not know that method",
    "The header `Allow` names the methods that it knows.",
)
NOT_ACCEPTABLE = ProblemType(
    "not-acceptable",
    406,
    "No representation that you accept",
    "Ask for one of the media types that `available` lists.",
)
NOT_FINISHED = ProblemType(
    "not-finished",
    409,
    "The job has no result yet",
    "The job is not finished; `job_status` says where it is. Follow its events, or ask later.",
)
NO_RESULT = ProblemType(
    "no-result",
    409,
    "The job ended without a result",
    "The job failed or was cancelled before it had one; its record says why.",
)
FINISHED = ProblemType(
    "job-finished",
    409,
    "The job is finished already",
    "A job that completed, failed or was cancelled (`job_status`) cannot be cancelled.",
)
ILLEGAL = ProblemType(
    "illegal-change",
    409,
    "This cannot be done to it as it stands",
    "`current` says how the incident, window or component stands.",
)
NOT_CONFIGURED = ProblemType(
    "not-configured",
    409,
    "This installation is not set up for that",
    "`setting` names the environment variable that is missing.",
)
VERSION_MISMATCH = ProblemType(
    "version-mismatch",
    412,
    "The flags have changed meanwhile",
    "The flags are no longer at the version that `If-Match` names; `document` is how they stand.",
)
NOT_FAILED = ProblemType(
    "not-failed",
    409,
    "The job has not failed",
    "Only a failed job can be run again. `job_status` says how it stands.",
)
UNIQUE_KEY_TAKEN = ProblemType(
    "unique-key-taken",
    409,
    "Another job has this unique key",
    "`run_id` is that job; once it has ended, this one can be run again.",
)
TOO_SLOW = ProblemType(
    "request-timeout",
    408,
    "The request came too slowly",
    "The head, or the body, was not there in time. Nothing of it was carried out.",
)
TOO_LARGE = ProblemType(
    "too-large",
    413,
    "The body is too large",
    "The body is over `limit` bytes, as it was sent or after decompression.",
)
UNSUPPORTED = ProblemType(
    "unsupported-media-type",
    415,
    "The body is of a type that is not understood here",
    "`accepted` lists what is understood.",
)
INVALID = ProblemType(
    "invalid-input",
    422,
    "The request is well-formed but wrong",
    "`field` names the field or parameter, `line` the line of the model, that is to blame.",
)
KEY_REUSED = ProblemType(
    "idempotency-key-reused",
    422,
    "This Idempotency-Key belongs to another request",
    "The key was used before with another body. Use a fresh key for each new request.",
)
DEBOUNCED = ProblemType(
    "debounced",
    429,
    "Too soon after another change of this flag",
    "Nothing was changed; `document` is how the flags stand. Ask again after `Retry-After`.",
)
TOO_OFTEN = ProblemType(
    "too-often",
    429,
    "Too many of these requests",
    "You, or all callers together, asked this too often. Ask again after `Retry-After`.",
)
HEAD_TOO_LARGE = ProblemType(
    "head-too-large",
    431,
    "The head of the request is too large",
    "The address or a header field is too long, or there are too many fields.",
)
INTERNAL = ProblemType(
    "internal-error",
    500,
    "Something went wrong on our side",
    "The log of the service tells more under this `request_id`.",
)
UNAVAILABLE = ProblemType(
    "dependency-unavailable",
    503,
    "A store is unavailable",
    "`dependency` names it. Send the request again after `Retry-After`; a submission with an "
    "`Idempotency-Key` is accepted only once, however often it is sent.",
)
BRIDGE_UP = ProblemType(
    "bridge-up",
    503,
    "The bridge is up: maintenance",
    "Nothing is accepted until it is lowered. Send the request again after `Retry-After`.",
)
CONTROL_STATE_STALE = ProblemType(
    "control_state_stale",
    503,
    "This instance has lost touch with the control plane",
    "It cannot know whether the bridge is up, so it lets nothing in until it has caught up. Send "
    "the request again after `Retry-After`; another instance may well answer it.",
)
NOBODY_LISTENS = ProblemType(
    "nobody-listens",
    503,
    "The command reached no instance",
    "Nothing was changed. Send the request again, with the same `Idempotency-Key` if it has one.",
)
COMMAND_TIMEOUT = ProblemType(
    "command-timeout",
    504,
    "No answer to the command in time",
    "Whether the change was made is not known. Look at the flags, or send the request again with "
    "the same `Idempotency-Key`: the command is carried out once.",
)
ACKNOWLEDGEMENT_TIMEOUT = ProblemType(
    "acknowledgement-timeout",
    504,
    "The change is made, but not everybody has confirmed it in time",
    "The change stands. `stragglers` are the live instances that have not confirmed it yet; the "
    "same request with the same `Idempotency-Key` goes on waiting for them.",
)
OTHER = ProblemType("refused", 400, "The request was refused", "`status` says how.")

TYPES: Mapping[str, ProblemType] = MappingProxyType({
    each.name: each
    for each in (
        MALFORMED, UNAUTHORISED, FORBIDDEN, NOT_FOUND, METHOD_NOT_ALLOWED, NOT_ACCEPTABLE,
        NOT_FINISHED, NO_RESULT, FINISHED, NOT_FAILED, UNIQUE_KEY_TAKEN, ILLEGAL,
        NOT_CONFIGURED,
        VERSION_MISMATCH, TOO_SLOW, TOO_LARGE, HEAD_TOO_LARGE,
        UNSUPPORTED, INVALID, KEY_REUSED, DEBOUNCED, TOO_OFTEN, INTERNAL, UNAVAILABLE, BRIDGE_UP,
        CONTROL_STATE_STALE, NOBODY_LISTENS, COMMAND_TIMEOUT, ACKNOWLEDGEMENT_TIMEOUT, OTHER,
    )
})  # fmt: skip
"""Every type of problem that the API answers with, by name."""


@dataclass(eq=False)
class Problem(Exception):
    """An answer that is an error. ``members`` are the extension members of its JSON object."""

    type: ProblemType
    detail: str
    members: Mapping[str, Any] = field(default_factory=dict)
    headers: Mapping[str, str] = field(default_factory=dict)
    status: int = 0
    """The HTTP status where it differs from the type's own."""

    def __post_init__(self) -> None:
        self.status = self.status or self.type.status
        super().__init__(self.detail)

    def response(self, request_id: str) -> web.Response:
        """The problem as an HTTP answer."""
        document = {
            "type": self.type.uri,
            "title": self.type.title,
            "status": self.status,
            "detail": self.detail,
            "request_id": request_id,
            **self.members,
        }
        headers = {"Cache-Control": "no-store", **self.headers}
        return web.Response(
            body=msgspec.json.encode(document),
            status=self.status,
            content_type=CONTENT_TYPE,
            headers=headers,
        )


def of(error: Exception) -> Problem | None:
    """What ``error`` means to a caller; ``None`` where it is a fault of ours."""
    if isinstance(error, Problem):
        return error
    for kind, explain in _DOMAIN:
        if isinstance(error, kind):
            return explain(error)
    return None


def internal() -> Problem:
    """The problem behind which a fault of ours is hidden."""
    return Problem(INTERNAL, "The fault is logged under this request id.")


def _store_unavailable(error: StoreUnavailable) -> Problem:
    return Problem(
        UNAVAILABLE,
        str(error),
        {"dependency": error.dependency},
        {"Retry-After": str(RETRY_AFTER_S)},
    )


def _bridge_up(error: BridgeUp) -> Problem:
    headers = {"Retry-After": str(BRIDGE_RETRY_AFTER_S)}
    return Problem(BRIDGE_UP, str(error) or "Maintenance is on.", headers=headers)


def _stale(error: ControlStateStale) -> Problem:
    retry_s = random.randint(*STALE_RETRY_AFTER_S)  # noqa: S311 - not a secret
    return Problem(CONTROL_STATE_STALE, str(error), headers={"Retry-After": str(retry_s)})


def _nobody_listens(error: NobodyListens) -> Problem:
    return Problem(NOBODY_LISTENS, str(error), headers={"Retry-After": "1"})


def _command_timed_out(error: CommandTimedOut) -> Problem:
    return Problem(COMMAND_TIMEOUT, str(error), {"command_id": error.command_id})


def _key_reused(error: KeyReused) -> Problem:
    return Problem(KEY_REUSED, str(error), {"field": "Idempotency-Key"})


def _invalid_input(error: InvalidInput) -> Problem:
    members: dict[str, Any] = {}
    if line := _LINE.search(error.where):
        members["line"] = int(line[1])
    elif error.where:
        members["field"] = error.where
    return Problem(INVALID, str(error), members)


def _unknown_job(error: UnknownJob) -> Problem:
    return Problem(NOT_FOUND, str(error))


def _unknown_network(error: UnknownNetwork) -> Problem:
    return Problem(NOT_FOUND, str(error))


def _job_finished(error: JobFinished) -> Problem:
    return Problem(FINISHED, str(error), {"job_status": str(error.status)})


def _job_not_failed(error: JobNotFailed) -> Problem:
    return Problem(NOT_FAILED, str(error), {"job_status": str(error.status)})


def _unique_key_taken(error: UniqueKeyTaken) -> Problem:
    return Problem(UNIQUE_KEY_TAKEN, str(error), {"run_id": error.holder})


def _bad_token(error: BadToken) -> Problem:
    return Problem(NOT_FOUND, f"There is no such subscription: {error}.")


def _unknown(error: Unknown) -> Problem:
    return Problem(NOT_FOUND, str(error))


def _illegal(error: Illegal) -> Problem:
    return Problem(ILLEGAL, str(error), {"current": error.status})


def _payload_broke(_error: web.RequestPayloadError) -> Problem:
    return Problem(MALFORMED, "The body ended before it was complete.")


def _http(error: web.HTTPException) -> Problem:
    """aiohttp's own errors: no route, wrong method, and whatever else it may refuse."""
    match error:
        case web.HTTPMethodNotAllowed():
            allowed = ", ".join(sorted(error.allowed_methods))
            detail = f"{error.method} is not among the methods of this address: {allowed}."
            return Problem(METHOD_NOT_ALLOWED, detail, headers={"Allow": allowed})
        case web.HTTPNotFound():
            return Problem(NOT_FOUND, "Nothing has this address; /docs lists what there is.")
        case web.HTTPRequestEntityTooLarge():
            return Problem(TOO_LARGE, "The body is too large.")
    return Problem(OTHER, error.reason, status=error.status)


_DOMAIN: tuple[tuple[type[Exception], Callable[[Any], Problem]], ...] = (
    (StoreUnavailable, _store_unavailable),
    (BridgeUp, _bridge_up),
    (ControlStateStale, _stale),
    (NobodyListens, _nobody_listens),
    (CommandTimedOut, _command_timed_out),
    (KeyReused, _key_reused),
    (InvalidInput, _invalid_input),
    (UnknownJob, _unknown_job),
    (UnknownNetwork, _unknown_network),
    (JobFinished, _job_finished),
    (JobNotFailed, _job_not_failed),
    (UniqueKeyTaken, _unique_key_taken),
    (BadToken, _bad_token),
    (Unknown, _unknown),
    (Illegal, _illegal),
    (web.RequestPayloadError, _payload_broke),
    (web.HTTPException, _http),
)
"""Domain errors and what each means to a caller; the first that fits counts."""
