"""How something is published: what makes it true and what tells of it, in one transaction.

    async with publishing.publication(database) as publication:
        await publication.connection.execute(...)
        await publication.announce(Event(...))

Whoever tells others (:data:`Announce`) is called inside, on the same connection: what it queues is
there exactly if the change is.
"""

import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from datetime import datetime
from typing import Literal

import msgspec

from control import ids, sql
from control.status.view import IncidentView, UpdateView, WindowView
from control.stores.postgres import Connection, Database

Kind = Literal[
    "incident.created", "incident.updated", "incident.resolved",
    "maintenance.scheduled", "maintenance.changed", "maintenance.started",
    "maintenance.completed", "maintenance.cancelled",
]  # fmt: skip


class Event(msgspec.Struct, frozen=True, kw_only=True):
    """Something that was published. ``subject`` is the incident or window as it stands now;
    ``update`` what was said of an incident. ``id`` is unique: nothing is told twice under it."""

    id: str = msgspec.field(default_factory=ids.new_id)
    kind: Kind
    at: datetime
    subject: IncidentView | WindowView
    update: UpdateView | None = None

    @property
    def component_ids(self) -> tuple[str, ...]:
        """Whom it is about."""
        return tuple(each.id for each in self.subject.components)


Announce = Callable[[Connection, Event], Awaitable[None]]
"""Queues what is to be told of an event, on a connection that is in its transaction."""

Announced = Callable[[], Awaitable[None]]
"""Is called after an event was committed; a kill before that must do no harm."""


class Publication:
    """One transaction in which something is published."""

    def __init__(self, connection: Connection, announces: Sequence[Announce]) -> None:
        self.connection = connection
        self._announces = announces
        self.announced = False

    async def announce(self, event: Event) -> None:
        """Enter ``event``, and let everybody queue what they tell of it."""
        self.announced = True
        await self.connection.execute(
            sql.queries("status_events")["enter"],
            event.id,
            event.at,
            event.kind,
            event.subject.id,
            list(event.component_ids),
            msgspec.json.encode(event).decode(),
        )
        for announce in self._announces:
            await announce(self.connection, event)


class Publisher:
    """Opens publications. ``announces`` are called for each event, inside its transaction, and
    ``announced`` once a transaction with events was committed."""

    def __init__(
        self,
        database: Database,
        announces: Sequence[Announce] = (),
        announced: Announced | None = None,
    ) -> None:
        self._database = database
        self._announces = tuple(announces)
        self._announced = announced

    @contextlib.asynccontextmanager
    async def publication(self) -> AsyncIterator[Publication]:
        """A transaction on a connection of the pool. Raises :class:`StoreUnavailable`."""
        async with self._database.acquire() as connection, self.on(connection) as publication:
            yield publication

    @contextlib.asynccontextmanager
    async def on(self, connection: Connection) -> AsyncIterator[Publication]:
        """The same on a connection of the caller's own. Whoever holds a copy sees that there is
        something new once it is committed."""
        async with connection.transaction():
            # Also puts all publications in one order: what each reads is what the last one left.
            await connection.execute(sql.queries("status_events")["begin"])
            publication = Publication(connection, self._announces)
            yield publication
        if publication.announced and self._announced is not None:
            await self._announced()
