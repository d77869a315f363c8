"""What one instance holds of the flags: the newest document, in memory, and how fresh it is.

Requests and jobs are decided on this alone; nobody asks a store. Two sources keep it true: the
subscription on Redis, and PostgreSQL while Redis is away. Each proves from time to time that
nothing it should have brought was missed; :meth:`Replica.admits` is false where neither did so
within the lease, for then the fleet may have stopped counting on this instance.
"""

import asyncio
import math
from collections.abc import Callable
from typing import Literal

from control import logs
from control.clock import Clock
from control.flags.document import MAINTENANCE, NOTHING, Document, Flag, Position

LEASE_S = 5.0
"""How long an instance counts as live after it last reported, and may act on what it knows."""

STALE_S = 3.0
"""The age of the last proof from which an instance says that it is stale."""

Source = Literal["redis", "database"]
Tell = Callable[[Document, Document], None]


class Replica:
    """The flags of one instance. It never goes back to an older document."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._tells: list[Tell] = []
        self._proved: dict[Source, float] = {"redis": -math.inf, "database": -math.inf}
        self._fresh_at = -math.inf
        self._log = logs.get(__name__)
        self.document = NOTHING
        self.raised: Flag | None = None
        """The maintenance flag while the bridge is up."""
        self.known = asyncio.Event()
        """Set once there is a document."""
        self.proved = asyncio.Event()
        """Set once something has proved it fresh."""

    @property
    def position(self) -> Position:
        """The position of the newest document."""
        return self.document.position

    def apply(self, document: Document, source: str) -> bool:
        """Take ``document`` if it is newer than what is held; tell whoever asked to be told."""
        before = self.document
        if document.position <= before.position:
            return False
        self.document = document
        flag = document.flag(MAINTENANCE)
        self.raised = flag if flag.is_active else None
        self.known.set()
        logs.soon(self._say, document, source)
        for tell in tuple(self._tells):
            try:
                tell(before, document)
            except Exception:
                self._log.exception("a listener to the flags failed")
        return True

    def _say(self, document: Document, source: str, *, timestamp: str) -> None:
        self._log.info(
            "flags applied",
            position=str(document.position),
            source=source,
            active=sorted(name for name, flag in document.flags.items() if flag.is_active),
            timestamp=timestamp,
        )

    def on_change(self, tell: Tell) -> Callable[[], None]:
        """Have ``tell(before, after)`` called for each newer document; returns how to end that."""
        self._tells.append(tell)
        return lambda: self._tells.remove(tell)

    def prove(self, source: Source, at: float) -> None:
        """Nothing published before ``at`` (monotonic seconds) was missed, says ``source``."""
        if at <= self._proved[source]:
            return
        was_stale = self.stale
        self.proved.set()
        self._proved[source] = at
        self._fresh_at = max(self._fresh_at, at)
        if was_stale and not self.stale:
            self._log.info("control state fresh", source=source)

    def withdraw(self, source: Source) -> None:
        """Act on the proofs of ``source`` no longer: its roll is about to forget this instance, and
        nobody would wait for it then."""
        self._proved[source] = -math.inf
        self._fresh_at = max(self._proved.values())

    def admits(self) -> bool:
        """Whether what is known is fresh enough to let work in."""
        return self._clock.monotonic() - self._fresh_at <= LEASE_S

    @property
    def staleness_s(self) -> float | None:
        """Seconds since the last proof; ``None`` before the first."""
        age_s = self._clock.monotonic() - self._fresh_at
        return None if math.isinf(age_s) else max(0.0, age_s)

    @property
    def stale(self) -> bool:
        """Whether the last proof is older than :data:`STALE_S`."""
        return self._clock.monotonic() - self._fresh_at > STALE_S

    def age_s(self, source: Source) -> float:
        """Seconds since the last proof of one source; infinite before the first."""
        return self._clock.monotonic() - self._proved[source]

    @property
    def source(self) -> str:
        """Where the state comes from now: ``redis``, ``database``, or ``memory`` alone."""
        if self.age_s("redis") <= STALE_S:
            return "redis"
        return "database" if self.age_s("database") <= STALE_S else "memory"
