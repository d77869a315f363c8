"""Networks over HTTP: `POST /ingest` takes one in, `GET /networks` tells what is stored."""

import contextlib
from datetime import datetime
from typing import Annotated

import msgspec
from aiohttp import web
from msgspec import UNSET, Meta, UnsetType

from control.errors import BridgeUp, ControlStateStale, InvalidInput, StoreUnavailable
from control.networks.network import Flow, Network, check_name
from service import body, inputs, submission, uploading
from service.appkeys import CONFIG, INGEST, JOBS, NETWORKS, UPLOADS
from service.handlers import kinds
from service.handlers.jobs import answer
from service.submission import Caller, Terms
from service.uploading import Upload

KIND = "ingest"

NetworkName = Annotated[
    str,
    Meta(
        description="The network that this becomes. A form may have it as a field instead.",
        extra_json_schema={"pattern": "^[A-Za-z0-9][A-Za-z0-9._-]{0,127}$"},
    ),
]


class IngestQuery(Terms, kw_only=True, forbid_unknown_fields=True):
    """What the query says beside the files."""

    name: NetworkName | UnsetType = UNSET
    implied_nodes: bool = False


class NetworkView(msgspec.Struct, frozen=True, kw_only=True):
    """A network as it is stored. ``total_supply`` and ``total_demand`` add up what nodes give and
    take; ``flow`` is the optimal flow that was written onto its edges, if there is one."""

    name: str
    version: str
    nodes: int
    edges: int
    total_supply: float
    total_demand: float
    created_at: datetime
    format: str
    flow: Flow | None

    @classmethod
    def of(cls, network: Network) -> "NetworkView":
        """``network``, as it is shown."""
        return msgspec.convert(network, cls, from_attributes=True)


class NetworkList(msgspec.Struct, frozen=True):
    """A page of networks by name; ``cursor`` fetches the next one, null at the end."""

    networks: list[NetworkView]
    cursor: str | None


class NetworksQuery(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Which networks to list."""

    limit: Annotated[int, Meta(ge=1, le=200)] = 50
    cursor: str | None = None


async def submit(request: web.Request) -> web.Response:
    """Take in an upload, and accept the job that stores it."""
    media = body.media_type(request, uploading.MEDIA)
    query = inputs.query(request, IngestQuery)
    submission.numeric_priority(query)
    if query.name is not UNSET:
        check_name(query.name)
    elif media != uploading.FORM:
        raise InvalidInput("is required", "name")
    kind = request.app[INGEST]
    submission.asked(Caller.of(request), kind, b"", query)  # what is wrong is told before the body
    run_id, uploads = request.app[JOBS].new_id(kind.name), request.app[UPLOADS]
    upload = Upload(uploads, run_id, request.app[CONFIG].max_upload)
    await uploads.open(run_id)
    kept = False
    try:
        await upload.take(request, media)
        payload = kind.validated(_payload(query, upload))
        one = submission.asked(Caller.of(request), kind, payload, query)
        kept = True  # until it is certain that there will be no job
        response = await submission.submit(request, kinds.FAMILY, one, run_id=run_id)
        kept = response.status == 202
    except (InvalidInput, BridgeUp, ControlStateStale):
        kept = False
        raise
    finally:
        if not kept:
            with contextlib.suppress(StoreUnavailable):
                await uploads.discard(run_id, 0)
    return response


async def networks(request: web.Request) -> web.Response:
    """A page of networks by name."""
    query = inputs.query(request, NetworksQuery)
    found = await request.app[NETWORKS].page(limit=query.limit + 1, after=query.cursor or "")
    shown = [NetworkView.of(network) for network in found[: query.limit]]
    more = len(found) > query.limit
    return answer(NetworkList(shown, shown[-1].name if more else None))


async def network(request: web.Request) -> web.Response:
    """One network."""
    found = await request.app[NETWORKS].get(request.match_info["name"])
    return answer(NetworkView.of(found))


def _payload(query: IngestQuery, upload: Upload) -> dict[str, object]:
    """What the job is given. Raises :class:`InvalidInput`."""
    fields = dict(upload.fields)
    name = fields.pop("name", None) if query.name is UNSET else query.name
    if unknown := next(iter(fields), None):
        raise InvalidInput("is not known here", unknown)
    if not name:
        raise InvalidInput("is required", "name")
    return {
        "network": check_name(name),
        "files": [{"name": file.name, "role": file.role} for file in upload.files],
        "digest": upload.digest + ("+" if query.implied_nodes else ""),
        "implied_nodes": query.implied_nodes,
    }
