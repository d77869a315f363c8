"""What operators and administrators change of the status page."""

import contextlib
from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta
from typing import TypeVar

from aiohttp import web

from control import status_settings
from control.errors import StoreUnavailable
from control.ids import is_id
from control.status import texts
from control.status.component_store import ComponentChange
from control.status.components import Definition
from control.status.errors import Unknown
from control.status.incidents import NewIncident, Said
from control.status.states import Severity, Status
from control.status.view import IncidentView, WindowView
from control.status.windows import NewWindow, WindowChange
from service import auth, body, inputs
from service import status_bodies as b
from service.appkeys import CLOCK, CONFIG, STATUS
from service.handlers.jobs import answer

T = TypeVar("T")
_MAX_BODY = 64 << 10
_JSON = ("application/json",)
_INCIDENTS, _WINDOWS = "/api/status/incidents", "/api/status/maintenance"


async def create_incident(request: web.Request) -> web.Response:
    """Open an incident."""
    wanted = await _body(request, b.IncidentCreate)
    new = NewIncident(
        title=wanted.title,
        description=wanted.description,
        severity=wanted.severity,
        impacts=_impacts(request, wanted.affected_components, wanted.severity),
        status=wanted.status,
        message=wanted.message,
        started_at=_moment(wanted.started_at, "started_at"),
        estimated_resolution=_moment(wanted.estimated_resolution, "estimated_resolution"),
        next_update=_moment(wanted.next_update, "next_update"),
    )
    made = await request.app[STATUS].incidents.create(new, auth.caller(request))
    return await _incident(request, made, 201)


async def update_incident(request: web.Request) -> web.Response:
    """Say one more word on an incident."""
    wanted = await _body(request, b.IncidentUpdate)
    severity, impacts = wanted.severity or Severity.MINOR, None
    if wanted.affected_components is not None:
        impacts = _impacts(request, wanted.affected_components, severity)
    said = Said(
        message=wanted.message,
        status=wanted.status,
        severity=wanted.severity,
        estimated_resolution=_moment(wanted.estimated_resolution, "estimated_resolution"),
        next_update=_moment(wanted.next_update, "next_update"),
        impacts=impacts,
    )
    page, id_ = request.app[STATUS], _named_in_path(request, "incident")
    return await _incident(request, await page.incidents.update(id_, said, auth.caller(request)))


async def resolve_incident(request: web.Request) -> web.Response:
    """Say that it is over."""
    wanted = await _body(request, b.IncidentResolve)
    done = await request.app[STATUS].incidents.resolve(
        _named_in_path(request, "incident"),
        wanted.root_cause,
        wanted.resolution,
        auth.caller(request),
    )
    return await _incident(request, done)


async def publish_incident(request: web.Request) -> web.Response:
    """Publish a draft."""
    page, id_ = request.app[STATUS], _named_in_path(request, "incident")
    return await _incident(request, await page.incidents.publish(id_, auth.caller(request)))


async def drafts(request: web.Request) -> web.Response:
    """Incidents that checks have opened and nobody has published."""
    found, now = await request.app[STATUS].reader.drafts(), request.app[CLOCK].now()
    return answer(b.Drafts([b.incident_detail(each, now) for each in found]))


async def create_window(request: web.Request) -> web.Response:
    """Make a maintenance window."""
    wanted = await _body(request, b.WindowCreate)
    start = _moment(wanted.scheduled_start, "scheduled_start") or request.app[CLOCK].now()
    new = NewWindow(
        title=wanted.title,
        description=wanted.description,
        start=start,
        end=inputs.moment(wanted.scheduled_end, "scheduled_end"),
        components=_named(request, wanted.affected_components),
        raise_bridge=wanted.raise_bridge,
        recurrence=wanted.recurrence,
        timezone=wanted.timezone,
    )
    made = await request.app[STATUS].windows.create(new, auth.caller(request))
    return await _window(request, made, 201)


async def change_window(request: web.Request) -> web.Response:
    """Let a window be different."""
    wanted = await _body(request, b.WindowPatch)
    components = wanted.affected_components
    change = WindowChange(
        title=wanted.title,
        description=wanted.description,
        start=_moment(wanted.scheduled_start, "scheduled_start"),
        end=_moment(wanted.scheduled_end, "scheduled_end"),
        components=None if components is None else _named(request, components),
        raise_bridge=wanted.raise_bridge,
    )
    page, id_ = request.app[STATUS], _named_in_path(request, "window")
    return await _window(request, await page.windows.change(id_, change, auth.caller(request)))


async def extend_window(request: web.Request) -> web.Response:
    """Let a window take longer."""
    longer = timedelta(minutes=(await _body(request, b.WindowExtend)).minutes)
    page, id_ = request.app[STATUS], _named_in_path(request, "window")
    return await _window(request, await page.windows.extend(id_, longer))


async def finish_window(request: web.Request) -> web.Response:
    """End a window now."""
    page, id_ = request.app[STATUS], _named_in_path(request, "window")
    return await _window(request, await page.windows.finish(id_))


async def cancel_window(request: web.Request) -> web.Response:
    """Call a window off."""
    page, id_ = request.app[STATUS], _named_in_path(request, "window")
    return await _window(request, await page.windows.cancel(id_))


async def cancel_series(request: web.Request) -> web.Response:
    """Call off all windows of a series that have not begun."""
    found = await request.app[STATUS].windows.cancel_series(_named_in_path(request, "series"))
    await _refreshed(request)
    return answer(b.WindowList([b.window_detail(each) for each in found]))


async def create_component(request: web.Request) -> web.Response:
    """Make a component."""
    wanted = await _body(request, b.ComponentCreate)
    new = Definition(
        id=wanted.id or "",
        name=wanted.name,
        description=wanted.description,
        position=wanted.position,
    )
    id_ = await request.app[STATUS].components.create(new, wanted.checks)
    return await _component(request, id_, 201)


async def change_component(request: web.Request) -> web.Response:
    """Let a component be different."""
    wanted = await _body(request, b.ComponentPatch)
    change = ComponentChange(
        name=wanted.name,
        description=wanted.description,
        position=wanted.position,
        checks=None if wanted.checks is None else tuple(wanted.checks),
    )
    id_ = _named_in_path(request, "component")
    await request.app[STATUS].components.change(id_, change)
    return await _component(request, id_)


async def retire_component(request: web.Request) -> web.Response:
    """Show a component no longer."""
    await request.app[STATUS].components.retire(_named_in_path(request, "component"))
    await _refreshed(request)
    return web.Response(status=204)


async def override_component(request: web.Request) -> web.Response:
    """Declare how a component is, for a while."""
    wanted = await _body(request, b.Override)
    until, id_ = inputs.moment(wanted.until, "until"), _named_in_path(request, "component")
    await request.app[STATUS].components.override(id_, Status(wanted.status), until)
    return await _component(request, id_)


async def release_component(request: web.Request) -> web.Response:
    """Let its checks speak for it again."""
    id_ = _named_in_path(request, "component")
    await request.app[STATUS].components.release(id_)
    return await _component(request, id_)


def _named_in_path(request: web.Request, what: str) -> str:
    """The id in the path. Raises :class:`Unknown` for what can be none."""
    id_ = request.match_info[what]
    if not (status_settings.is_id(id_) if what == "component" else is_id(id_)):
        raise Unknown(what, id_)
    return id_


async def _body(request: web.Request, kind: type[T]) -> T:
    body.media_type(request, _JSON)
    read = await body.read(request, max_body=min(_MAX_BODY, request.app[CONFIG].max_body))
    return body.json(read, kind)


def _moment(text: str | None, where: str) -> datetime | None:
    return None if text is None else inputs.moment(text, where)


def _named(request: web.Request, wanted: Sequence[str]) -> list[str]:
    return texts.components(wanted, request.app[STATUS].board.view.components)


def _impacts(
    request: web.Request, wanted: Sequence[str | b.AffectedInput], severity: Severity
) -> Mapping[str, Status]:
    """What each component suffers: what was said of it, else what the severity means."""
    found: dict[str, Status] = {}
    for each in wanted:
        named, impact = (each, None) if isinstance(each, str) else (each.id, each.impact)
        (id_,) = _named(request, [named])
        found[id_] = Status(impact) if impact else severity.impact
    _named(request, list(found))
    return found


async def _refreshed(request: web.Request) -> None:
    """What was changed shows here at once; the other instances read it within two seconds."""
    with contextlib.suppress(StoreUnavailable):
        await request.app[STATUS].board.refresh()


async def _incident(request: web.Request, view: IncidentView, status: int = 200) -> web.Response:
    await _refreshed(request)
    told = b.incident_detail(view, request.app[CLOCK].now())
    location = {"Location": f"{_INCIDENTS}/{view.id}"} if status == 201 else {}
    return answer(told, status, **location)


async def _window(request: web.Request, view: WindowView, status: int = 200) -> web.Response:
    """Do at once what the window's times call for, and tell how it stands then."""
    page = request.app[STATUS]
    with contextlib.suppress(StoreUnavailable):  # else whoever keeps the page does it
        await page.edges.settle()
        view = await page.reader.window(view.id) or view
    await _refreshed(request)
    location = {"Location": f"{_WINDOWS}/{view.id}"} if status == 201 else {}
    return answer(b.window_detail(view), status, **location)


async def _component(request: web.Request, id_: str, status: int = 200) -> web.Response:
    view = (await request.app[STATUS].board.refresh()).component(id_)
    if view is None:
        raise Unknown("component", id_)
    return answer(b.component_body(view), status)
