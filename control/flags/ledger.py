"""The truth of the flags, in PostgreSQL: every change and its audit row in one short transaction.

Whoever writes locks the one row of ``drawbridge.flags_state``, and writes only what follows from it
as it stands then. That puts all changes in one order, makes the positions and the audit's numbers
gapless, and lets one command id count once.
"""

import contextlib
from collections.abc import AsyncIterator, Callable, Sequence
from datetime import datetime, timedelta
from typing import Any, NamedTuple, Self

import asyncpg
import msgspec

from control import sql
from control.clock import Clock
from control.errors import StoreUnavailable
from control.flags import audit, commands
from control.flags.audit import AuditRow
from control.flags.commands import Command
from control.flags.document import DECLARED, INACTIVE, Document, Flag, Position
from control.flags.outcome import Outcome, Verdict
from control.stores.postgres import Connection, Database, outage

WAIT_S = 1.5
"""The longest wait for one statement; a little more than the server's own limit for locks."""

LOOK_HOLDS = timedelta(seconds=1)
"""How long after a look the server may begin to write by it. Less than :data:`WAIT_S`: a server
that was frozen must not do what its client has given up."""


class _Unsettled(StoreUnavailable):
    """The connection broke in a transaction: whether that was committed is not known."""


class _Truth(NamedTuple):
    """What the database holds, read under the lock. ``seen``: the row of the same command id."""

    document: Document
    audit_seq: int
    audit_hash: bytes
    looked_at: datetime
    """By the server's clock."""
    seen: Any = None

    def row(self, at: datetime, **fields: Any) -> AuditRow:
        """The next audit row; unless ``fields`` say otherwise, the position stays."""
        epoch, version = self.document.position
        place = {"seq": self.audit_seq + 1, "at": at, "epoch": epoch, "version": version}
        return AuditRow(**{**place, **fields})


class _Entry(NamedTuple):
    """What is to be written: the audit row, its command's digest, and the flag if it changes."""

    row: AuditRow
    digest: bytes | None = None
    flag: Flag | None = None

    def sealed(self, previous: bytes) -> Self:
        """With the hash of its row, which follows the one that has ``previous``."""
        own = audit.link(previous, audit.columns(self.row, self.digest))
        return self._replace(row=msgspec.structs.replace(self.row, hash=own.hex()))


class _Attempt(NamedTuple):
    """The truth that was found, and what was written then, if it was ``done``."""

    truth: _Truth
    entry: _Entry | None
    done: bool = True

    @classmethod
    def of(cls, truth: _Truth, entry: _Entry | None) -> Self:
        """With the hash of the row."""
        return cls(truth, entry and entry.sealed(truth.audit_hash))


_Judged = Callable[[_Truth, datetime], _Entry | None]
"""What is to be written in view of the truth, if anything."""


class Ledger:
    """Reads and changes the flags. ``flags`` are those declared beside the two that always are.

    Every method raises :class:`StoreUnavailable` where PostgreSQL is away or busy for long.
    Nothing is half done then: all of it or nothing. Where the server went away during COMMIT and
    did not come back in time, it may yet turn out to be all; the same command again tells.
    """

    def __init__(self, database: Database, flags: Sequence[str], clock: Clock) -> None:
        self._database = database
        self._declared = tuple(dict.fromkeys((*DECLARED, *flags)))
        self._clock = clock
        self._queries = sql.queries("flags")

    async def read(self) -> Document:
        """The flags as they are. A declared flag that has no row yet is inactive."""
        query = self._queries["read"]
        return self._document(await self._database.fetch(query, self._declared, timeout_s=WAIT_S))

    async def commit(self, command: Command, *, source: str) -> Outcome:
        """Carry out ``command``, or say why not; either way with its audit row.

        The verdict is applied, unchanged, conflict or refused. A command id seen before gives its
        recorded verdict again (and the flags as they are now), or ``KEY_REUSED`` where it belongs
        to another command; neither adds a row. A debounced command has not used its id up.
        """
        return await self._attempt(command, source, self._judge)

    async def record(
        self, command: Command, verdict: Verdict, *, source: str, detail: str = ""
    ) -> Outcome:
        """Enter an attempt that came to nothing, such as a debounced one. See :meth:`commit`.

        One that expected other flags is a conflict in any case: to come again would not help it.
        """
        if verdict is Verdict.APPLIED:
            raise ValueError("only commit applies a command")

        def judge(_: Command, document: Document, _now: datetime) -> tuple[Verdict, str]:
            outrun = _outrun(command, document.position)
            return _conflict(document.position) if outrun else (verdict, detail)

        return await self._attempt(command, source, judge)

    async def note(
        self,
        action: str,
        *,
        actor: str,
        reason: str | None = None,
        request_id: str | None,
        subject: str,
        outcome: str = "noted",
    ) -> None:
        """Enter something else that people must account for, such as ``bypass issued``."""

        def entry(truth: _Truth, now: datetime) -> _Entry:
            row = truth.row(
                now,
                actor=actor,
                action=action,
                reason=reason,
                request_id=request_id,
                source="note",
                outcome=outcome,
                detail=subject,
            )
            return _Entry(row)

        await self._enter(entry)

    async def renew_epoch(self, *, above: int = 0) -> Document:
        """Begin a new order of changes, later than all before: for a truth that went back in time.

        A restored backup is older than what Redis and the instances hold. ``above`` is the epoch
        that they hold; where the truth is above it already, nothing happens.
        """

        def entry(truth: _Truth, now: datetime) -> _Entry | None:
            if 0 < above < truth.document.epoch:
                return None
            row = truth.row(
                now,
                actor="drawbridge",
                action="renew epoch",
                source="ledger",
                outcome="renewed",
                detail=f"the epoch was {truth.document.epoch}",
                epoch=max(int(now.timestamp() * 1000), truth.document.epoch + 1, above + 1),
            )
            return _Entry(row)

        truth, written = await self._enter(entry)
        if written is None:
            return truth.document
        return msgspec.structs.replace(truth.document, epoch=written.row.epoch)

    async def _attempt(
        self,
        command: Command,
        source: str,
        judge: Callable[[Command, Document, datetime], tuple[Verdict, str]],
    ) -> Outcome:
        def entry(truth: _Truth, now: datetime) -> _Entry | None:
            if truth.seen is not None:
                return None
            return _entry(command, source, truth, judge(command, truth.document, now), now)

        truth, written = await self._enter(entry, command.id)
        if written is None:
            return _again(command, source, truth)
        row, document = written.row, truth.document
        if written.flag is not None:
            flags = {**document.flags, command.flag: written.flag}
            document = Document(row.epoch, row.version, flags)
        verdict = Verdict(row.outcome)
        return Outcome(command_id=command.id, verdict=verdict, document=document, detail=row.detail)

    def _judge(self, command: Command, document: Document, now: datetime) -> tuple[Verdict, str]:
        """What becomes of a command that nobody has seen before, and why."""
        if command.flag not in self._declared:
            return Verdict.REFUSED, f"there is no flag {command.flag}"
        if command.until is not None and command.until <= now:
            return Verdict.REFUSED, "until is in the past"
        if _outrun(command, document.position):
            return _conflict(document.position)
        before = document.flag(command.flag)
        if commands.changed(before, command, now) == before:
            return Verdict.UNCHANGED, ""
        return Verdict.APPLIED, ""

    async def _enter(
        self, judged: _Judged, command_id: str | None = None
    ) -> tuple[_Truth, _Entry | None]:
        """Write what is ``judged`` of the truth, and log it: the truth before, what was written.

        Mostly nobody else is writing. Then it takes a look and one statement, and no transaction
        that a holder could be stopped in.
        """
        tried = None if self._database.pooled else await self._at_once(judged, command_id)
        done = tried if tried and tried.done else await self._in_turn(judged, command_id, tried)
        if done.entry is not None:
            audit.log_row(done.entry.row)
        return done.truth, done.entry

    async def _at_once(self, judged: _Judged, command_id: str | None) -> _Attempt:
        """Write unless somebody else has since the look, or holds the flags.

        Not done: nothing was written, or the answer was lost.
        """
        async with self._database.acquire() as connection:
            truth = await self._truth(connection, command_id)
            found = _Attempt.of(truth, judged(truth, self._clock.now()))
            if found.entry is None:
                return found
            try:
                return found._replace(done=await self._append(connection, truth, found.entry))
            except BaseException as error:
                with contextlib.suppress(asyncpg.InterfaceError):
                    connection.terminate()
                if outage(error) is None and not isinstance(error, asyncpg.LockNotAvailableError):
                    raise
                return found._replace(done=False)

    async def _in_turn(
        self, judged: _Judged, command_id: str | None, tried: _Attempt | None
    ) -> _Attempt:
        """Write under the lock, unless what was ``tried`` before is there after all.

        Where the answer to COMMIT was lost, a new connection looks whether the row is there.
        """
        found = tried
        try:
            async with self._locked() as connection:
                if not (found and found.entry and await self._there(connection, found.entry.row)):
                    truth = await self._truth(connection, command_id)
                    found = _Attempt.of(truth, judged(truth, self._clock.now()))
                    if found.entry and not await self._append(connection, truth, found.entry):
                        raise StoreUnavailable("database", "timeout")
        except _Unsettled:
            if not (found and found.entry and await self._holds(found.entry.row)):
                raise
        return found

    @contextlib.asynccontextmanager
    async def _locked(self) -> AsyncIterator[Connection]:
        """A transaction that holds the flags; committed at the end of the block.

        After any error its connection is dropped, which undoes it at once.
        """
        committing = False
        async with self._database.acquire(begins=True) as connection:
            try:
                await connection.execute(self._queries["lock"], timeout=WAIT_S)
                yield connection
                committing = True
                await connection.execute(self._queries["commit"], timeout=WAIT_S)
            except BaseException as error:
                with contextlib.suppress(asyncpg.InterfaceError):
                    connection.terminate()
                if isinstance(error, asyncpg.LockNotAvailableError):
                    raise StoreUnavailable("database", "the flags are locked") from error
                if isinstance(error, asyncpg.IdleInTransactionSessionTimeoutError):
                    raise StoreUnavailable("database", "timeout") from error
                reason = outage(error)
                if reason is not None and (committing or not isinstance(error, TimeoutError)):
                    raise _Unsettled("database", reason) from error
                raise

    async def _truth(self, connection: Connection, command_id: str | None) -> _Truth:
        rows = await connection.fetch(
            self._queries["look"], self._declared, command_id, timeout=WAIT_S
        )
        document = self._document(rows)
        first = rows[0]
        seen = first if first["seen_outcome"] is not None else None
        return _Truth(document, first["audit_seq"], first["audit_hash"], first["looked_at"], seen)

    async def _append(self, connection: Connection, truth: _Truth, entry: _Entry) -> bool:
        """Send the row and what it changes; whether it was entered: see the query."""
        seq, _, *rest = audit.columns(entry.row, entry.digest)
        flag = entry.flag or INACTIVE
        status: str = await connection.execute(
            self._queries["append"],
            *(seq, entry.row.at, *rest, truth.audit_hash, bytes.fromhex(entry.row.hash)),
            *(entry.flag is not None, flag.is_active, flag.changed_at, flag.changed_by),
            *(flag.reason, flag.until, flag.mode, truth.looked_at, LOOK_HOLDS),
            timeout=WAIT_S,
        )
        return status == "SELECT 1"

    async def _holds(self, row: AuditRow) -> bool:
        """Whether ``row`` was committed. Waits for the lock: its own transaction may still end."""
        async with self._locked() as connection:
            return await self._there(connection, row)

    async def _there(self, connection: Connection, row: AuditRow) -> bool:
        found: bool | None = await connection.fetchval(
            self._queries["holds"], row.seq, bytes.fromhex(row.hash), timeout=WAIT_S
        )
        return found is not None

    def _document(self, rows: Sequence[asyncpg.Record]) -> Document:
        if not rows:
            raise StoreUnavailable("database", "drawbridge.flags_state has lost its row")
        flags = dict.fromkeys(self._declared, INACTIVE)
        for row in rows:
            if row["name"] is not None:
                flags[row["name"]] = Flag(
                    is_active=row["is_active"],
                    changed_at=row["changed_at"],
                    changed_by=row["changed_by"],
                    reason=row["reason"],
                    until=row["until"],
                    mode=row["mode"],
                )
        return Document(rows[0]["epoch"], rows[0]["version"], flags)


def _entry(
    command: Command, source: str, truth: _Truth, judged: tuple[Verdict, str], now: datetime
) -> _Entry:
    """What is written of a command that was judged so."""
    verdict, detail = judged
    applied = verdict is Verdict.APPLIED
    before = after = truth.document.flags.get(command.flag)
    if applied:
        after = commands.changed(before or INACTIVE, command, now)
    row = truth.row(
        now,
        actor=command.actor,
        action=audit.action(command, before),
        flag=command.flag,
        before=before,
        after=after,
        reason=command.reason,
        command_id=command.id,
        request_id=command.request_id,
        source=source,
        outcome=verdict.value,
        detail=detail,
        version=truth.document.version + applied,
    )
    return _Entry(row, command.digest(), after if applied else None)


def _outrun(command: Command, actual: Position) -> bool:
    """Whether the flags have moved on since ``command`` was thought of."""
    expected = (command.expected_epoch, command.expected_version)
    return any(wish not in (None, is_) for wish, is_ in zip(expected, actual, strict=True))


def _conflict(actual: Position) -> tuple[Verdict, str]:
    return Verdict.CONFLICT, f"the flags have changed: they are at {actual}"


def _again(command: Command, source: str, truth: _Truth) -> Outcome:
    """The outcome of a command whose id has a row already."""
    seen = truth.seen
    if seen["seen_digest"] == command.digest():
        verdict, detail = Verdict(seen["seen_outcome"]), seen["seen_detail"]
    else:
        verdict, detail = Verdict.KEY_REUSED, "another command had this id"
        audit.log_unrecorded(command, verdict, source=source, detail=detail)
    return Outcome(command_id=command.id, verdict=verdict, document=truth.document, detail=detail)
