"""What subscribers are told: one message about an incident or a maintenance window."""

from datetime import datetime
from typing import Final, Literal

import msgspec

CONFIRM: Final = "subscription.confirm"
"""Asks the owner of an address whether it may be told anything; goes to that one alone."""

Kind = Literal[
    "subscription.confirm",
    "incident.created",
    "incident.updated",
    "incident.resolved",
    "maintenance.scheduled",
    "maintenance.changed",
    "maintenance.started",
    "maintenance.completed",
    "maintenance.cancelled",
]


class Affected(msgspec.Struct, frozen=True, omit_defaults=True):
    """A component that it concerns; ``status`` is how it is hit, where that is known."""

    id: str
    name: str
    status: str | None = None


class Notice(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """``about`` is the id of the incident or window, ``path`` its page.

    ``message`` may hold Markdown, ``impact`` is the severity of an incident. Without ``components``
    it concerns everybody.
    """

    kind: Kind
    about: str = ""
    title: str = ""
    message: str = ""
    status: str = ""
    impact: str = ""
    path: str = "/status"
    components: tuple[Affected, ...] = ()
    starts_at: datetime | None = None
    ends_at: datetime | None = None
    estimated_resolution: datetime | None = None
    next_update_at: datetime | None = None
