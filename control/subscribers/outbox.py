"""The outbox in PostgreSQL: each notice once for each subscriber whom it concerns.

:func:`announce` writes it in the transaction of what it tells of. From then on a delivery belongs
to whoever has its newest claim: handing it over makes one, beginning an attempt another, so that
an attempt is made once however often it is handed over. A claim ends by itself; then somebody else
takes the delivery, and sends the same message under the same id.
"""

from collections.abc import Sequence
from datetime import datetime, timedelta

import msgspec

from control import sql
from control.clock import Clock
from control.ids import new_id
from control.stores.postgres import Connection, Database
from control.subscribers.claim import CLAIM_S, Claim
from control.subscribers.notice import CONFIRM, Notice

IN_FLIGHT = 60
"""Deliveries that are claimed at once in the whole fleet: thousands of messages leave slots to
other jobs, and no claim ends before its turn comes."""

QUARANTINE_AFTER = 3
"""Deliveries in a row that failed for good, after which a subscriber is told nothing more."""

_ANNOUNCE_S = 60.0
"""To write a delivery for everybody, however many they are: a change must not fail for that."""

_PRUNE_AT_ONCE = 20
_decode = msgspec.json.Decoder(Notice).decode


class Begun(msgspec.Struct, frozen=True):
    """An attempt that has begun: what is told, to whom; ``address`` and ``secret`` are sealed."""

    claim: Claim
    attempt: int
    notice: Notice
    noticed_at: datetime
    channel: str
    address: bytes
    secret: bytes | None
    state: str
    became: str | None
    requested_at: datetime


async def announce(connection: Connection, notice_id: str, notice: Notice, at: datetime) -> None:
    """Have everybody told whom ``notice`` concerns, under an id (ULID) that no other one has.

    Within the caller's transaction: told if, and only if, that is committed.
    """
    await _keep(connection, notice_id, notice, at)
    components = [each.id for each in notice.components]
    address = sql.queries("outbox")["address"]
    await connection.execute(address, notice_id, components, at, timeout=_ANNOUNCE_S)


async def ask_to_confirm(connection: Connection, subscriber: str, at: datetime) -> None:
    """Have the one asked who wants to be a subscriber; within the transaction that makes it one."""
    notice_id = new_id()
    await _keep(connection, notice_id, Notice(kind=CONFIRM), at)
    await connection.execute(sql.queries("outbox")["address_one"], notice_id, subscriber, at)


async def _keep(connection: Connection, notice_id: str, notice: Notice, at: datetime) -> None:
    components = [each.id for each in notice.components]
    document = msgspec.json.encode(notice).decode().replace("\\u0000", " ")
    await connection.execute(
        sql.queries("outbox")["notice"], notice_id, notice.kind, components, document, at
    )


class Outbox:
    """What workers do with it. Methods raise :class:`control.errors.StoreUnavailable`."""

    def __init__(self, database: Database, clock: Clock) -> None:
        self._database = database
        self._clock = clock
        self._queries = sql.queries("outbox")

    async def claim(self, most: int) -> list[Claim]:
        """Up to ``most`` deliveries that are due and nobody holds, now the caller's."""
        rows = await self._database.fetch(self._queries["claim"], most, IN_FLIGHT, CLAIM_S)
        return [Claim(*row) for row in rows]

    async def next_due_s(self) -> float | None:
        """Seconds until the first is due that nobody holds; ``None`` where there is none."""
        row = await self._database.fetchrow(self._queries["next_due"])
        return None if row is None else max(0.0, row["wait_s"])

    async def begin(self, claim: Claim) -> Begun | None:
        """Begin an attempt; ``None`` where ``claim`` is not the newest any more."""
        row = await self._database.fetchrow(
            self._queries["begin"], claim.notice, claim.subscriber, claim.claim, CLAIM_S
        )
        if row is None:
            return None
        return Begun(
            Claim(claim.notice, claim.subscriber, row["claim"]), row["attempts"],
            _decode(row["document"]), row["created_at"], row["channel"], row["address"],
            row["secret"], row["state"], row["became"], row["requested_at"],
        )  # fmt: skip

    async def sent(self, claim: Claim) -> None:
        """It was taken; what failed before is forgiven."""
        await self._database.execute(self._queries["sent"], *_named(claim))

    async def later(self, claim: Claim, wait_s: float, why: str) -> None:
        """Try again after ``wait_s``."""
        await self._database.execute(self._queries["later"], *_named(claim), wait_s, why)

    async def drop(self, claim: Claim, why: str) -> None:
        """Nobody is to be told any more."""
        await self._database.execute(self._queries["settle"], *_named(claim), "dropped", why)

    async def fail(self, claim: Claim, why: str, *, charged: bool) -> bool:
        """Give it up; whether that put the subscriber into quarantine. ``charged``: its fault."""
        async with self._database.acquire() as connection, connection.transaction():
            done = await connection.execute(self._queries["settle"], *_named(claim), "failed", why)
            if not charged or done != "UPDATE 1":
                return False
            state = await connection.fetchval(
                self._queries["charge"], claim.subscriber, QUARANTINE_AFTER, why
            )
            if state != "quarantined":
                return False
            await connection.execute(
                self._queries["drop_waiting"], claim.subscriber, "its subscriber is in quarantine"
            )
        return True

    async def end_subscription(self, claim: Claim, why: str) -> None:
        """Its receiver wants no more of these: the delivery failed, and none follows."""
        async with self._database.acquire() as connection, connection.transaction():
            await connection.execute(self._queries["settle"], *_named(claim), "failed", why)
            await connection.execute(self._queries["end_subscription"], claim.subscriber, why)
            await connection.execute(
                self._queries["drop_waiting"], claim.subscriber, "its subscription has ended"
            )

    async def prune(self, days: int) -> int:
        """Remove some notices older than that of which nothing waits; how many."""
        before = self._clock.now() - timedelta(days=days)
        async with self._database.acquire() as connection:  # their deliveries go with them
            done = await connection.execute(
                self._queries["prune"], before, _PRUNE_AT_ONCE, timeout=_ANNOUNCE_S
            )
        return int(done.rpartition(" ")[2])


def _named(claim: Claim) -> Sequence[object]:
    return claim.notice, claim.subscriber, claim.claim
