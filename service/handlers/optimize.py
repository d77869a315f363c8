"""Submitting models: `POST /optimize`, as JSON or as the model itself."""

from typing import Any

import msgspec
from aiohttp import web
from msgspec import UNSET, UnsetType

from control.errors import InvalidInput, StoreUnavailable
from control.networks.network import UnknownNetwork
from service import body, inputs, submission
from service.appkeys import CONFIG, KINDS, NETWORKS
from service.handlers.jobs import JobHandlers
from service.routing import JSON
from service.submission import Caller, Terms
from worker.jobs.kinds import Kind

KIND = "optimize"
FORMATS = {"application/x-mps": "mps", "application/x-lp": "lp"}
"""The media types of models, and what the problem's ``format`` calls them."""

MEDIA = (JSON, *FORMATS)

FAMILY = JobHandlers("/optimize", KIND)


class ModelQuery(Terms, kw_only=True, forbid_unknown_fields=True):
    """What the query may say where the body is the model: options, and how to run the job."""

    time_limit_s: float | UnsetType = UNSET
    mip_rel_gap: float | UnsetType = UNSET
    threads: int | UnsetType = UNSET
    seed: int | UnsetType = UNSET


async def submit(request: web.Request) -> web.Response:
    """Accept a model to be solved."""
    kind = request.app[KINDS].get(KIND)
    if kind is None:
        raise RuntimeError(f"the kind {KIND} is not loaded")
    media = body.media_type(request, MEDIA)
    read = _from_json if media == JSON else _from_model
    payload, terms = await read(request, kind, media)
    await _require_network(request, terms)
    one = submission.asked(Caller.of(request), kind, payload, terms)
    return await submission.submit(request, FAMILY, one)


async def _require_network(request: web.Request, asked: Terms) -> None:
    """Raise :class:`InvalidInput` for a network that is not stored.

    Where the graph does not answer, the job itself will see: it waits for the graph.
    """
    name = getattr(getattr(asked, "problem", None), "network", None)
    if name is None:
        return
    try:
        await request.app[NETWORKS].get(name)
    except UnknownNetwork as error:
        raise InvalidInput(str(error), "problem.network") from None
    except StoreUnavailable:
        pass


async def _from_json(request: web.Request, kind: Kind, _media: str) -> tuple[bytes, Terms]:
    inputs.query(request, inputs.NoQuery)
    data = await body.read(request, max_body=request.app[CONFIG].max_body)
    form = submission.with_terms(kind)

    def checked() -> tuple[bytes, Terms]:
        asked = body.json(data, form)
        return kind.validated(submission.payload_of(kind, asked)), asked

    return await submission.off_loop(len(data), checked)


async def _from_model(request: web.Request, kind: Kind, media: str) -> tuple[bytes, Terms]:
    query = inputs.query(request, ModelQuery)
    submission.numeric_priority(query)
    data = await body.read(request, max_body=request.app[CONFIG].max_body)

    def checked() -> bytes:
        problem = {"format": FORMATS[media], "content": body.text(data)}
        return kind.validated({"problem": problem, "options": _options(query)})

    try:
        return await submission.off_loop(len(data), checked), query
    except InvalidInput as error:
        # The caller wrote a parameter or the model itself, not the field of a JSON body.
        message = str(error).removeprefix(f"{error.where}: ")
        where = "body" if error.where == "problem.content" else error.where
        raise InvalidInput(message, where.removeprefix("options.")) from None


def _options(query: ModelQuery) -> dict[str, Any]:
    own = [f.name for f in msgspec.structs.fields(ModelQuery)]
    shared = {f.name for f in msgspec.structs.fields(Terms)}
    given = {name: getattr(query, name) for name in own if name not in shared}
    return {name: value for name, value in given.items() if value is not UNSET}
