"""Sending a command and waiting for the event that answers it."""

import asyncio
from typing import Any

from redis.asyncio import Redis

from control import keys
from control.clock import Clock
from control.flags import commands
from control.flags.answers import Answers
from control.flags.commands import Command
from control.flags.errors import CommandTimedOut, NobodyListens
from control.flags.outcome import Outcome
from control.stores.redis import guard

AGAIN_S = 1.0
"""How long one publication is trusted; the same id again is harmless."""


class Publisher:
    """Publishes on ``redis``; what is heard there comes through ``answers``."""

    def __init__(self, redis: Redis, answers: Answers, clock: Clock) -> None:
        self._redis: Any = redis
        self._answers = answers
        self._clock = clock

    async def send(self, command: Command, *, timeout_s: float) -> Outcome:
        """Publish until an answer comes.

        Raises :class:`NobodyListens` at once where no instance was reached,
        :class:`CommandTimedOut`, and :class:`control.errors.StoreUnavailable`.
        """
        give_up = self._clock.monotonic() + timeout_s
        with self._answers.expecting(command.id) as answer:
            while (left_s := give_up - self._clock.monotonic()) > 0:
                with guard():
                    reached = await self._redis.publish(
                        keys.COMMANDS_CHANNEL, commands.encode(command)
                    )
                if not reached:
                    raise NobodyListens
                await asyncio.wait([answer], timeout=min(AGAIN_S, left_s))
                if answer.done():
                    return answer.result()
        raise CommandTimedOut(command.id, timeout_s)
