"""A replica's link to Redis: events, a snapshot after every reconnect, proof each second."""

import asyncio
from collections.abc import Awaitable, Callable

import msgspec

from control import cancelling, keys, logs
from control.backoff import Backoff
from control.clock import Clock
from control.errors import StoreUnavailable
from control.flags import events
from control.flags.answers import Answers
from control.flags.document import Document, Position
from control.flags.events import BeaconEvent, FlagsEvent
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
        answers: Answers,
        clock: Clock,
        *,
        read_truth: Callable[[], Awaitable[Document]],
    ) -> None:
        self._subscriber = subscriber
        self._projection = projection
        self._read_truth = read_truth
        self._replica = replica
        self._answers = answers
        self._clock = clock
        self._listener = Listener(self._heard, self._resync)
        self._catching_up: asyncio.Task[None] | None = None
        self._synced_at: float | None = None
        self._beacon: tuple[float | None, Position] = (None, Position(0, 0))
        """What the beacon said last, and since when the connection has listened that told so."""
        self._server: str | None = None
        """The run of the Redis server with which we are in step."""
        self._on_proof: list[Callable[[], None]] = []
        self._log = logs.get(__name__)
        self.beacon_at: float | None = None
        """When the beacon was heard last, in monotonic seconds."""

    async def open(self) -> None:
        """Begin to listen; returns at once, whether or not Redis is there."""
        self._subscriber.on_proof(self._proved)
        await self._subscriber.add(keys.EVENTS_CHANNEL, self._listener, wait_s=0)

    async def close(self) -> None:
        """End what is under way."""
        if self._catching_up is not None:
            await cancelling.end(self._catching_up)

    def on_proof(self, tell: Callable[[], None]) -> None:
        """Have ``tell`` called whenever :attr:`fresh_at` may have moved."""
        self._on_proof.append(tell)

    @property
    def fresh_at(self) -> float | None:
        """Nothing said before this moment was missed."""
        proofs = [at for at in (self._subscriber.fresh_at, self._synced_at) if at is not None]
        return max(proofs, default=None)

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
                self._answers.heard(event)
                missed = first
            case BeaconEvent():
                self.beacon_at = self._clock.monotonic()
                self._beacon = (self._subscriber.since, event.position)
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
            except StoreUnavailable as error:
                self._log.info("not in step yet", reason=str(error))
            except Exception:  # whatever it is, we are not in step, and no answer may prove it
                self._log.exception("cannot read the snapshot")
            await pause.wait()

    async def _read_snapshot(self) -> None:
        """Take what Redis has, and what PostgreSQL has if it answers; mend what Redis lacks.

        A Redis that was restarted, emptied or replaced may have lost the newest change, and so may
        we, if we were cut off. So only with PostgreSQL's word an empty one is filled, and a
        snapshot proves something only with PostgreSQL or the beacon to vouch for it, or from the
        very server that we were in step with before. Raises :class:`StoreUnavailable` where
        nothing does.
        """
        began = self._clock.monotonic()
        (found, server), truth = await asyncio.gather(
            self._projection.snapshot(), self._ask_truth()
        )
        for document, source in ((found, "snapshot"), (truth, "database")):
            if document is not None:
                self._replica.apply(document, source)
        held = self._replica.document
        lacks = truth is not None if found is None else found.position < held.position
        if held.epoch and lacks:
            await self._projection.write(held)
        known = found is not None and not lacks and server != "" and server == self._server
        proved_at = began if truth is not None or known else self._by_beacon(held.position)
        if proved_at is None:
            raise StoreUnavailable("redis", "nobody vouches for its flags")
        self._server = server
        if held.epoch:
            self._synced_at = proved_at
            self._proved()

    def _by_beacon(self, held: Position) -> float | None:
        """The moment for which the beacon vouches that nothing later than ``held`` was there: no
        more than that it spoke on this connection is known, for it may have been heard long ago
        or be read late. The next answer to a PING proves the rest."""
        since, said = self._beacon
        return since if since == self._subscriber.since and said <= held else None

    async def _ask_truth(self) -> Document | None:
        """What PostgreSQL says, if it answers soon. Not cancelled: asyncpg could hang on that."""
        asking = asyncio.ensure_future(self._read_truth())
        asking.add_done_callback(lambda done: done.cancelled() or done.exception())
        done, _ = await asyncio.wait([asking], timeout=TRUTH_WITHIN_S)
        return asking.result() if done and asking.exception() is None else None

    def _proved(self) -> None:
        for tell in self._on_proof:
            tell()
