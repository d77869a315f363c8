"""The events that answer commands, for whoever sent them."""

import asyncio
import contextlib
from collections.abc import Iterator

import msgspec

from control.flags import events
from control.flags.events import FlagsEvent
from control.flags.outcome import Outcome


class Answers:
    """Hands each answer to those who expect it."""

    def __init__(self) -> None:
        self._expected: dict[str, set[asyncio.Future[Outcome]]] = {}

    @contextlib.contextmanager
    def expecting(self, command_id: str) -> Iterator[asyncio.Future[Outcome]]:
        """The answer to a command, once it is heard within the block."""
        answer: asyncio.Future[Outcome] = asyncio.get_running_loop().create_future()
        waiting = self._expected.setdefault(command_id, set())
        waiting.add(answer)
        try:
            yield answer
        finally:
            waiting.discard(answer)
            if not waiting:
                self._expected.pop(command_id, None)
            answer.cancel()

    def heard(self, event: FlagsEvent) -> None:
        """Take an event."""
        for answer in self._expected.get(event.command_id or "", ()):
            if not answer.done():
                answer.set_result(event.as_outcome())

    def listen(self, message: bytes) -> None:
        """Take a message of ``drawbridge:events``, for a process that keeps no replica."""
        with contextlib.suppress(msgspec.DecodeError, UnicodeDecodeError):
            event = events.decode(message)
            if isinstance(event, FlagsEvent):
                self.heard(event)
