"""What subscribers are told of something that was published on the status page."""

from control.status.publishing import Event
from control.status.view import IncidentView, WindowView
from control.stores.postgres import Connection
from control.subscribers.notice import Affected, Notice
from control.subscribers.outbox import announce


async def tell_subscribers(connection: Connection, event: Event) -> None:
    """Queue ``event`` for all whom it concerns, within the transaction that publishes it: an
    :data:`control.status.publishing.Announce`."""
    await announce(connection, event.id, notice_of(event), event.at)


def notice_of(event: Event) -> Notice:
    """``event`` as it is told."""
    if isinstance(event.subject, WindowView):
        return _of_window(event, event.subject)
    return _of_incident(event, event.subject)


def _of_incident(event: Event, incident: IncidentView) -> Notice:
    update = event.update
    said = update.message if update is not None else incident.description
    return Notice(
        kind=event.kind,
        about=incident.id,
        title=incident.title,
        message=said or incident.resolution or "",
        status=str(update.status if update is not None else incident.status),
        impact=str(incident.severity),
        path=f"/status/incidents/{incident.id}",
        components=tuple(
            Affected(each.id, each.name, str(each.impact)) for each in incident.components
        ),
        starts_at=incident.started_at,
        ends_at=incident.resolved_at,
        estimated_resolution=incident.estimated_resolution,
        next_update_at=incident.next_update_at,
    )


def _of_window(event: Event, window: WindowView) -> Notice:
    return Notice(
        kind=event.kind,
        about=window.id,
        title=window.title,
        message=window.description,
        status=str(window.status),
        path=f"/status/maintenance/{window.id}",
        components=tuple(Affected(each.id, each.name) for each in window.components),
        starts_at=window.started_at or window.scheduled_start,
        ends_at=window.ended_at or window.scheduled_end,
    )
