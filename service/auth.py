"""Who is asking, and whether they may.

A caller brings ``Authorization: Bearer <token>``. Without a token, callers may use the job routes
where the configuration lets them; a bad token is refused everywhere a token means something.
"""

import re
from enum import Enum

from aiohttp import web
from aiohttp.typedefs import Handler

from control import logs
from control.errors import StoreUnavailable
from control.jwt_tokens import looks_like_jwt
from control.principals import ANONYMOUS, Principal, Role
from service.appkeys import ATTEMPTS, CONFIG, JWT, KEYRING, LIMITS, PLANE, PRINCIPAL, REQUEST_ID
from service.problems import FORBIDDEN, UNAUTHORISED, Problem
from worker.jobs.job import JobRecord


class Access(Enum):
    """Who may use a route."""

    PUBLIC = "everybody; a token means nothing here"
    JOBS = "whoever has a role; everybody where the configuration lets callers use jobs"
    VIEWER = "role viewer and up"
    OPERATOR = "role operator and up"
    ADMINISTRATOR = "role administrator"


_ROLE = {
    Access.JOBS: Role.VIEWER,
    Access.VIEWER: Role.VIEWER,
    Access.OPERATOR: Role.OPERATOR,
    Access.ADMINISTRATOR: Role.ADMINISTRATOR,
}
_REALM = 'Bearer realm="drawbridge"'
_TRIED = 200
"""How much of a path the audit takes."""

_LOG = logs.get(__name__)
_BEARER = re.compile(r"Bearer +([!-~]+)", re.IGNORECASE)


def guarded(access: Access, handler: Handler) -> Handler:
    """``handler``, for those whom ``access`` lets through."""
    if access is Access.PUBLIC:
        return handler

    needed = _ROLE[access]
    steers = access in (Access.OPERATOR, Access.ADMINISTRATOR)

    async def checked(request: web.Request) -> web.StreamResponse:
        _refuse_cross_site(request)
        principal = await _counted(request, steers=steers)
        if not (access is Access.JOBS and _jobs_are_open(request)):
            if principal is None:
                raise _unauthorised("This needs a token.", _REALM)
            if not principal.may(needed):
                if steers:
                    await _enter_refused(request, principal, needed)
                none = "; the token's role claim names none" if principal.role is None else ""
                raise Problem(FORBIDDEN, f"This needs the role {needed}{none}.")
        if principal is not None:
            request[PRINCIPAL] = principal
        return await handler(request)

    return checked


async def is_viewer(request: web.Request) -> bool:
    """Whether the caller has shown to be a viewer at least, where nobody has to show anything.

    A token that is not valid, or that cannot be looked up now, shows nothing.
    """
    try:
        principal = await _identified(request)
    except (Problem, StoreUnavailable):
        return False
    return principal is not None and principal.may(Role.VIEWER)


def caller(request: web.Request) -> str:
    """The name under which the caller's jobs are kept."""
    principal = request.get(PRINCIPAL)
    return ANONYMOUS if principal is None else principal.name


def require_owner(request: web.Request, record: JobRecord) -> None:
    """Let through who submitted the job, and operators. Raises :class:`Problem` 403.

    Where callers need no token, a job that came without one is everybody's.
    """
    principal = request.get(PRINCIPAL)
    if principal is not None and principal.may(Role.OPERATOR):
        return
    shared = record.submitted_by == ANONYMOUS and _jobs_are_open(request)
    if not shared and record.submitted_by != caller(request):
        raise Problem(FORBIDDEN, "The job was submitted by somebody else; this needs an operator.")


async def _enter_refused(request: web.Request, principal: Principal, needed: Role) -> None:
    """Who tried to steer and may not is in the audit, like everybody else who tried; who goes on
    and on trying, in the log alone."""
    tried = f"{request.method} {request.rel_url.raw_path[:_TRIED]} needs the role {needed}"
    if not request.app[ATTEMPTS].count(principal.name):
        _LOG.info("[AUDIT] forbidden", actor=principal.name, outcome="refused", detail=tried)
        return
    try:
        await request.app[PLANE].ledger.note(
            "forbidden",
            actor=principal.name,
            request_id=request[REQUEST_ID],
            subject=tried,
            outcome="refused",
        )
    except StoreUnavailable:
        _LOG.info("[AUDIT] forbidden", actor=principal.name, outcome="refused", detail=tried)


async def _counted(request: web.Request, *, steers: bool) -> Principal | None:
    """Who asks, once it is clear that they may ask now. Raises :class:`Problem` 401 and 429."""
    limits = request.app[LIMITS]
    if limits is None:
        return await _identified(request)
    token = _BEARER.fullmatch(request.headers.get("Authorization", "").strip())
    if token and not (_is_jwt(request, token[1]) or request.app[KEYRING].knows(token[1])):
        await limits.take_unknown(request)
    principal = await _identified(request)
    await limits.take(request, principal, steers=steers)
    return principal


def _refuse_cross_site(request: web.Request) -> None:
    """Refuse what a page of another site has a browser send: where callers need no token, being
    able to reach us is all that they need. Raises :class:`Problem` 403."""
    if (
        request.headers.get("Sec-Fetch-Site") in ("cross-site", "same-site")
        and request.method not in ("GET", "HEAD")
        and "Authorization" not in request.headers
    ):
        raise Problem(FORBIDDEN, "Pages of other sites may change nothing here without a token.")


async def _identified(request: web.Request) -> Principal | None:
    """Who the token belongs to; ``None`` without one. Raises :class:`Problem` 401."""
    header = request.headers.get("Authorization")
    if header is None:
        return None
    token = _BEARER.fullmatch(header.strip())
    principal = await _principal(request, token[1]) if token else None
    if principal is None:
        raise _unauthorised("The token is not valid.", f'{_REALM}, error="invalid_token"')
    return principal


async def _principal(request: web.Request, token: str) -> Principal | None:
    verifier = request.app[JWT]
    if verifier is not None and _is_jwt(request, token):
        return await verifier.identify(token)
    return await request.app[KEYRING].identify(token)


def _is_jwt(request: web.Request, token: str) -> bool:
    return request.app[JWT] is not None and looks_like_jwt(token)


def _jobs_are_open(request: web.Request) -> bool:
    return request.app[CONFIG].anonymous == "jobs"


def _unauthorised(detail: str, challenge: str) -> Problem:
    return Problem(UNAUTHORISED, detail, headers={"WWW-Authenticate": challenge})
