"""One connection that listens on Redis channels, and knows when it may have missed something.

redis-py re-subscribes silently after a lost connection, and what was published meanwhile is gone.
So this reads the confirmations too: the first one of every connection calls each listener's
``resync``, which re-reads the truth. A PING each second proves that the link still carries; where
the answer stays away, the connection is dropped and made anew.

Messages keep their order on the link. So the answer to a PING proves that whatever was published
before the PING was *sent* has been handled; when the answer is read proves nothing, for a process
that was held finds an old answer waiting.
"""

import asyncio
import contextlib
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass

from redis.asyncio import Redis
from redis.asyncio.client import PubSub
from redis.exceptions import RedisError

from control import cancelling, logs
from control.backoff import Backoff
from control.clock import Clock

PING_EVERY_S = 1.0
PONG_WITHIN_S = 2.0
_BACKOFF_S = (0.05, 1.0)
_BROKEN = (RedisError, OSError, AttributeError)
"""What (un)subscribing raises on a connection that is just being remade, where redis-py has none.
The next connection asks for whatever is wanted then."""


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
        self._pubsub: PubSub | None = None
        self._confirmed: dict[bytes, asyncio.Event] = {}
        self._resyncing: set[asyncio.Task[None]] = set()
        self._wanted = asyncio.Event()
        self._log = logs.get(__name__)
        self._on_proof: list[Callable[[], None]] = []
        self._on_loss: list[Callable[[], None]] = []
        self.fresh_at: float | None = None
        """Nothing published before this moment (monotonic seconds) was missed or is unread;
        ``None`` before the first proof."""

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
        if first and self._pubsub is not None:
            with contextlib.suppress(*_BROKEN):
                await self._pubsub.subscribe(name)
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
        pubsub = self._redis.pubsub()
        try:
            await self._wanted.wait()
            asked: set[bytes] = set()
            while late := self._listeners.keys() - asked:  # channels may be added meanwhile
                await pubsub.subscribe(*late)
                asked |= late
            self._pubsub = pubsub
            await self._read(pubsub)
        finally:
            self._pubsub = None
            for confirmed in self._confirmed.values():
                confirmed.clear()
            with contextlib.suppress(RedisError, OSError):
                await pubsub.aclose()  # type: ignore[no-untyped-call]

    async def _read(self, pubsub: PubSub) -> None:
        loop_time = self._clock.monotonic
        next_ping, answer_due = loop_time() + PING_EVERY_S, loop_time() + PONG_WITHIN_S
        awaiting = True  # the confirmation of the subscription counts as the first answer
        while True:
            wait = (answer_due if awaiting else next_ping) - loop_time()
            message = await pubsub.get_message(timeout=max(0.001, wait))
            now = loop_time()
            if message is not None:
                # Any byte from the server shows that the link carries: a flood is no silence.
                awaiting = False
                self._handle(message)
            elif awaiting and now >= answer_due:
                raise TimeoutError("no answer on the subscription")
            if not awaiting and now >= next_ping:
                await self._tidy(pubsub)
                await asyncio.wait_for(pubsub.ping(repr(now)), PONG_WITHIN_S)
                next_ping, answer_due, awaiting = now + PING_EVERY_S, now + PONG_WITHIN_S, True

    async def _tidy(self, pubsub: PubSub) -> None:
        """Ask for the channels that are wanted and were lost, and give up those that are not."""
        wanted, held = self._listeners.keys(), pubsub.channels.keys()
        if late := wanted - held:
            await pubsub.subscribe(*late)
        if idle := held - wanted:
            await pubsub.unsubscribe(*idle)

    def _handle(self, message: dict[str, object]) -> None:
        kind, channel, data = message["type"], message["channel"], message["data"]
        if kind == "pong" and isinstance(data, bytes):
            if not self._resyncing:
                self._prove(float(data))
            return
        if not isinstance(channel, bytes):
            return
        listeners = self._listeners.get(channel, ())
        if kind == "subscribe":
            if confirmed := self._confirmed.get(channel):
                confirmed.set()
            resyncs = [listener.resync() for listener in listeners if listener.resync is not None]
            self._start(resyncs)
        elif kind == "message" and isinstance(data, bytes):
            for listener in tuple(listeners):
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
