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
from control.flags.presence import Left, Registry, ReplicaReport, Roll
from control.flags.replica import LEASE_S
from control.subscriber import Listener, Subscriber

Want = Literal["applied", "quiesced"]
Progress = Callable[[list[ReplicaReport]], None]

LOOK_AGAIN_S = 0.25
"""Reports are heard as they come; this finds the leases that ended in silence, and whoever reports
to PostgreSQL."""

_Heard = ReplicaReport | Left


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
        live instances each time that the roll was read. Does not raise where the stores go away.

        The roll is the whole fleet's reports, so it is not read at each report that is heard, but
        when nobody seems to be missing any more.
        """
        began = self._clock.monotonic()
        missing = _Missing(position, want)
        listener = Listener(missing.heard)
        await self._subscriber.add(keys.REPLICAS_CHANNEL, listener, wait_s=LOOK_AGAIN_S)
        seen = Acknowledgement(replicas=[], stragglers=[], complete=False)
        try:
            while True:
                missing.look()
                with contextlib.suppress(StoreUnavailable):
                    roll = await self._registry.read()
                    fenced = self._clock.monotonic() - began > LEASE_S
                    seen = _judge(roll, position, want, fenced=fenced)
                    missing.are(seen.stragglers)
                    if tell is not None:
                        tell(seen.replicas)
                left_s = began + timeout_s - self._clock.monotonic()
                if seen.complete or left_s <= 0:
                    return seen
                with contextlib.suppress(TimeoutError):
                    await asyncio.wait_for(missing.nobody.wait(), min(LOOK_AGAIN_S, left_s))
        finally:
            await self._subscriber.remove(keys.REPLICAS_CHANNEL, listener)


class _Missing:
    """Who has not followed yet, by the roll and by the reports that were heard since."""

    def __init__(self, position: Position, want: Want) -> None:
        self._position = position
        self._want: Want = want
        self._missing: set[str] = set()
        self._followed: set[str] = set()
        self.nobody = asyncio.Event()
        """Set when the last of them has reported: time to read the roll again."""

    def look(self) -> None:
        """The roll is about to be read: it has all that was heard so far."""
        self._followed.clear()
        self.nobody.clear()

    def are(self, stragglers: list[ReplicaReport]) -> None:
        """So the roll says. Who reported meanwhile may or may not be in it already."""
        self._missing = {report.id for report in stragglers} - self._followed
        if stragglers and not self._missing:
            self.nobody.set()

    def heard(self, message: bytes) -> None:
        """A report, or a farewell."""
        try:
            said: _Heard = _decoded(message)
        except msgspec.DecodeError:
            return  # another release's; the next look at the roll tells
        if isinstance(said, ReplicaReport) and _is_late(said, self._position, self._want):
            self._followed.discard(said.id)
            return
        self._followed.add(said.id)
        if said.id in self._missing:
            self._missing.remove(said.id)
            if not self._missing:
                self.nobody.set()


def _decoded(message: bytes) -> _Heard:
    """Raises :class:`msgspec.DecodeError`."""
    try:
        return msgspec.json.decode(message, type=ReplicaReport)
    except msgspec.DecodeError:
        return msgspec.json.decode(message, type=Left)


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
        if _is_late(report, position, want):
            yield report


def _is_late(report: ReplicaReport, position: Position, want: Want) -> bool:
    return report.position < position or (want == "quiesced" and not report.quiesced)
