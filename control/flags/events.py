"""What is said on ``drawbridge:events``, for every instance and for whoever sent a command."""

from datetime import datetime

import msgspec

from control.flags.document import Document, Flag, Position
from control.flags.outcome import Outcome, Verdict

MOST = 1 << 52
"""Beyond it, Redis's scripts could not tell one number from the next."""


class Answer(msgspec.Struct, frozen=True):
    """What became of the command that caused the event."""

    verdict: Verdict
    detail: str = ""
    retry_after_s: float | None = None


class FlagsEvent(msgspec.Struct, frozen=True, kw_only=True, tag="flags", tag_field="type"):
    """The whole document, so that any one message heals every gap."""

    v: int = 1
    epoch: int
    version: int
    flags: dict[str, Flag]
    command_id: str | None
    at: datetime
    outcome: Answer | None = None

    @property
    def document(self) -> Document:
        """The flags that it carries."""
        return Document(self.epoch, self.version, self.flags)

    def as_outcome(self) -> Outcome:
        """The answer to its command."""
        answer = self.outcome or Answer(Verdict.APPLIED)
        return Outcome(
            command_id=self.command_id or "",
            verdict=answer.verdict,
            document=self.document,
            detail=answer.detail,
            retry_after_s=answer.retry_after_s,
        )


class BeaconEvent(msgspec.Struct, frozen=True, kw_only=True, tag="beacon", tag_field="type"):
    """The newest position, said each second: whoever holds an older one has missed something."""

    v: int = 1
    epoch: int
    version: int
    at: datetime

    @property
    def position(self) -> Position:
        """Where the flags stand."""
        return Position(self.epoch, self.version)


_DECODER = msgspec.json.Decoder(FlagsEvent | BeaconEvent)


def decode(data: bytes) -> FlagsEvent | BeaconEvent:
    """An event. Raises :class:`msgspec.DecodeError` for what is none that we know."""
    event: FlagsEvent | BeaconEvent = _DECODER.decode(data)
    if event.v != 1:
        raise msgspec.ValidationError(f"version {event.v} is not known here")
    if not (0 <= event.epoch < MOST and 0 <= event.version < MOST):
        raise msgspec.ValidationError("its position is out of range")
    return event


def of_document(document: Document, at: datetime) -> bytes:
    """The event that repeats ``document``, in answer to nobody."""
    return _encode(document, at, None, None)


def of_outcome(outcome: Outcome, at: datetime) -> bytes:
    """The event that answers a command."""
    answer = Answer(outcome.verdict, outcome.detail, outcome.retry_after_s)
    return _encode(outcome.document, at, outcome.command_id, answer)


def _encode(
    document: Document, at: datetime, command_id: str | None, answer: Answer | None
) -> bytes:
    return msgspec.json.encode(
        FlagsEvent(
            epoch=document.epoch,
            version=document.version,
            flags=document.flags,
            command_id=command_id,
            at=at,
            outcome=answer,
        )
    )
