"""Submitting jobs of any kind: `POST /jobs/{kind}`, one at a time or up to a thousand."""

from collections.abc import Iterator
from functools import cache
from typing import Any, cast

import msgspec
from aiohttp import web

from control.errors import InvalidInput
from service import body, inputs, problems, submission
from service.appkeys import CONFIG, KINDS
from service.handlers.jobs import JobHandlers
from service.problems import INVALID, NOT_FOUND, Problem
from service.routing import JSON
from service.submission import MOST_AT_ONCE, Asked, Caller, Terms
from worker.jobs.kinds import Kind

NDJSON = "application/x-ndjson"
FAMILY = JobHandlers("/jobs")


@cache
def form(kind: Kind) -> type[Terms]:
    """The body of a submission: the kind's ``payload`` beside the fields of :class:`Terms`.

    A kind that takes any JSON may do without a payload, which then is null.
    """
    own: list[Any] = [("payload", kind.payload)]
    if kind.payload is None:
        own = [("payload", Any, None)]
    name = f"{kind.name.title()}Job"
    made = msgspec.defstruct(name, own, bases=(Terms,), kw_only=True, forbid_unknown_fields=True)
    return cast(type[Terms], made)


async def submit(request: web.Request) -> web.Response:
    """Accept one job."""
    kind = _kind(request)
    body.media_type(request, (JSON,))
    inputs.query(request, inputs.NoQuery)
    data = await body.read(request, max_body=request.app[CONFIG].max_body)
    caller = Caller.of(request)
    one = await submission.off_loop(len(data), lambda: _asked(caller, kind, data))
    return await submission.submit(request, FAMILY, one)


async def submit_batch(request: web.Request) -> web.Response:
    """Accept up to a thousand jobs, all of which are checked before the first is accepted."""
    kind = _kind(request)
    media = body.media_type(request, (JSON, NDJSON))
    inputs.query(request, inputs.NoQuery)
    data = await body.read(request, max_body=request.app[CONFIG].max_body)
    caller = Caller.of(request)

    def checked() -> list[Asked]:
        texts = list(_lines(data)) if media == NDJSON else _items(data)
        if not 1 <= len(texts) <= MOST_AT_ONCE:
            raise InvalidInput(f"must be 1 to {MOST_AT_ONCE} jobs; these are {len(texts)}", "body")
        return [_numbered(at, caller, kind, text) for at, text in enumerate(texts)]

    many = await submission.off_loop(len(data), checked)
    return await submission.submit_all(request, FAMILY, many)


def _kind(request: web.Request) -> Kind:
    """The kind that the path names. Raises :class:`Problem` 404 with those that there are."""
    name, known = request.match_info["kind"], request.app[KINDS]
    kind = known.get(name)
    if kind is None:
        names = sorted(each.name for each in known)
        raise Problem(
            NOT_FOUND,
            f"No job kind has this name; this service knows {', '.join(names)} (DRAWBRIDGE_JOBS).",
            {"kinds": names},
        )
    return kind


def _asked(caller: Caller, kind: Kind, data: bytes) -> Asked:
    """The submission that ``data`` is. Raises Problem 400 and InvalidInput naming the field."""
    terms = body.json(data, form(kind))
    given = cast(Any, terms).payload
    try:
        payload = kind.packed(given)
        if terms.unique is None and kind.unique is not None:
            terms.unique = kind.unique(given)
    except InvalidInput as error:
        raise inputs.below(error, "payload") from None
    return submission.asked(caller, kind, payload, terms)


def _numbered(at: int, caller: Caller, kind: Kind, data: bytes) -> Asked:
    """The same, for one of many: what is wrong says the ``index``, which counts from 0."""
    try:
        return _asked(caller, kind, data)
    except (InvalidInput, Problem) as error:
        found = problems.of(error)
        assert found is not None  # noqa: S101 - these are errors of the caller
        within = found.members if found.type is INVALID else {}  # other places count in this text
        members = {**within, "index": at}
        raise Problem(found.type, f"Job {at} of the batch: {found.detail}", members) from None


def _items(data: bytes) -> list[bytes]:
    """The JSON texts in an array."""
    return [bytes(item) for item in body.json(data, list[msgspec.Raw])]


def _lines(data: bytes) -> Iterator[bytes]:
    """The JSON texts in lines, empty ones left out."""
    return (line for line in data.splitlines() if line.strip())
