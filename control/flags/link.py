"""A replica's link to Redis: events, a snapshot after every reconnect, proof each second."""

import asyncio
import contextlib
from collections.abc import Awaitable, Callable, Iterator

import msgspec

from control import keys, logs
from control.backoff import Backoff
from control.clock import Clock
from control.errors import StoreUnavailable
from control.flags import events
from control.flags.document import Document
from control.flags.events import BeaconEvent, FlagsEvent
from control.flags.outcome import Outcome
from control.flags.projection import Projection
from control.flags.replica import Replica
from control.subscriber import Listener, Subscriber

TRUTH_WITHIN_S = 1.0
"""How long a snapshot waits for PostgreSQL; it does without where that is away."""


class Link:
    """Keeps ``replica`` true to what is said on ``drawbridge:events``."""

    def __init__(
        self,
        subscriber: Subscriber,
        projection: Projection,
        replica: Replica,
        clock: Clock,
        *,
        read_truth: Callable[[], Awaitable[Document]],
    ) -> None:
        self._subscriber = subscriber
        self._projection = projection
        self._read_truth = read_truth
        self._replica = replica
        self._clock = clock
        self._listener = Listener(self._heard, self._resync)
        self._expected: dict[str, set[asyncio.Future[Outcome]]] = {}
        self._catching_up: asyncio.Task[None] | None = None
        self._synced_at: float | None = None
        self._on_proof: list[Callable[[], None]] = []
        self._log = logs.get(__name__)
        self.beacon_at: float | None = None
        """When the beacon was heard last, in monotonic seconds."""

    async def open(self) -> None:
        """Begin to listen; returns at once, whether or not Redis is there."""
        self._subscriber.on_proof(self._proved)
        await self._subscriber.add(keys.EVENTS_CHANNEL, self._listener, wait_s=0)

    def on_proof(self, tell: Callable[[], None]) -> None:
        """Have ``tell`` called whenever :attr:`fresh_at` may have moved."""
        self._on_proof.append(tell)

    @property
    def fresh_at(self) -> float | None:
        """Nothing said before this moment was missed."""
        proofs = [at for at in (self._subscriber.fresh_at, self._synced_at) if at is not None]
        return max(proofs, default=None)

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

    def _heard(self, message: bytes) -> None:
        try:
            event = events.decode(message)
        except (msgspec.DecodeError, UnicodeDecodeError) as error:
            self._log.warning("event dropped", reason=str(error)[:200])
            return
        match event:
            case FlagsEvent():
                first = not self._replica.known.is_set()
                self._replica.apply(event.document, "event")
                for answer in self._expected.get(event.command_id or "", ()):
                    if not answer.done():
                        answer.set_result(event.as_outcome())
                missed = first
            case BeaconEvent():
                self.beacon_at = self._clock.monotonic()
                missed = event.position > self._replica.position
        if missed and self._catching_up is None:
            self._catching_up = asyncio.create_task(self._catch_up())

    async def _catch_up(self) -> None:
        """A message was lost, although the connection was not."""
        try:
            await self._read_snapshot()
        except StoreUnavailable as error:
            self._log.info("cannot catch up", reason=error.reason)  # the next beacon tries again
        finally:
            self._catching_up = None

    async def _resync(self) -> None:
        """After every confirmation: what was said before it is in the snapshot."""
        pause = Backoff()
        while True:
            try:
                return await self._read_snapshot()
            except StoreUnavailable:
                await pause.wait()

    async def _read_snapshot(self) -> None:
        """Take what Redis has, and what PostgreSQL has if it answers; mend what Redis lacks.

        A Redis that was restarted or replaced may have lost the newest change, which no instance
        that joins now could know of otherwise.
        """
        began = self._clock.monotonic()
        found, truth = await asyncio.gather(self._projection.read(), self._ask_truth())
        for document, source in ((found, "snapshot"), (truth, "database")):
            if document is not None:
                self._replica.apply(document, source)
        held = self._replica.document
        if held.epoch and (found is None or found.position < held.position):
            await self._projection.write(held)
        if held.epoch:
            self._synced_at = began
            self._proved()

    async def _ask_truth(self) -> Document | None:
        """What PostgreSQL says, if it answers soon. Not cancelled: asyncpg could hang on that."""
        asking = asyncio.ensure_future(self._read_truth())
        asking.add_done_callback(lambda done: done.cancelled() or done.exception())
        done, _ = await asyncio.wait([asking], timeout=TRUTH_WITHIN_S)
        return asking.result() if done and asking.exception() is None else None

    def _proved(self) -> None:
        for tell in self._on_proof:
            tell()
