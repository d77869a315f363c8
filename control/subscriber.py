"""One connection that listens on Redis channels, and knows when it may have missed something.

What is published while a connection is lost is gone. So the first confirmation of every connection
calls each listener's ``resync``, which re-reads the truth. A PING each second proves that the link
still carries; where the answer stays away, the connection is dropped and made anew.

Messages keep their order on the link. So the answer to a PING proves that whatever was published
before the PING was *sent* has been handled; when the answer is read proves nothing, for a process
that was held finds an old answer waiting.
"""

import asyncio
import contextlib
from collections.abc import (
    AsyncIterator,
    Awaitable,
    Callable,
    Coroutine,
    Iterable,
    Iterator,
    Sequence,
)
from dataclasses import dataclass
from typing import Any, Self

from redis.asyncio import Redis
from redis.exceptions import RedisError, ResponseError

from control import cancelling, keys, logs
from control.backoff import Backoff
from control.clock import Clock
from control.job_keys import JobKeys
from control.stores.cluster import SlotPool
from control.stores.line import Line
from control.stores.servers import Servers

PING_EVERY_S = 1.0
PONG_WITHIN_S = 2.0
_BACKOFF_S = (0.05, 1.0)
_AGAIN_S = 0.05


@dataclass(frozen=True)
class Listener:
    """What to do with a channel's messages. ``resync`` runs after every confirmation."""

    on_message: Callable[[bytes], None]
    resync: Callable[[], Awaitable[None]] | None = None


class Subscriber:
    """Supervised by a lifespan as ``subscriber.run()``; listeners may come and go while it runs."""

    def __init__(self, redis: Redis, clock: Clock) -> None:
        self._redis = redis
        self._clock = clock
        self._listeners: dict[bytes, list[Listener]] = {}
        self._line: _Line | None = None
        self._confirmed: dict[bytes, asyncio.Event] = {}
        self._resyncing: set[asyncio.Task[None]] = set()
        self._wanted = asyncio.Event()
        self._log = logs.get(__name__)
        self._on_proof: list[Callable[[], None]] = []
        self._on_loss: list[Callable[[], None]] = []
        self.fresh_at: float | None = None
        """Nothing published before this moment (monotonic seconds) was missed or is unread;
        ``None`` before the first proof."""
        self.since: float | None = None
        """When this connection began to listen: what is heard on it was published later. ``None``
        while there is none."""
        if isinstance(redis.connection_pool, SlotPool):
            redis.connection_pool.on_move(self._moved)

    def on_proof(self, tell: Callable[[], None]) -> None:
        """Have ``tell`` called whenever :attr:`fresh_at` has moved."""
        self._on_proof.append(tell)

    def on_loss(self, tell: Callable[[], None]) -> None:
        """Have ``tell`` called whenever the connection is lost, or could not be made."""
        self._on_loss.append(tell)

    async def run(self) -> None:
        """Listen for ever, reconnecting with capped and jittered backoff."""
        pause = Backoff(*_BACKOFF_S)
        try:
            while True:
                began = self._clock.monotonic()
                try:
                    await self._connected()
                except (RedisError, OSError, TimeoutError) as error:
                    self._log.warning("subscription lost", reason=type(error).__name__)
                    for tell in self._on_loss:
                        tell()
                if self._clock.monotonic() - began > _BACKOFF_S[1]:
                    pause.reset()
                await pause.wait()
        finally:
            await cancelling.end(*self._resyncing)

    async def add(self, channel: str, listener: Listener, *, wait_s: float = 2.0) -> bool:
        """Listen on ``channel``; true once Redis confirmed it, false where it has not yet."""
        name = channel.encode()
        first = name not in self._listeners
        self._listeners.setdefault(name, []).append(listener)
        self._wanted.set()
        confirmed = self._confirmed.setdefault(name, asyncio.Event())
        if first and self._line is not None:
            self._line.subscribe([name])
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(confirmed.wait(), wait_s)
        return confirmed.is_set()

    async def remove(self, channel: str, listener: Listener) -> None:
        """Stop listening; the channel is given up soon after its last listener has gone."""
        name = channel.encode()
        listeners = self._listeners.get(name, [])
        with contextlib.suppress(ValueError):
            listeners.remove(listener)
        if name in self._listeners and not listeners:
            del self._listeners[name]
            self._confirmed.pop(name, None)

    async def _connected(self) -> None:
        """One connection's life; ends with the error that broke it."""
        await self._wanted.wait()
        async with self._connection() as connection:
            line = self._line = _Line(connection, self._handle)
            asked_at = self.since = self._clock.monotonic()
            line.subscribe(self._listeners)  # the confirmation counts as the first answer
            while not await line.ended(PING_EVERY_S):
                now = self._clock.monotonic()
                if line.heard:  # any byte shows that the link carries: a flood is no silence
                    line.heard, asked_at = False, now
                    self._tidy(line)
                    line.send("PING", repr(now))
                # A process that was held has its timers before its answers: read those first.
                elif (
                    now - asked_at >= PONG_WITHIN_S
                    and not await line.ended(_AGAIN_S)
                    and not line.heard
                ):
                    raise TimeoutError("no answer on the subscription")
            raise line.error

    @contextlib.asynccontextmanager
    async def _connection(self) -> AsyncIterator[Any]:
        pool: Any = self._redis.connection_pool
        connection = await pool.get_connection()
        try:
            yield connection
        finally:
            self._line = self.since = None
            for confirmed in self._confirmed.values():
                confirmed.clear()
            with contextlib.suppress(RedisError, OSError):
                await connection.disconnect(nowait=True)
            await pool.release(connection)

    def _moved(self) -> None:
        """On a Cluster what is published from now on is published elsewhere. It may have been for a
        while, and reach us later than the answer to a PING: so that proves nothing any more."""
        self.fresh_at = None
        if self._line is not None:
            self._line.abort()

    def _tidy(self, line: "_Line") -> None:
        """Ask for the channels that are wanted and were lost, and give up those that are not."""
        line.subscribe(self._listeners.keys() - line.channels)
        line.unsubscribe(line.channels - self._listeners.keys())

    def _handle(self, said: Any) -> None:
        """Take a message, a confirmation, or the answer to a PING: a list in RESP2, else bytes."""
        kind, *rest = said if isinstance(said, list) else (b"pong", said)
        if kind == b"message":  # the whole fleet hears it at once: no more steps than needed
            self._deliver(*rest)
            return
        match kind, rest:
            case b"subscribe", [bytes(channel), _]:
                if confirmed := self._confirmed.get(channel):
                    confirmed.set()
                told = self._listeners.get(channel, ())
                self._start([each.resync() for each in told if each.resync is not None])
            case b"pong", [bytes(sent_at)] if not self._resyncing:
                self._prove(float(sent_at))

    def _deliver(self, channel: bytes, data: bytes) -> None:
        for listener in tuple(self._listeners.get(channel, ())):
            try:
                listener.on_message(data)
            except Exception:
                self._log.exception("a listener failed", channel=channel.decode())

    def _start(self, resyncs: Sequence[Awaitable[None]]) -> None:
        """Re-read what may have been missed; until that is done, no answer proves anything."""

        async def guarded() -> None:
            for outcome in await asyncio.gather(*resyncs, return_exceptions=True):
                if isinstance(outcome, Exception):
                    # The next confirmation or the listener's own heartbeat tries again.
                    self._log.warning("resynchronisation failed", reason=type(outcome).__name__)

        task = asyncio.create_task(guarded())
        self._resyncing.add(task)
        task.add_done_callback(self._resyncing.discard)

    def _prove(self, at: float) -> None:
        if self.fresh_at is None or at > self.fresh_at:
            self.fresh_at = at
            for tell in self._on_proof:
                tell()


@dataclass(frozen=True)
class Subscribers:
    """The subscription to what the control plane publishes, and that to what each shard of the jobs
    does: one and the same on one server. On a Cluster each listens on the server that publishes,
    for only what comes from there keeps its order, and is known to be lost."""

    control: Subscriber
    jobs: tuple[Subscriber, ...]

    @classmethod
    def of(cls, servers: Servers, shards: Sequence[JobKeys], clock: Clock) -> Self:
        """Not yet running; see :meth:`tasks`."""
        control = Subscriber(servers.listening(keys.CONTROL), clock)
        if not servers.divided:
            return cls(control, (control,))
        return cls(
            control, tuple(Subscriber(servers.listening(each.prefix), clock) for each in shards)
        )

    @property
    def apart(self) -> bool:
        """Whether jobs publish elsewhere than the control plane."""
        return self.control not in self.jobs

    def on_loss(self, tell: Callable[[], None]) -> None:
        """See :meth:`Subscriber.on_loss`; of any."""
        for each in {self.control, *self.jobs}:
            each.on_loss(tell)

    def tasks(self) -> Iterator[tuple[str, Coroutine[Any, Any, None]]]:
        """What is to be supervised, by name."""
        yield "subscriber", self.control.run()
        for number, each in enumerate(self.jobs):
            if each is not self.control:
                yield f"subscriber of jobs {number}", each.run()


class _Line(Line):
    """The connection while it lasts, and the channels that were asked for on it."""

    def __init__(self, connection: Any, handle: Callable[[Any], None]) -> None:
        super().__init__(connection)
        self._handle = handle
        self._end = asyncio.Event()
        self.channels: set[bytes] = set()
        self.heard = False
        """Whether anything was; whoever asks something resets it."""

    def subscribe(self, channels: Iterable[bytes]) -> None:
        """Ask for ``channels``; each is confirmed."""
        if names := list(channels):
            self.channels.update(names)
            self.send("SUBSCRIBE", *names)

    def unsubscribe(self, channels: Iterable[bytes]) -> None:
        """Give ``channels`` up."""
        if names := list(channels):
            self.channels.difference_update(names)
            self.send("UNSUBSCRIBE", *names)

    async def ended(self, within_s: float) -> bool:
        """Whether the connection is at an end by then."""
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(self._end.wait(), within_s)
        return self._end.is_set()

    def told(self, said: Any) -> None:
        self.heard = True
        if isinstance(said, ResponseError):
            self.abort(said)
        else:
            self._handle(said)

    def gone(self) -> None:
        self._end.set()
