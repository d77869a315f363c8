"""The control plane for a process that is no instance: the command line and scripts.

    async with ControlClient(config) as control:
        command = commands.new("set", MAINTENANCE, value=True, actor="alice", reason="db upgrade")
        done = await control.carry_out(command, want="quiesced", timeout_s=60)

It publishes commands, hears their answers and reads who is live. Unlike an instance it holds no
lease, and it may read the flags from a store: once, when it is asked.
"""

import asyncio
import getpass
import os
import socket
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, aclosing, asynccontextmanager
from types import TracebackType
from typing import Any, Protocol, Self

import msgspec

from control import cancelling, keys
from control.clock import Clock, SystemClock
from control.config import Config
from control.errors import StoreUnavailable
from control.flags import events
from control.flags.acknowledgement import Acknowledgement, Acknowledgements, Progress, Want
from control.flags.answers import Answers
from control.flags.audit import Audit, AuditPage
from control.flags.commands import Command
from control.flags.document import MAINTENANCE, Document, Position
from control.flags.ledger import Ledger
from control.flags.outcome import Outcome
from control.flags.plane import ControlEvent
from control.flags.presence import Registry, ReplicaReport
from control.flags.projection import Projection
from control.flags.publisher import Publisher
from control.stores import redis
from control.stores.postgres import Database
from control.stores.servers import Servers
from control.subscriber import Listener, Subscriber

_DATABASE_S = 1.4
"""For a connection, and for a query: a frozen PostgreSQL is not to hold up who waits for others."""


class Watch(Protocol):
    """Hears how a change goes while it is waited for."""

    def committed(self, target: Position) -> None:
        """The change is made; every instance is to reach ``target``."""

    def tell(self, reports: list[ReplicaReport]) -> None:
        """The live instances, whenever something was heard of them."""


class Acknowledged(msgspec.Struct, frozen=True, kw_only=True):
    """How many live instances were waited for, and which have not confirmed in time."""

    complete: bool
    replicas: int
    stragglers: list[ReplicaReport]


class Done(msgspec.Struct, frozen=True, kw_only=True):
    """What came of a change. ``acknowledged`` is ``None`` where nobody waited for the fleet."""

    outcome: Outcome
    acknowledged: Acknowledged | None = None


class ControlClient:
    """Commands, flags, instances and the audit, over Redis and PostgreSQL.

    An async context manager; it opens without either store. Methods raise
    :class:`control.errors.StoreUnavailable`.
    """

    def __init__(self, config: Config, *, clock: Clock | None = None) -> None:
        self._config = config
        self._clock = clock or SystemClock()
        self._stack = AsyncExitStack()

    async def __aenter__(self) -> Self:
        enter, clock = self._stack.enter_async_context, self._clock
        try:
            servers = await enter(aclosing(Servers(self._config.redis.url)))
            database = await enter(
                Database(self._config.postgres, connect_s=_DATABASE_S, query_s=_DATABASE_S)
            )
            self._audit = Audit(await enter(Database(self._config.postgres)))
        except BaseException:
            await self._stack.aclose()
            raise
        self._redis = servers.commands(keys.CONTROL)
        self._subscriber = Subscriber(servers.listening(keys.CONTROL), clock)
        self._projection = Projection(self._redis, clock, spread=servers.spread)
        self._ledger = Ledger(database, self._config.control.flags, clock)
        registry = Registry(self._redis, database)
        self._acknowledgements = Acknowledgements(registry, self._subscriber, clock)
        self._registry = registry
        self._answers = Answers(clock)
        self._publisher = Publisher(self._redis, self._answers, clock)
        self._reading: asyncio.Task[None] | None = None
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        await self._stack.__aexit__(kind, error, trace)

    async def carry_out(
        self,
        command: Command,
        *,
        want: Want | None = None,
        timeout_s: float = 10.0,
        watch: Watch | None = None,
    ) -> Done:
        """Make a change, and wait for the fleet where ``want`` says so, for ``timeout_s`` in all.

        Raises as :meth:`change` does; what the fleet did not do in time is in the answer.
        """
        began = self._clock.monotonic()
        outcome = await self.change(command, timeout_s=timeout_s)
        if want is None or not outcome.done:
            return Done(outcome=outcome)
        position = outcome.document.position
        if watch is not None:
            watch.committed(position)
        if not (command.flag == MAINTENANCE and outcome.document.is_active(MAINTENANCE)):
            want = "applied"  # only a raised bridge brings anything to rest
        found = await self.acknowledged(
            position,
            want,
            timeout_s=timeout_s - (self._clock.monotonic() - began),
            tell=watch.tell if watch is not None else None,
        )
        told = Acknowledged(
            complete=found.complete, replicas=len(found.replicas), stragglers=found.stragglers
        )
        return Done(outcome=outcome, acknowledged=told)

    async def change(self, command: Command, *, timeout_s: float = 10.0) -> Outcome:
        """Publish a command and wait for its answer.

        Raises :class:`control.flags.errors.NobodyListens` at once where no instance hears it, and
        :class:`control.flags.errors.CommandTimedOut`.
        """
        async with self._listening(keys.EVENTS_CHANNEL, Listener(self._answers.listen)):
            return await self._publisher.send(command, timeout_s=timeout_s)

    async def flags(self) -> Document:
        """The flags as they stand: from Redis, else from PostgreSQL."""
        try:
            found = await self._projection.read()
        except StoreUnavailable:
            found = None
        return found or await self._ledger.read()

    async def replicas(self) -> list[ReplicaReport]:
        """Every live instance."""
        return (await self._registry.read()).replicas

    async def acknowledged(
        self,
        position: Position,
        want: Want,
        *,
        timeout_s: float,
        tell: Progress | None = None,
    ) -> Acknowledgement:
        """Wait until the fleet has reached ``position``; see :class:`Acknowledgements`."""
        self._begin_to_read()
        return await self._acknowledgements.wait(position, want, timeout_s=timeout_s, tell=tell)

    async def audit(self, **terms: Any) -> AuditPage:
        """A page of the audit; ``terms`` as :meth:`control.flags.audit.Audit.page` has them."""
        return await self._audit.page(**terms)

    @asynccontextmanager
    async def follow(self) -> AsyncIterator[AsyncIterator[ControlEvent]]:
        """What happens from now on, across reconnects: each time the flags come anew.

        Raises :class:`StoreUnavailable` where Redis is away at the beginning.
        """
        coming: asyncio.Queue[ControlEvent] = asyncio.Queue()

        def event(message: bytes) -> None:
            if b'"type":"beacon"' not in message:
                coming.put_nowait(ControlEvent("flags", message))

        def report(message: bytes) -> None:
            left = b'"left":true' in message
            coming.put_nowait(ControlEvent("left" if left else "replica", message))

        async def resync() -> None:
            if (document := await self._projection.read()) is not None:
                event(events.of_document(document, self._clock.now()))

        async with (
            self._listening(keys.EVENTS_CHANNEL, Listener(event, resync)),
            self._listening(keys.REPLICAS_CHANNEL, Listener(report)),
        ):
            yield _all_of(coming)

    def _begin_to_read(self) -> None:
        """Open the subscription, which reading flags or the audit does without."""
        if self._reading is None:
            self._reading = asyncio.create_task(self._subscriber.run())
            self._stack.push_async_callback(cancelling.end, self._reading)

    @asynccontextmanager
    async def _listening(self, channel: str, listener: Listener) -> AsyncIterator[None]:
        """Listen for the block, from the moment that Redis confirmed it."""
        with redis.guard():
            await self._redis.ping()  # fails at once where the subscription would wait in vain
        self._begin_to_read()
        try:
            if not await self._subscriber.add(channel, listener):
                raise StoreUnavailable("redis", "no answer on the subscription")
            yield
        finally:
            await self._subscriber.remove(channel, listener)


def patience_s(want: Want | None) -> float:
    """How long a change is waited for unless the caller says: running jobs may take 40 s to end."""
    return 60.0 if want == "quiesced" else 10.0


def local_actor() -> str:
    """Who runs this process, as the audit is to name them: ``alice@host``."""
    try:
        user = getpass.getuser()
    except (KeyError, OSError):  # in a container a user may have no name
        user = f"uid-{os.getuid()}"
    return f"{user}@{socket.gethostname()}"


async def _all_of(coming: "asyncio.Queue[ControlEvent]") -> AsyncIterator[ControlEvent]:
    while True:
        yield await coming.get()
