"""What the times of windows call for, done exactly once, by whoever comes first.

A window's row moves in one transaction, which only one can win. Raising the bridge is a command
that is written beside the window before it is sent, under an id that counts once, so that it can be
sent again by anybody and still happens once. Lowering needs no record: a bridge that a window
raised, and that no window holds any more, comes down; the position that was looked at makes sure
that nobody else moved it meanwhile.
"""

from datetime import datetime

import msgspec

from control import logs, sql
from control.clock import Clock
from control.errors import StoreUnavailable
from control.flags import commands
from control.flags.commands import Command
from control.flags.document import MAINTENANCE, Position
from control.flags.outcome import Verdict
from control.flags.plane import ControlPlane
from control.status import window_store, windows
from control.status.publishing import Publication, Publisher
from control.status.states import WindowStatus
from control.status.windows import Live, Wish
from control.stores.postgres import Database

_TRIES = 5
"""So often it is decided anew where the flags change meanwhile."""

_STEPS = {"start": window_store.start, "end": window_store.end, "miss": window_store.miss}


class Edges:
    """Does what is due. Any instance may; one that fails halfway leaves the rest to the next."""

    def __init__(
        self, plane: ControlPlane, database: Database, publisher: Publisher, clock: Clock
    ) -> None:
        self._plane = plane
        self._database = database
        self._publisher = publisher
        self._clock = clock
        self._log = logs.get(__name__)

    async def settle(self) -> bool:
        """Move windows whose time has come, and the bridge with them; whether any moved.

        Raises :class:`StoreUnavailable`; the rest is done at the next time.
        """
        moved = await self._move()
        await self._raise()
        await self.tidy()
        return moved

    @property
    def untidy(self) -> bool:
        """Whether the bridge is up and a window raised it: then it has to be looked after."""
        raised = self._plane.replica.raised
        return raised is not None and windows.is_ours(raised)

    async def _move(self) -> bool:
        now, moved = self._clock.now(), False
        async with self._publisher.publication() as publication:
            # Again, while a series makes windows that have passed already.
            while await self._move_due(publication, now):
                moved = True
        return moved

    async def _move_due(self, publication: Publication, now: datetime) -> bool:
        connection = publication.connection
        made = await window_store.make_ahead(connection, now)
        rows = await connection.fetch(sql.queries("status_windows")["due"], now)
        for row in rows:
            status = WindowStatus(row["status"])
            edge = windows.edge(status, row["scheduled_start"], row["scheduled_end"], now)
            if edge is not None:
                await _STEPS[edge](publication, row["id"], now)
                self._log.info("maintenance window", window=row["id"], edge=edge)
        return bool(rows or made)

    async def _raise(self) -> None:
        """See to it that what began to raise the bridge has done so, or never will."""
        queries = sql.queries("status_windows")
        for row in await self._database.fetch(queries["unsettled"]):
            if row["bridge"] == "lowering":
                await self._forestall(row["id"], row["command"])
                continue
            window = Live(row["id"], row["title"], row["scheduled_end"])
            stands = await self._raised(window, row["command"])
            if stands is not None:
                await self._database.execute(queries["settle"], window.id, stands, "raising")
                self._log.info("maintenance window at the bridge", window=window.id, bridge=stands)

    async def _raised(self, window: Live, intended: str | None) -> str | None:
        """Raise the bridge for ``window``: ``raised``, ``yielded``, or ``None`` if it has ended
        meanwhile."""
        for _ in range(_TRIES):
            if intended is None:
                document = await self._plane.ledger.read()
                wish = windows.raising(document.flag(MAINTENANCE), window)
                if wish is None:
                    ours = windows.is_ours(document.flag(MAINTENANCE))
                    return "raised" if ours else "yielded"
                intended = await self._intend(window.id, None, _command(wish, document.position))
                if intended is None:
                    return None
            command = commands.parse(intended.encode())
            outcome = await self._plane.change(command, internal=True)
            if outcome.verdict is Verdict.UNAVAILABLE:
                raise StoreUnavailable("database", "the bridge could not be raised yet")
            if outcome.verdict is not Verdict.CONFLICT:
                return "raised" if outcome.done else "yielded"
            # The flags have moved since it was decided: decide anew, under another id.
            intended = await self._intend(window.id, intended, None)
        raise StoreUnavailable("database", "the flags change too fast")

    async def _intend(self, id_: str, before: str | None, command: Command | None) -> str | None:
        """Write what is about to be sent; what is written, which another may have been first at."""
        text = commands.encode(command).decode() if command is not None else None
        query = sql.queries("status_windows")["intend"]
        row = await self._database.fetchrow(query, id_, before, text)
        return None if row is None else row["command"]

    async def _forestall(self, id_: str, intended: str) -> None:
        """The window has ended before its command was known to be carried out. Use its id up, lest
        it is carried out by somebody who was held up: this one asks for a position that never was,
        so it changes nothing."""
        own = commands.parse(intended.encode())
        never = msgspec.structs.replace(own, value=False, until=None, mode=None,
                                        expected_epoch=0, expected_version=0)  # fmt: skip
        outcome = await self._plane.change(never, internal=True)
        if outcome.verdict is not Verdict.UNAVAILABLE:
            query = sql.queries("status_windows")["settle"]
            await self._database.execute(query, id_, "done", "lowering")

    async def tidy(self) -> None:
        """Lower what a window raised and none holds any more; follow windows that end otherwise."""
        for _ in range(_TRIES):
            document = await self._plane.ledger.read()
            if not windows.is_ours(document.flag(MAINTENANCE)):
                return
            rows = await self._database.fetch(sql.queries("status_windows")["live"])
            live = [Live(row["id"], row["title"], row["scheduled_end"]) for row in rows]
            wish = windows.tidying(document.flag(MAINTENANCE), live)
            if wish is None:
                return
            outcome = await self._plane.change(_command(wish, document.position), internal=True)
            if outcome.verdict is Verdict.UNAVAILABLE:
                raise StoreUnavailable("database", "the bridge could not be moved yet")
            if outcome.verdict is not Verdict.CONFLICT:
                return


def _command(wish: Wish, at: Position) -> Command:
    """The wish as a command that holds only while the flags stand at ``at``."""
    return commands.new(
        "set",
        MAINTENANCE,
        actor=wish.actor,
        value=wish.active,
        reason=wish.reason,
        until=wish.until,
        expected=at,
    )
