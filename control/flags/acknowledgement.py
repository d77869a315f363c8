"""Waiting until the whole fleet has applied a change, or has come to rest after it."""

import asyncio
import contextlib
from collections.abc import Callable, Iterator
from typing import Literal

import msgspec

from control import keys
from control.clock import Clock
from control.errors import StoreUnavailable
from control.flags.document import Position
from control.flags.presence import Registry, ReplicaReport, Roll
from control.flags.replica import LEASE_S
from control.subscriber import Listener, Subscriber

Want = Literal["applied", "quiesced"]
Progress = Callable[[list[ReplicaReport]], None]

LOOK_AGAIN_S = 0.25
"""Reports are heard as they come; this finds the leases that ended in silence."""


class Acknowledgement(msgspec.Struct, frozen=True, kw_only=True):
    """Who has reported, and who has not yet."""

    replicas: list[ReplicaReport]
    stragglers: list[ReplicaReport]
    complete: bool


class Acknowledgements:
    """Waits for the fleet. One for each process that asks."""

    def __init__(self, registry: Registry, subscriber: Subscriber, clock: Clock) -> None:
        self._registry = registry
        self._subscriber = subscriber
        self._clock = clock

    async def wait(
        self,
        position: Position,
        want: Want,
        *,
        timeout_s: float,
        tell: Progress | None = None,
    ) -> Acknowledgement:
        """Until every live instance has reported ``position``, and rest if that is wanted.

        Called once the change is committed. Complete means: no instance admits anything under an
        older state from now on. Who is on no roll shuts its own door a lease after the commit at
        the latest; so where the roll may not be whole, the wait lasts that long. ``tell`` gets the
        live instances whenever something was heard. Does not raise where the stores go away.
        """
        began = self._clock.monotonic()
        heard = asyncio.Event()
        listener = Listener(lambda _message: heard.set())
        await self._subscriber.add(keys.REPLICAS_CHANNEL, listener, wait_s=LOOK_AGAIN_S)
        seen = Acknowledgement(replicas=[], stragglers=[], complete=False)
        try:
            while True:
                heard.clear()
                with contextlib.suppress(StoreUnavailable):
                    roll = await self._registry.read()
                    fenced = self._clock.monotonic() - began > LEASE_S
                    seen = _judge(roll, position, want, fenced=fenced)
                    if tell is not None:
                        tell(seen.replicas)
                left_s = began + timeout_s - self._clock.monotonic()
                if seen.complete or left_s <= 0:
                    return seen
                with contextlib.suppress(TimeoutError):
                    await asyncio.wait_for(heard.wait(), min(LOOK_AGAIN_S, left_s))
        finally:
            await self._subscriber.remove(keys.REPLICAS_CHANNEL, listener)


def _judge(roll: Roll, position: Position, want: Want, *, fenced: bool) -> Acknowledgement:
    """What ``roll`` says. ``fenced``: a lease has passed since the commit."""
    stragglers = list(_late(roll.replicas, position, want))
    return Acknowledgement(
        replicas=roll.replicas,
        stragglers=stragglers,
        complete=not stragglers and (roll.whole or fenced),
    )


def _late(replicas: list[ReplicaReport], position: Position, want: Want) -> Iterator[ReplicaReport]:
    for report in replicas:
        if report.position < position or (want == "quiesced" and not report.quiesced):
            yield report
