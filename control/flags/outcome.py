"""What became of a command."""

from enum import StrEnum

import msgspec

from control.flags.document import Document


class Verdict(StrEnum):
    """How a command ended."""

    APPLIED = "applied"
    UNCHANGED = "unchanged"
    """The flag stood so already."""
    DEBOUNCED = "debounced"
    """It came too soon after another change of the same flag."""
    CONFLICT = "conflict"
    """The flags have changed since the position that the command expected."""
    KEY_REUSED = "key_reused"
    """Its id belongs to another command."""
    REFUSED = "refused"
    """There is no such flag, or what it asks makes no sense."""
    UNAVAILABLE = "unavailable"
    """PostgreSQL is away; nothing was changed."""


class Outcome(msgspec.Struct, frozen=True, kw_only=True):
    """The verdict on a command, and the flags as they stand after it."""

    command_id: str
    verdict: Verdict
    document: Document
    detail: str = ""
    retry_after_s: float | None = None

    @property
    def done(self) -> bool:
        """Whether the flag stands as the command wished."""
        return self.verdict in (Verdict.APPLIED, Verdict.UNCHANGED)
