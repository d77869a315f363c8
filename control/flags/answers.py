"""The events that answer commands, for whoever sent them."""

import asyncio
import contextlib
import math
from collections import OrderedDict
from collections.abc import Iterator

import msgspec

from control.clock import Clock
from control.flags import events
from control.flags.events import FlagsEvent
from control.flags.outcome import Outcome

REMEMBERED = 1024


class Answers:
    """Hands each answer to those who expect it, and remembers which commands had one."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._expected: dict[str, set[asyncio.Future[Outcome]]] = {}
        self._answered: OrderedDict[str, float] = OrderedDict()

    def answered_since(self, command_id: str, moment: float) -> bool:
        """Whether a command was answered at or after ``moment`` (monotonic seconds)."""
        return self._answered.get(command_id, -math.inf) >= moment

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
        if event.command_id is None:
            return
        self._answered[event.command_id] = self._clock.monotonic()
        self._answered.move_to_end(event.command_id)
        if len(self._answered) > REMEMBERED:
            self._answered.popitem(last=False)
        for answer in self._expected.get(event.command_id, ()):
            if not answer.done():
                answer.set_result(event.as_outcome())

    def listen(self, message: bytes) -> None:
        """Take a message of ``drawbridge:events``, for a process that keeps no replica."""
        with contextlib.suppress(msgspec.DecodeError, UnicodeDecodeError):
            event = events.decode(message)
            if isinstance(event, FlagsEvent):
                self.heard(event)
