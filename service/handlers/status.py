"""The status page's API, as everybody may read it: from memory, whatever store is away."""

import asyncio
import contextlib
from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta

import msgspec
from aiohttp import web

from control.errors import StoreUnavailable
from control.ids import is_id
from control.status.components import Observation
from control.status.errors import Unknown
from control.status.page import StatusPage
from control.status.states import Status
from control.status.view import IncidentView, StatusView, WindowView
from service import inputs
from service import status_bodies as b
from service.appkeys import CLOCK, STATUS
from service.handlers.jobs import answer
from service.statuspage.standing import stand

RECENT_DAYS, RECENT = 30, 20
"""How far back ``recent_incidents`` goes, and how many there are at most beside the open ones."""

_LOOK_S, _PAUSE_S = 2.5, 0.1
_OPEN = {"Cache-Control": "no-cache", "Access-Control-Allow-Origin": "*"}
"""Anybody's page may show it."""


async def whole(request: web.Request) -> web.Response:
    """Components, what happened, what is planned."""
    view, now = _view(request)
    recent = since(view.incidents, now, RECENT_DAYS)
    open_ = [each for each in recent if each.resolved_at is None]
    rest = [each for each in recent if each.resolved_at is not None][:RECENT]
    shown = sorted((*open_, *rest), key=lambda each: each.started_at, reverse=True)
    return _told(request, b.whole(view, now, recent=shown))


async def components(request: web.Request) -> web.Response:
    """Every component."""
    view, _ = _view(request)
    return _told(request, b.ComponentList([b.component(each) for each in view.components]))


async def component(request: web.Request) -> web.Response:
    """One component and its uptime."""
    view, _ = _view(request)
    id_ = request.match_info["component"]
    found = view.component(id_)
    if found is None:
        raise Unknown("component", id_)
    return _told(request, b.component_body(found))


async def incidents(request: web.Request) -> web.Response:
    """The incidents of a period."""
    query = inputs.query(request, b.IncidentsQuery)
    view, now = _view(request)
    found = since(view.incidents, now, query.days)
    if query.detail:
        told = b.IncidentList([b.incident_detail(each, now) for each in found], query.days)
    else:
        told = b.IncidentList([b.incident(each, now) for each in found], query.days)
    return _told(request, told)


async def incident(request: web.Request) -> web.Response:
    """One incident, in full; one that is too old for memory is read."""
    view, now = _view(request)
    id_ = request.match_info["incident"]
    found: IncidentView | None = view.incident(id_)
    if found is None and is_id(id_):
        found = await request.app[STATUS].reader.incident(id_)
    if found is None:
        raise Unknown("incident", id_)
    return _told(request, b.incident_detail(found, now))


async def windows(request: web.Request) -> web.Response:
    """The maintenance windows."""
    query = inputs.query(request, b.WindowsQuery)
    found = _view(request)[0].windows
    if query.detail:
        return _told(request, b.WindowList([b.window_detail(each) for each in found]))
    return _told(request, b.WindowList([b.window(each) for each in found]))


async def window(request: web.Request) -> web.Response:
    """One window, in full; one that is too old for memory is read."""
    id_ = request.match_info["window"]
    found: WindowView | None = _view(request)[0].window(id_)
    if found is None and is_id(id_):
        found = await request.app[STATUS].reader.window(id_)
    if found is None:
        raise Unknown("window", id_)
    return _told(request, b.window_detail(found))


async def look(request: web.Request) -> web.Response:
    """Check now. What is found is entered by whoever keeps the page, and counts there at once; the
    answer waits for it."""
    page = request.app[STATUS]
    with contextlib.suppress(StoreUnavailable):
        await page.components.request_look()
    declared = page.keeper.declared
    found = await page.watch.look(declared, afresh=True)
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(_LOOK_S):
            while True:
                if await _counted(page, found):
                    break
                await asyncio.sleep(_PAUSE_S)
    results = {
        each.name: found[each.id].status if each.id in found else Status.UNKNOWN
        for each in declared
    }
    return answer(b.Looked("Health check completed", results))


def since(incidents: Sequence[IncidentView], now: datetime, days: int) -> list[IncidentView]:
    """Those that are open, or were so in the last ``days``."""
    first = now - timedelta(days=days)
    return [each for each in incidents if (each.resolved_at or now) >= first]


async def _counted(page: StatusPage, found: Mapping[str, Observation]) -> bool:
    """Whether the keeper has entered the look; where nobody can, this instance counts its own."""
    if page.keeper.local is not None:
        page.keeper.judge(found, asked=True)
        return True
    try:
        if await page.components.look_awaited():
            return False
        await page.board.refresh()
    except StoreUnavailable:
        page.keeper.suspect()
        return False
    return True


def _view(request: web.Request) -> tuple[StatusView, datetime]:
    """What is told, as bad as the page says that it is."""
    board = request.app[STATUS].board
    standing = stand(board)
    view = msgspec.structs.replace(
        board.view, overall=standing.overall, components=standing.components
    )
    return view, request.app[CLOCK].now()


def _told(request: web.Request, body: object) -> web.Response:
    """``Age`` says how old the knowledge is: seconds, while PostgreSQL does not answer."""
    age_s = request.app[STATUS].board.age_s
    headers = dict(_OPEN) if age_s is None else {**_OPEN, "Age": str(int(age_s))}
    response = answer(body)
    response.headers.update(headers)
    return response
