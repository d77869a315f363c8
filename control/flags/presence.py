"""Who is live, what each has applied, and whether it is at rest.

Each instance renews a lease and leaves its report beside it: in Redis, or in PostgreSQL while it
takes the flags from there. An instance admits work only while one of these counts it among the
living (see :meth:`control.flags.replica.Replica.admits`), so who is on neither roll holds nobody
up: it has shut its own door.
"""

import asyncio
import contextlib
import os
import random
import socket
from collections.abc import Callable
from datetime import datetime
from typing import Literal

import msgspec
from redis.asyncio import Redis

from control import keys, logs, sql
from control.clock import Clock
from control.errors import StoreUnavailable
from control.flags.document import Position
from control.flags.projection import texts
from control.flags.replica import LEASE_S, Replica
from control.stores.postgres import Database
from control.stores.scripts import Script
from control.stores.wire import Wire

Kind = Literal["service", "worker"]

RENEW_S = 1.0
LATER_S = (0.008, 0.016)
"""How long a change waits to be told. A change of the flags makes every instance report at once:
those that share a machine have applied it by then, and Redis is not asked by all together."""

GAP_MS = 2_500
"""A live instance reports each :data:`RENEW_S`. Where by Redis's clock nobody has for this long,
the clock may have been set forward, and who is missing on the roll may have its door open yet."""

KEPT_MS = 60_000
"""How long the report of an instance that vanished is kept."""


class ReplicaReport(msgspec.Struct, frozen=True, kw_only=True):
    """What an instance says of itself. ``running`` counts its jobs, or its requests.

    ``quiesced``: the bridge is up, and nothing that was admitted before still runs.
    """

    id: str
    kind: Kind
    host: str
    pid: int
    epoch: int
    version: int
    phase: str
    running: int
    quiesced: bool
    staleness_s: float
    source: str
    at: datetime

    @property
    def position(self) -> Position:
        """The newest document that it has applied."""
        return Position(self.epoch, self.version)


class Left(msgspec.Struct, frozen=True):
    """An instance that ended in good order."""

    id: str
    left: bool = True


class Presence:
    """The report of one instance, and its lease in Redis."""

    def __init__(
        self, instance: str, kind: Kind, *, redis: Redis | Wire, replica: Replica, clock: Clock
    ) -> None:
        self._instance = instance
        self._kind: Kind = kind
        self._host = socket.gethostname()
        self._replica = replica
        self._clock = clock
        self._report = Script(redis, texts()["report"])
        self._leave = Script(redis, texts()["leave"])
        self._changed = asyncio.Event()
        self._state: tuple[str, int, bool] = ("starting", 0, False)
        self._told: tuple[object, ...] = ()
        self._on_renewal: list[Callable[[], None]] = []
        self._on_well: list[Callable[[float], None]] = []
        self._log = logs.get(__name__)
        self.renewed_at: float | None = None
        """When the newest lease that was granted had been asked for, in monotonic seconds."""
        self._soon: asyncio.TimerHandle | None = None
        replica.on_change(lambda _before, _after: self._tell_soon())

    def report(self, *, phase: str, running: int, quiesced: bool) -> None:
        """Say how this instance stands. The fleet hears of it at once, but for the comings and
        goings of ordinary work, which the next renewal tells."""
        was, self._state = self._state, (phase, running, quiesced)
        if was[::2] != (phase, quiesced) or (self._replica.raised and was[1] != running):
            self._tell_soon()

    def on_renewal(self, tell: Callable[[], None]) -> None:
        """Have ``tell`` called whenever :attr:`renewed_at` has moved."""
        self._on_renewal.append(tell)

    def on_well(self, tell: Callable[[float], None]) -> None:
        """Have ``tell`` called with when it was asked, in monotonic seconds, whenever Redis took a
        report and has room for more."""
        self._on_well.append(tell)

    def current(self) -> ReplicaReport:
        """The report as it stands now."""
        phase, running, quiesced = self._state
        return ReplicaReport(
            id=self._instance,
            kind=self._kind,
            host=self._host,
            pid=os.getpid(),
            epoch=self._replica.position.epoch,
            version=self._replica.position.version,
            phase=phase,
            running=running,
            quiesced=quiesced,
            staleness_s=round(self._replica.staleness_s or 0.0, 3),
            source=self._replica.source,
            at=self._clock.now(),
        )

    async def run(self) -> None:
        """Renew for ever, from the moment there is something to have applied."""
        await self._replica.known.wait()
        while True:
            self._changed.clear()
            if self._soon is not None:
                self._soon.cancel()
                self._soon = None
            with contextlib.suppress(StoreUnavailable):
                await self._renew()
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._changed.wait(), RENEW_S)

    async def leave(self) -> None:
        """Be live no longer; whoever waits for the fleet hears of it."""
        left = msgspec.json.encode(Left(self._instance))
        with contextlib.suppress(StoreUnavailable):
            await self._leave(
                [keys.LEASES, keys.REPORTS], [self._instance, keys.REPLICAS_CHANNEL, left]
            )

    def _tell_soon(self) -> None:
        if self._soon is None:
            later_s = random.uniform(*LATER_S)  # noqa: S311 - jitter
            self._soon = asyncio.get_running_loop().call_later(later_s, self._changed.set)

    async def _renew(self) -> None:
        asked_at, report = self._clock.monotonic(), self.current()
        content = (self._state, report.position)
        _, room = await self._report(
            [keys.LEASES, keys.REPORTS, keys.BEGAN],
            [
                self._instance,
                int(LEASE_S * 1000),
                msgspec.json.encode(report),
                KEPT_MS,
                keys.REPLICAS_CHANNEL,
                int(content != self._told),
                GAP_MS,
            ],
        )
        self._told, self.renewed_at = content, asked_at
        for tell in self._on_renewal:
            tell()
        if room:
            for vouch in self._on_well:
                vouch(asked_at)


class Roll(msgspec.Struct, frozen=True):
    """Who is live. ``whole``: nobody who is live can be missing."""

    replicas: list[ReplicaReport]
    whole: bool


class Registry:
    """Reads both rolls. ``database`` may be left out by a client that has none; then the roll
    is never whole. ``linked`` tells whether asking Redis is worth the wait."""

    def __init__(
        self,
        redis: Redis,
        database: Database | None,
        *,
        linked: Callable[[], bool] = lambda: True,
    ) -> None:
        self._linked = linked
        self._roll = Script(redis, texts()["roll"])
        self._database = database

    async def read(self) -> Roll:
        """Everybody live, by id. Raises :class:`StoreUnavailable` where neither store answers."""
        answers = await asyncio.gather(
            self._in_redis(), self._in_database(), return_exceptions=True
        )
        failures = [answer for answer in answers if isinstance(answer, BaseException)]
        for failure in failures:
            if not isinstance(failure, StoreUnavailable):
                raise failure
        if len(failures) == len(answers):
            raise failures[0]
        newest: dict[str, ReplicaReport] = {}
        whole = not failures
        for answer in answers:
            if not isinstance(answer, BaseException):
                whole = whole and answer.whole
                for report in answer.replicas:
                    held = newest.get(report.id)
                    if held is None or held.position <= report.position:
                        newest[report.id] = report
        return Roll([newest[name] for name in sorted(newest)], whole)

    async def _in_redis(self) -> Roll:
        if not self._linked():
            raise StoreUnavailable("redis", "connection failed")
        age_ms, *reports = await self._roll(
            [keys.LEASES, keys.REPORTS, keys.BEGAN], [int(LEASE_S * 1000), GAP_MS]
        )
        return Roll(_decoded(reports), age_ms >= LEASE_S * 1000)

    async def _in_database(self) -> Roll:
        if self._database is None:
            return Roll([], False)
        rows = await self._database.fetch(sql.queries("presence")["live"], LEASE_S)
        return Roll(_decoded([row["report"].encode() for row in rows]), True)


def _decoded(reports: list[bytes]) -> list[ReplicaReport]:
    """The reports that can be read; another release's may hold what we do not know."""
    found = []
    for report in reports:
        with contextlib.suppress(msgspec.DecodeError):
            found.append(msgspec.json.decode(report, type=ReplicaReport))
    return found
