"""The control plane of one instance, put together."""

import asyncio
import contextlib
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import aclosing
from dataclasses import dataclass

import msgspec
from redis.asyncio import Redis

from control import keys
from control.clock import Clock
from control.config import Config, JobsSection
from control.errors import StoreUnavailable
from control.flags import events
from control.flags.acknowledgement import Acknowledgement, Acknowledgements, Progress, Want
from control.flags.answers import Answers
from control.flags.audit import Audit
from control.flags.beacon import Beacon
from control.flags.commands import Command
from control.flags.controller import Controller
from control.flags.document import MAINTENANCE, Document, Position
from control.flags.errors import CommandTimedOut, NobodyListens
from control.flags.fallback import Fallback
from control.flags.ledger import Ledger
from control.flags.link import Link
from control.flags.outcome import Outcome
from control.flags.presence import Kind, Presence, Registry, ReplicaReport
from control.flags.projection import Projection
from control.flags.publisher import Publisher
from control.flags.replica import STALE_S, Replica
from control.job_keys import shards
from control.lifespan import Lifespan
from control.stores.postgres import Database
from control.stores.servers import Spread
from control.stores.wire import ReplicatedWire, Wire
from control.subscriber import Listener, Subscriber

OTHERS_S = 4.0
"""How long the other instances have for a command before this one sees to it."""

FOLLOWER_BACKLOG = 256
COMES_S = 1.0
"""How long a change is held back from followers for the event of it, which names its command."""

_LEFT = b'"left":true'


class ControlEvent(msgspec.Struct, frozen=True):
    """Something that operators may watch: ``type`` is flags, replica or left; ``data`` is JSON."""

    type: str
    data: bytes
    id: str = ""


@dataclass(frozen=True)
class ControlPlane:
    """What the rest of an instance uses of its control plane."""

    instance: str
    replica: Replica
    presence: Presence
    ledger: Ledger
    audit: Audit
    registry: Registry
    controller: Controller
    publisher: Publisher
    acknowledgements: Acknowledgements
    subscriber: Subscriber
    clock: Clock

    async def change(
        self, command: Command, *, timeout_s: float = 10.0, internal: bool = False
    ) -> Outcome:
        """Have ``command`` carried out by whichever instance claims it; here, if none answers.

        ``internal`` is for what Drawbridge does by itself: carried out here, never debounced.
        Raises :class:`CommandTimedOut` where another has it and does not answer.
        """
        if internal:
            return await self.controller.carry_out(command, debounced=False)
        if self.linked:
            with contextlib.suppress(StoreUnavailable):
                return await self._published(command, timeout_s)
        return await self.controller.carry_out(command, offline=True)

    async def _published(self, command: Command, timeout_s: float) -> Outcome:
        """Have it carried out by whoever hears it; by this instance where nobody begins to."""
        with contextlib.suppress(CommandTimedOut, NobodyListens):
            return await self.publisher.send(command, timeout_s=min(timeout_s, OTHERS_S))
        if (outcome := await self.controller.claim(command)) is not None:
            return outcome
        return await self.publisher.send(command, timeout_s=max(1.0, timeout_s - OTHERS_S))

    @property
    def linked(self) -> bool:
        """Whether Redis carries what is said."""
        return self.replica.age_s("redis") <= STALE_S

    async def replicas(self) -> list[ReplicaReport]:
        """Every live instance, by id. Raises :class:`StoreUnavailable`."""
        return (await self.registry.read()).replicas

    async def acknowledged(
        self, position: Position, want: Want, *, timeout_s: float, tell: Progress | None = None
    ) -> Acknowledgement:
        """See :meth:`Acknowledgements.wait`. Where the bridge is down nobody comes to rest, and
        having applied that is all there is to wait for."""
        if not self.replica.document.is_active(MAINTENANCE):
            want = "applied"
        return await self.acknowledgements.wait(position, want, timeout_s=timeout_s, tell=tell)

    @contextlib.asynccontextmanager
    async def follow(self) -> AsyncIterator[AsyncIterator[ControlEvent]]:
        """Flag changes and what instances report, from now on. A slow reader loses the oldest."""
        follower = _Follower(self)
        saying, reporting = Listener(follower.said), Listener(follower.reported)
        silence = self.replica.on_change(follower.changed)
        await self.subscriber.add(keys.EVENTS_CHANNEL, saying, wait_s=0)
        await self.subscriber.add(keys.REPLICAS_CHANNEL, reporting)
        try:
            async with aclosing(follower.coming()) as stream:
                yield stream
        finally:
            silence()
            follower.leave()
            await self.subscriber.remove(keys.EVENTS_CHANNEL, saying)
            await self.subscriber.remove(keys.REPLICAS_CHANNEL, reporting)

    def told(self, document: Document) -> ControlEvent:
        """A document as the event of it, in answer to nobody."""
        data = events.of_document(document, self.clock.now())
        return ControlEvent("flags", data, str(document.position))


class _Follower:
    """One who watches what happens: each event as it was published, so that all see the same, and
    what became known of the flags in other ways, where no event of it comes."""

    def __init__(self, plane: ControlPlane) -> None:
        self._plane = plane
        self._position = plane.replica.position
        self._waiting: asyncio.Queue[ControlEvent] = asyncio.Queue(FOLLOWER_BACKLOG)
        self._later: asyncio.TimerHandle | None = None

    async def coming(self) -> AsyncGenerator[ControlEvent, None]:
        """What there is to tell, for ever."""
        while True:
            yield await self._waiting.get()

    def said(self, message: bytes) -> None:
        """Take a message of ``drawbridge:events``. An older position is news to nobody; at the same
        one only the answer to a command is, which changed nothing."""
        try:
            event = events.decode(message)
        except (msgspec.DecodeError, UnicodeDecodeError):
            return  # the link logs it
        if not isinstance(event, events.FlagsEvent):
            return
        position = event.document.position
        if position > self._position or (position == self._position and event.outcome):
            self._position = position
            self._tell(ControlEvent("flags", message, str(position)))

    def reported(self, message: bytes) -> None:
        """Take a message of the instances."""
        self._tell(ControlEvent("left" if _LEFT in message else "replica", message))

    def changed(self, _before: Document, _after: Document) -> None:
        """The flags have changed: who commits knows before the event comes."""
        if not self._plane.linked:
            self._catch_up()
        elif self._later is None:
            self._later = asyncio.get_running_loop().call_later(COMES_S, self._catch_up)

    def leave(self) -> None:
        """Follow no longer."""
        if self._later is not None:
            self._later.cancel()

    def _catch_up(self) -> None:
        self._later, document = None, self._plane.replica.document
        if document.position > self._position:
            self._position = document.position
            self._tell(self._plane.told(document))

    def _tell(self, event: ControlEvent) -> None:
        if self._waiting.full():
            self._waiting.get_nowait()
        self._waiting.put_nowait(event)


async def open_plane(
    life: Lifespan,
    config: Config,
    *,
    kind: Kind,
    instance: str,
    redis: Redis,
    subscriber: Subscriber,
    database: Database,
    clock: Clock,
    replica: Replica | None = None,
    spread: Spread | None = None,
) -> ControlPlane:
    """The control plane of this process; its tasks belong to ``life``.

    No store needs to be there. ``subscriber`` is run by the caller; ``replica`` is what will hold
    the flags, for whoever has to know it before; ``spread`` is where else on a Cluster keys lie.
    """
    url = config.postgres.direct
    replica = replica or Replica(clock)
    ledger = Ledger(database, config.control.flags, clock)
    wire = Wire(redis)
    projection = Projection(
        redis, clock, wire=wire, spread=spread, shards=shards(config.jobs.shards)
    )
    answers = Answers(clock)
    link = Link(subscriber, projection, replica, answers, clock, read_truth=ledger.read)
    lasting = await life.enter(aclosing(_lasting_wire(wire, redis, config.jobs)))
    presence = Presence(instance, kind, redis=lasting, replica=replica, clock=clock)
    beacon = Beacon(
        url, ledger=ledger, projection=projection, replica=replica, link=link, clock=clock
    )
    controller = Controller(
        instance, wire=wire, spread=spread, ledger=ledger, projection=projection,
        replica=replica, answers=answers, first=lambda: beacon.in_office, clock=clock,
    )  # fmt: skip
    fallback = Fallback(
        url, instance, ledger=ledger, replica=replica, presence=presence, clock=clock
    )
    registry = Registry(redis, database, linked=lambda: replica.age_s("redis") <= STALE_S)

    def proved() -> None:
        # Both must hold: that nothing was missed, and that the fleet counts on this instance.
        if link.fresh_at is not None and presence.renewed_at is not None:
            replica.prove("redis", min(link.fresh_at, presence.renewed_at))

    link.on_proof(proved)
    presence.on_renewal(proved)
    await life.enter(aclosing(wire))
    await life.enter(_open(link))
    await subscriber.add(keys.COMMANDS_CHANNEL, Listener(controller.heard), wait_s=0)
    await life.enter(_present(presence))
    for name, work in (
        ("controller", controller.run()),
        ("beacon", beacon.run()),
        ("fallback", fallback.run()),
        ("presence", presence.run()),
    ):
        life.supervise(name, work)
    return ControlPlane(
        instance=instance,
        replica=replica,
        presence=presence,
        ledger=ledger,
        audit=Audit(database),
        registry=registry,
        controller=controller,
        publisher=Publisher(redis, answers, clock),
        acknowledgements=Acknowledgements(registry, subscriber, clock),
        subscriber=subscriber,
        clock=clock,
    )


def _lasting_wire(wire: Wire, redis: Redis, section: JobsSection) -> Wire:
    """For leases, which a failover must not undo: an instance that is left with a master of its
    own, which no replica follows, is granted none."""
    if not section.wait_replicas:
        return wire
    return ReplicatedWire(redis, replicas=section.wait_replicas, within_s=section.wait_timeout_s)


@contextlib.asynccontextmanager
async def _open(link: Link) -> AsyncIterator[None]:
    await link.open()
    try:
        yield
    finally:
        await link.close()


@contextlib.asynccontextmanager
async def _present(presence: Presence) -> AsyncIterator[None]:
    try:
        yield
    finally:
        await presence.leave()
