"""The subscribers: who asked, who confirmed, what each wants to be told of.

Whoever asks gets a request of their own, whether the address is known or not; so nothing that can
be seen from outside tells the two apart. What is known changes only once the owner of the address
has confirmed.
"""

from collections.abc import Sequence
from datetime import datetime
from typing import Any

import msgspec

from control import sql
from control.clock import Clock
from control.errors import InvalidInput
from control.ids import is_id, new_id
from control.stores.postgres import Connection, Database
from control.subscribers import outbox
from control.subscribers.channel import Channel
from control.subscribers.tokens import CONFIRM_WITHIN
from control.subscribers.vault import Unreadable, Vault

_AT_ONCE = 500


class Subscriber(msgspec.Struct, frozen=True, kw_only=True):
    """One of them. ``state`` is pending, active, quarantined or ended; ``detail`` says why the
    latter two. No ``components``: all. ``address`` is empty where it cannot be opened."""

    id: str
    channel: Channel
    address: str
    components: tuple[str, ...]
    state: str
    failures: int
    detail: str | None
    created_at: datetime
    confirmed_at: datetime | None

    @property
    def masked(self) -> str:
        """The address as operators may see it."""
        return self.channel.masked(self.address) if self.address else "***"


class Component(msgspec.Struct, frozen=True):
    """Something that one may want to be told of."""

    id: str
    name: str


class Roster:
    """The table ``drawbridge.subscribers``. Methods raise
    :class:`control.errors.StoreUnavailable`."""

    def __init__(self, database: Database, vault: Vault, clock: Clock) -> None:
        self._database = database
        self._vault = vault
        self._clock = clock
        self._queries = sql.queries("subscribers")

    async def request(
        self, channel: Channel, address: str, components: Sequence[str], secret: str | None = None
    ) -> Subscriber:
        """Note that somebody asks, and have the owner of ``address`` asked to confirm it."""
        made, now = new_id(), self._clock.now()
        async with self._database.acquire() as connection, connection.transaction():
            await connection.execute(
                self._queries["request"], made, channel.value,
                *self._sealed(made, channel, address, secret), list(components), now,
            )  # fmt: skip
            await outbox.ask_to_confirm(connection, made, now)
        return Subscriber(
            id=made, channel=channel, address=address, components=tuple(components),
            state="pending", failures=0, detail=None, created_at=now, confirmed_at=None,
        )  # fmt: skip

    async def confirm(self, request_id: str) -> Subscriber | None:
        """Do as the request says; confirming it again changes nothing. ``None``: it is gone."""
        async with self._database.acquire() as connection, connection.transaction():
            row = await connection.fetchrow(self._queries["lock"], request_id)
            if row is not None and row["became"] is not None:
                row = await connection.fetchrow(self._queries["get"], row["became"])
            elif row is not None and row["state"] == "pending":
                if row["created_at"] + CONFIRM_WITHIN < self._clock.now():
                    return None
                try:
                    row = await self._activate(connection, row)
                except Unreadable:  # its secret has gone meanwhile
                    return None
        return None if row is None else self._read(row)

    async def get(self, subscriber: str) -> Subscriber | None:
        """One by id; a request that was confirmed into another one is that one."""
        row = await self._row(subscriber)
        return None if row is None else self._read(row)

    async def change(self, subscriber: str, components: Sequence[str]) -> Subscriber | None:
        """What it is told of from now on; one that ended, or is in quarantine, goes on.

        ``None`` where there is none that was ever confirmed.
        """
        row = await self._row(subscriber)
        if row is not None:
            row = await self._database.fetchrow(
                self._queries["change"], row["id"], list(components)
            )
        return None if row is None else self._read(row)

    async def remove(self, subscriber: str) -> bool:
        """Forget it and all that waits for it; whether it was there."""
        row = await self._row(subscriber)
        if row is None:
            return False
        return await self._database.execute(self._queries["remove"], row["id"]) == "DELETE 1"

    async def page(
        self,
        *,
        limit: int,
        cursor: str | None = None,
        channel: Channel | None = None,
        state: str | None = None,
        address: str | None = None,
    ) -> tuple[list[Subscriber], str | None]:
        """Up to ``limit`` after ``cursor``, newest first, and the next cursor.

        ``address`` needs ``channel``. Raises :class:`InvalidInput`.
        """
        if cursor is not None and not is_id(cursor):
            raise InvalidInput("is not a cursor of this listing", "cursor")
        indices = None
        if address is not None:
            if channel is None:
                raise InvalidInput("is needed where an address is looked for", "channel")
            indices = self._indices(channel, channel.normal(address))
        rows = await self._database.fetch(
            self._queries["page"], cursor, channel and channel.value, state, indices, limit + 1
        )
        found = [self._read(row) for row in rows[:limit]]
        return found, found[-1].id if len(rows) > limit else None

    async def components(self) -> list[Component]:
        """What there is to be told of, in the order of the status page."""
        rows = await self._database.fetch(self._queries["components"])
        return [Component(*row) for row in rows]

    async def forget_requests(self) -> int:
        """Remove some requests that nobody confirmed in time; how many."""
        before = self._clock.now() - CONFIRM_WITHIN
        done = await self._database.execute(self._queries["forget_requests"], before, _AT_ONCE)
        return int(done.rpartition(" ")[2])

    async def seal_anew(self) -> int:
        """Bring what older secrets sealed under the newest one; how many were."""
        count, last = 0, ""
        while rows := await self._database.fetch(
            self._queries["sealed_before"], self._vault.mark, last, _AT_ONCE
        ):
            last = rows[-1]["id"]
            for row in rows:
                try:
                    address, secret = self._opened(row)
                except Unreadable:
                    continue
                done = await self._database.execute(
                    self._queries["seal_anew"], row["id"], row["address"],
                    *self._sealed(row["id"], Channel(row["channel"]), address, secret),
                )  # fmt: skip
                count += done == "UPDATE 1"
        return count

    async def _activate(self, connection: Connection, request: Any) -> Any:
        """Let ``request`` become the one of its address, or change the one that there is."""
        channel = Channel(request["channel"])
        address, secret = self._opened(request)
        index = self._vault.index(channel, channel.identity(address))
        await connection.execute(
            self._queries["one_at_a_time"], int.from_bytes(index[:8], signed=True)
        )
        known = await connection.fetchrow(
            self._queries["same_address"], channel.value, self._indices(channel, address)
        )
        one = request["id"] if known is None else known["id"]
        await connection.execute(
            self._queries["activate"], one, *self._sealed(one, channel, address, secret),
            request["components"], self._clock.now(),
        )  # fmt: skip
        if known is not None:
            await connection.execute(self._queries["became"], request["id"], one)
        return await connection.fetchrow(self._queries["get"], one)

    async def _row(self, subscriber: str) -> Any:
        row = await self._database.fetchrow(self._queries["get"], subscriber)
        if row is not None and row["became"] is not None:
            row = await self._database.fetchrow(self._queries["get"], row["became"])
        return row

    def _sealed(
        self, row_id: str, channel: Channel, address: str, secret: str | None
    ) -> tuple[bytes, bytes, bytes, bytes | None]:
        """``address``, its index, the mark of the secret, ``secret``, as they are stored."""
        vault = self._vault
        return (
            vault.seal(address, f"{row_id}:address"),
            vault.index(channel, channel.identity(address)),
            vault.mark,
            None if secret is None else vault.seal(secret, f"{row_id}:secret"),
        )

    def _opened(self, row: Any) -> tuple[str, str | None]:
        address = self._vault.open(row["address"], f"{row['id']}:address")
        sealed = row["secret"]
        return address, None if sealed is None else self._vault.open(sealed, f"{row['id']}:secret")

    def _indices(self, channel: Channel, address: str) -> list[bytes]:
        return self._vault.indices(channel, channel.identity(address))

    def _read(self, row: Any) -> Subscriber:
        try:
            address, _ = self._opened(row)
        except Unreadable:
            address = ""
        return Subscriber(
            id=row["id"], channel=Channel(row["channel"]), address=address,
            components=tuple(row["components"]), state=row["state"], failures=row["failures"],
            detail=row["detail"], created_at=row["created_at"], confirmed_at=row["confirmed_at"],
        )  # fmt: skip
