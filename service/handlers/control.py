"""The control plane over HTTP: flags, who has applied them, what happens, and who did it."""

from collections.abc import AsyncGenerator
from contextlib import aclosing
from datetime import datetime
from typing import Annotated

import msgspec
from aiohttp import web
from msgspec import Meta

from control.errors import InvalidInput, StoreUnavailable
from control.flags.audit import MAX_PAGE, OUTCOMES
from control.flags.document import Flag, Mode
from control.flags.outcome import Outcome
from control.flags.plane import ControlPlane
from control.flags.presence import ReplicaReport
from service import auth, body, bypass, changes, deadline, inputs, sse
from service.appkeys import BYPASS, CLOSING, CONFIG, PLANE, REQUEST_ID
from service.handlers.jobs import answer
from service.inputs import Moment
from service.problems import NOT_CONFIGURED, Problem

_JSON = ("application/json",)
_MAX_BODY = 64 << 10


class Freshness(msgspec.Struct, frozen=True):
    """How well this instance knows the flags. ``source`` is redis, database or memory.

    ``staleness_s`` is the age of the last proof, null before the first. ``stale`` from 3 s on;
    once ``admits`` is false, this instance lets no work in.
    """

    source: str
    staleness_s: float | None
    stale: bool
    admits: bool


class Flags(msgspec.Struct, frozen=True):
    """All flags, the position of the last change, and how well they are known."""

    epoch: int
    version: int
    flags: dict[str, Flag]
    freshness: Freshness


class FlagChange(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Why a flag is changed, and until when it is expected to stay so: an announcement."""

    reason: str | None = None
    until: Moment | None = None
    mode: Mode | None = None


class FlagSetting(FlagChange, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """How a flag is to stand. ``mode`` matters to maintenance only."""

    is_active: bool


class Replicas(msgspec.Struct, frozen=True):
    """The live instances."""

    replicas: list[ReplicaReport]


class AuditQuery(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Which rows of the audit."""

    flag: str | None = None
    actor: str | None = None
    outcome: Annotated[str, Meta(extra_json_schema={"enum": list(OUTCOMES)})] | None = None
    since: Moment | None = None
    limit: Annotated[int, Meta(ge=1, le=MAX_PAGE)] = 50
    cursor: str | None = None


class BypassRequest(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """For how many seconds, and why."""

    ttl_s: Annotated[int, Meta(ge=1, le=bypass.MAX_TTL_S)] = 900
    reason: str | None = None


class BypassToken(msgspec.Struct, frozen=True):
    """A token for the header ``X-Drawbridge-Bypass``."""

    token: str
    expires_at: datetime


async def flags(request: web.Request) -> web.Response:
    """The flags as this instance knows them, from memory."""
    replica = request.app[PLANE].replica
    document, staleness_s = replica.document, replica.staleness_s
    freshness = Freshness(
        replica.source,
        None if staleness_s is None else round(staleness_s, 3),
        replica.stale,
        replica.admits(),
    )
    told = Flags(document.epoch, document.version, document.flags, freshness)
    return answer(told, ETag=changes.etag(document))


async def put(request: web.Request) -> web.Response:
    """Set a flag."""
    flag = _checked(request)
    wanted = body.json(await _body(request), FlagSetting)
    outcome = await changes.send(
        request,
        "set",
        flag,
        value=wanted.is_active,
        reason=wanted.reason,
        until=_until(wanted),
        mode=wanted.mode,
    )
    changes.require_done(outcome, request, flag)
    return await _confirmed(request, outcome, flag)


async def toggle(request: web.Request) -> web.Response:
    """Flip a flag."""
    flag = _checked(request)
    why = await _optional(request)
    outcome = await changes.send(
        request, "toggle", flag, reason=why.reason, until=_until(why), mode=why.mode
    )
    changes.require_done(outcome, request, flag)
    return await _confirmed(request, outcome, flag)


async def reset(request: web.Request) -> web.Response:
    """Switch a flag off."""
    flag = _checked(request)
    why = await _optional(request)
    if why.until is not None or why.mode is not None:
        raise InvalidInput("belongs to a flag that is on", "until" if why.until else "mode")
    outcome = await changes.send(request, "reset", flag, reason=why.reason)
    changes.require_done(outcome, request, flag)
    return await _confirmed(request, outcome, flag)


async def replicas(request: web.Request) -> web.Response:
    """Every live instance."""
    return answer(await _replicas(request.app[PLANE]))


async def events(request: web.Request) -> web.StreamResponse:
    """Everything that happens, as Server-Sent Events; goes on while the bridge is up."""
    plane = request.app[PLANE]
    async with plane.follow() as coming:

        async def told() -> AsyncGenerator[sse.Message, None]:
            now = plane.told(plane.replica.document)
            yield sse.Message(now.type, now.data.decode(), now.id)
            try:
                yield sse.Message("replicas", _text(await _replicas(plane)))
            except StoreUnavailable as error:  # what can still be heard is worth hearing
                yield sse.Message("unavailable", _text({"dependency": error.dependency}))
            async for event in coming:
                yield sse.Message(event.type, event.data.decode(), event.id)

        async with aclosing(told()) as messages:
            return await sse.stream(request, messages, until=[request.app[CLOSING].wait()])


async def audit(request: web.Request) -> web.Response:
    """A page of the audit, newest first."""
    query = inputs.query(request, AuditQuery)
    page = await request.app[PLANE].audit.page(
        limit=query.limit,
        cursor=query.cursor,
        flag=query.flag,
        actor=query.actor,
        outcome=query.outcome,
        since=None if query.since is None else inputs.moment(query.since, "since"),
    )
    return answer(page)


async def issue_bypass(request: web.Request) -> web.Response:
    """A token to pass the raised bridge with. It is in the audit before anybody has it."""
    issuer = request.app[BYPASS]
    if not issuer.configured:
        raise Problem(
            NOT_CONFIGURED,
            "There is no secret to sign a bypass with; set DRAWBRIDGE_SECRET.",
            {"setting": "DRAWBRIDGE_SECRET"},
        )
    wanted = body.json(await _body(request), BypassRequest) if _has_body(request) else None
    wanted = wanted or BypassRequest()
    bearer = bypass.new_bearer(auth.caller(request))
    await request.app[PLANE].ledger.note(
        "bypass issued",
        actor=bearer.actor,
        reason=wanted.reason,
        request_id=request[REQUEST_ID],
        subject=bearer.jti,
    )
    token, expires_at = issuer.issue(bearer, wanted.ttl_s)
    return answer(BypassToken(token, expires_at), 201)


def _checked(request: web.Request) -> str:
    flag = request.match_info["flag"]
    changes.check(request, flag)
    return flag


def _has_body(request: web.Request) -> bool:
    return request.can_read_body and request.content_length != 0


async def _body(request: web.Request) -> bytes:
    body.media_type(request, _JSON)
    return await body.read(request, max_body=min(_MAX_BODY, request.app[CONFIG].max_body))


async def _optional(request: web.Request) -> FlagChange:
    return body.json(await _body(request), FlagChange) if _has_body(request) else FlagChange()


def _until(change: FlagChange) -> datetime | None:
    return None if change.until is None else inputs.moment(change.until, "until")


async def _confirmed(request: web.Request, outcome: Outcome, flag: str) -> web.Response:
    changed = await changes.confirmed(request, outcome, flag)
    return answer(changed, ETag=changes.etag(changed.document))


async def _replicas(plane: ControlPlane) -> Replicas:
    async with deadline.redis():
        return Replicas(await plane.replicas())


def _text(told: object) -> str:
    return msgspec.json.encode(told).decode()
