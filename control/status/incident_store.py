"""Incidents in PostgreSQL. What is said of one is added, never changed; each word is published in
the transaction that makes it true."""

from collections.abc import Mapping
from datetime import datetime

import msgspec

from control import ids, sql
from control.clock import Clock
from control.status import incidents, lanes, reader, rounds
from control.status.errors import Unknown
from control.status.incidents import NewIncident, Said
from control.status.publishing import Event, Kind, Publication, Publisher
from control.status.states import IncidentStatus, Status
from control.status.view import IncidentView, Moved, UpdateView
from control.stores.postgres import Connection

OPENED = "We are looking into it."
"""What is said first where nothing else is."""


class Incidents:
    """Opens incidents and says what becomes of them.

    Every method raises :class:`StoreUnavailable`, and :class:`control.errors.InvalidInput` naming
    the field that is wrong.
    """

    def __init__(self, publisher: Publisher, clock: Clock) -> None:
        self._publisher = publisher
        self._clock = clock

    async def create(self, new: NewIncident, by: str) -> IncidentView:
        """Open one."""
        now = self._clock.now()
        new = incidents.checked_new(new, now)
        async with self._publisher.publication() as publication:
            return await open_(publication, new, by, now)

    async def update(self, id_: str, said: Said, by: str) -> IncidentView:
        """Say one more word; a draft is published by it.

        Raises :class:`Unknown`, and :class:`control.status.errors.Illegal` once it is resolved.
        """
        now = self._clock.now()
        async with self._publisher.publication() as publication:
            before = await _locked(publication.connection, id_)
            said = incidents.checked_said(said, before.status, now)
            return await say(publication, before, said, by, now, publish=True)

    async def resolve(
        self, id_: str, root_cause: str | None, resolution: str | None, by: str
    ) -> IncidentView:
        """Say that it is over, and why it was. A draft is closed without telling anybody.

        Of one that is resolved already, and of which nobody has said why, the reasons are entered,
        and nobody is told again. Raises as :meth:`update` does.
        """
        now = self._clock.now()
        cause = incidents.reason(root_cause, "root_cause")
        ended = incidents.reason(resolution, "resolution")
        said = Said(
            message=ended or "This incident has been resolved.",
            status=IncidentStatus.RESOLVED,
            root_cause=cause,
            resolution=ended,
        )
        async with self._publisher.publication() as publication:
            before = await _locked(publication.connection, id_)
            if (cause or ended) and _is_unexplained(before):
                return await _explain(publication.connection, id_, cause, ended, now)
            said = incidents.checked_said(said, before.status, now)
            return await say(publication, before, said, by, now)

    async def publish(self, id_: str, by: str) -> IncidentView:
        """Publish a draft as it stands; one that is published already stays as it is."""
        now = self._clock.now()
        async with self._publisher.publication() as publication:
            before = await _locked(publication.connection, id_)
            if not before.draft:
                return before
            said = Said(message=OPENED, status=before.status)
            return await say(publication, before, said, by, now, publish=True)


async def open_(publication: Publication, new: NewIncident, by: str, now: datetime) -> IncidentView:
    """Open an incident that was looked at; ``by`` is who does it."""
    connection, queries = publication.connection, sql.queries("status_incidents")
    id_ = ids.new_id()
    await connection.execute(
        queries["insert"], id_, new.title, new.description, new.status, new.severity, new.cause,
        new.draft, new.started_at or now, now, new.estimated_resolution, new.next_update, by,
    )  # fmt: skip
    for component, impact in new.impacts.items():
        await connection.execute(queries["affect"], id_, component, impact)
    moved = await _moved(connection, {}, new.impacts)
    first = UpdateView(
        id=ids.new_id(),
        status=new.status,
        message=new.message or new.description or OPENED,
        at=now,
        estimated_resolution=new.estimated_resolution,
        next_update_at=new.next_update,
        affected=moved,
    )
    await _enter(connection, id_, first, by)
    return await _published(publication, id_, "incident.created", now, new.started_at)


async def say(
    publication: Publication,
    before: IncidentView,
    said: Said,
    by: str,
    now: datetime,
    *,
    publish: bool = False,
    touched: bool = True,
) -> IncidentView:
    """One more word on an incident, looked at before. ``touched``: by a human being."""
    connection, queries = publication.connection, sql.queries("status_incidents")
    status = said.status or before.status
    over = status is IncidentStatus.RESOLVED
    impacts = {each.id: each.impact for each in before.components}
    moved = await _moved(connection, impacts, said.impacts or {})
    for component, impact in (said.impacts or {}).items():
        await connection.execute(queries["affect"], before.id, component, impact)
    eta = said.estimated_resolution or before.estimated_resolution
    await connection.execute(
        queries["stand"], before.id, status, said.severity or before.severity, now,
        None if over else eta, None if over else said.next_update,
        max(now, before.started_at) if over else None, said.root_cause, said.resolution, touched,
        before.draft and not publish,
    )  # fmt: skip
    update = UpdateView(
        id=ids.new_id(),
        status=status,
        message=said.message,
        at=now,
        estimated_resolution=said.estimated_resolution,
        next_update_at=said.next_update,
        affected=moved,
    )
    await _enter(connection, before.id, update, by)
    kind: Kind = "incident.resolved" if over else "incident.updated"
    if before.draft and publish:
        kind = "incident.created"
    return await _published(publication, before.id, kind, now, before.started_at)


async def _locked(connection: Connection, id_: str) -> IncidentView:
    """The incident as it stands, held until the transaction ends. Raises :class:`Unknown`."""
    await connection.fetch(sql.queries("status_incidents")["lock"], id_)
    found = await reader.incident(connection, id_, draft=True)
    if found is None:
        raise Unknown("incident", id_)
    return found


def _is_unexplained(incident: IncidentView) -> bool:
    """Whether it was resolved without a cause, as by an update, or by itself."""
    return incident.status is IncidentStatus.RESOLVED and incident.root_cause is None


async def _explain(
    connection: Connection, id_: str, cause: str | None, ended: str | None, now: datetime
) -> IncidentView:
    """Enter the reasons: what was said, and when it was over, stays."""
    await connection.execute(sql.queries("status_incidents")["explain"], id_, cause, ended, now)
    found = await reader.incident(connection, id_, draft=True)
    assert found is not None  # noqa: S101 - it was written in this transaction
    return found


async def _enter(connection: Connection, id_: str, update: UpdateView, by: str) -> None:
    await connection.execute(
        sql.queries("status_incidents")["say"], update.id, id_, update.at, update.status,
        update.message, update.estimated_resolution, update.next_update_at,
        msgspec.json.encode(update.affected).decode(), by,
    )  # fmt: skip


async def _moved(
    connection: Connection, before: Mapping[str, Status], after: Mapping[str, Status]
) -> tuple[Moved, ...]:
    """The components of which the incident now means something else."""
    changed = {id_: new for id_, new in after.items() if before.get(id_) is not new}
    if not changed:
        return ()
    query = sql.queries("status_read")["names"]
    return tuple(
        Moved(id_, name, before.get(id_, Status.OPERATIONAL), changed[id_])
        for id_, name in await connection.fetch(query, list(changed))
    )


async def _published(
    publication: Publication, id_: str, kind: Kind, now: datetime, since: datetime | None
) -> IncidentView:
    """Bring components and days up to date with it, and tell of it, unless it is a draft."""
    connection = publication.connection
    found = await reader.incident(connection, id_, draft=True)
    assert found is not None  # noqa: S101 - it was written in this transaction
    if found.draft:
        return found
    if await lanes.sync(connection, now):
        await rounds.count_days(connection, since or now, now)
    await publication.announce(Event(kind=kind, at=now, subject=found, update=found.updates[-1]))
    return found
