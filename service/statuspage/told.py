"""What was said of incidents and windows, one after another: what feeds are made of."""

import uuid
from collections.abc import Iterator
from datetime import datetime

import msgspec
from ulid import ULID

from control.status.view import IncidentView, Moved, WindowView


class Said(msgspec.Struct, frozen=True, kw_only=True):
    """One thing that was said. ``text`` is Markdown; ``id`` is a UUID that is never another's."""

    id: uuid.UUID
    anchor: str
    """Of its place on the page of its subject; empty: the page itself."""
    status: str
    text: str
    at: datetime
    affected: tuple[Moved, ...] = ()


def uuid_of(ulid: str) -> uuid.UUID:
    """The same 128 bits in the form that the registered scheme ``urn:uuid:`` has."""
    return ULID.from_str(ulid).to_uuid()


def of_incident(incident: IncidentView) -> list[Said]:
    """What was said of it, oldest first."""
    return [
        Said(id=uuid_of(each.id), anchor=f"#u-{each.id}", status=each.status, text=each.message,
             at=each.at, affected=each.affected)
        for each in incident.updates
    ]  # fmt: skip


def of_window(window: WindowView) -> Iterator[Said]:
    """Its announcement, its beginning, its end, as far as they have come."""
    own = uuid_of(window.id)

    def said(status: str, at: datetime, text: str, again: str = "") -> Said:
        return Said(id=uuid.uuid5(own, status + again), anchor="", status=status, text=text, at=at)

    # With other times it is another announcement.
    again = f".{window.sequence}" if window.sequence else ""
    at = window.updated_at if again and window.status == "scheduled" else window.created_at
    yield said("scheduled", at, window.description or window.title, again)
    if window.started_at is not None:
        yield said("in_progress", window.started_at, "Maintenance has begun.")
    if window.ended_at is not None:
        if window.status == "cancelled":
            yield said("cancelled", window.ended_at, "The maintenance was cancelled.")
        elif window.started_at is not None:
            yield said("completed", window.ended_at, "Maintenance is complete.")
