"""The record of every attempt to change a flag: a chain that shows when somebody rewrote it.

The hash of a row is SHA-256 over the hash of the row before it and the row itself, written as one
JSON array of its columns in the order of :func:`columns`. ``drawbridge.flags_state`` holds the end
of the chain, so that a tail cannot be cut off unseen; each hash is logged too, outside of the
database.
"""

import base64
import hashlib
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

import asyncpg
import msgspec

from control import logs, sql
from control.errors import InvalidInput
from control.flags.commands import Command
from control.flags.document import Flag, Position
from control.flags.outcome import Verdict
from control.stores.postgres import Database

BEGINNING = bytes(32)
"""What the first row has as the hash before it."""

MAX_PAGE = 500

OUTCOMES = (*(verdict.value for verdict in Verdict), "noted", "renewed")
"""Every outcome that a row may have."""

_NEWEST = (1 << 63) - 1
_BATCH = 200  # rows that verify holds at a time, and hashes before others get their turn
_1970 = datetime(1970, 1, 1, tzinfo=UTC)
_log = logs.get(__name__)


class AuditRow(msgspec.Struct, frozen=True, kw_only=True):
    """One attempt. ``outcome`` is one of :data:`OUTCOMES`.

    ``epoch`` and ``version`` are the position of the flags after it; ``hash`` is hexadecimal.
    """

    seq: int
    at: datetime
    actor: str
    action: str
    flag: str | None = None
    before: Flag | None = None
    after: Flag | None = None
    reason: str | None = None
    command_id: str | None = None
    request_id: str | None = None
    source: str
    outcome: str
    detail: str = ""
    epoch: int
    version: int
    hash: str = ""


class AuditPage(msgspec.Struct, frozen=True):
    """Some rows, newest first; ``cursor`` asks for the older ones, if there are any."""

    rows: list[AuditRow]
    cursor: str | None


class Verified(msgspec.Struct, frozen=True):
    """How far the chain holds: ``rows`` are intact from the first one on.

    ``broken`` is the ``seq`` of the first that is not, and ``why`` says what is wrong with it.
    """

    rows: int
    broken: int | None = None
    why: str = ""

    @property
    def intact(self) -> bool:
        """Whether nothing is wrong."""
        return self.broken is None


class Audit:
    """Reads the record. Every method raises :class:`control.errors.StoreUnavailable`."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._queries = sql.queries("audit")

    async def page(
        self,
        *,
        limit: int = 50,
        cursor: str | None = None,
        flag: str | None = None,
        actor: str | None = None,
        outcome: str | None = None,
        since: datetime | None = None,
    ) -> AuditPage:
        """At most ``limit`` rows that fit, newest first. Rows added meanwhile do not shift it.

        Raises :class:`InvalidInput` that names the argument.
        """
        if not 1 <= limit <= MAX_PAGE:
            raise InvalidInput(f"must be from 1 to {MAX_PAGE}", "limit")
        for name, value in (("flag", flag), ("actor", actor), ("outcome", outcome)):
            if value is not None and not value.isprintable():
                raise InvalidInput("holds characters that cannot be printed", name)
        if outcome is not None and outcome not in OUTCOMES:
            raise InvalidInput(f"must be one of {', '.join(OUTCOMES)}", "outcome")
        if since is not None and since.tzinfo is None:
            raise InvalidInput("has no time zone", "since")
        below = _NEWEST if cursor is None else _seq_of(cursor)
        query = self._queries["page"]
        found = await self._database.fetch(query, below, flag, actor, outcome, since, limit + 1)
        rows = [_row(record) for record in found[:limit]]
        return AuditPage(rows, _cursor_at(rows[-1].seq) if len(found) > limit else None)

    async def verify(self) -> Verified:
        """Compute the whole chain anew, row by row, in little memory."""
        seq, previous = 0, BEGINNING
        async with (
            self._database.session() as connection,
            connection.transaction(isolation="repeatable_read", readonly=True),
        ):
            end = await connection.fetchrow(self._queries["end"])
            async for record in connection.cursor(self._queries["chain"], prefetch=_BATCH):
                if record["seq"] != seq + 1:
                    return Verified(seq, *_gap(seq + 1, record["seq"]))
                if why := _fault(record, previous):
                    return Verified(seq, seq + 1, why)
                seq, previous = record["seq"], record["hash"]
        return _ended(seq, previous, end)


def columns(row: AuditRow, digest: bytes | None) -> tuple[object, ...]:
    """What a row's hash covers, in order. ``digest`` is its command's; moments are microseconds."""
    return (
        row.seq,
        (row.at - _1970) // timedelta(microseconds=1),
        row.actor,
        row.action,
        row.flag,
        flag_json(row.before),
        flag_json(row.after),
        row.reason,
        row.command_id,
        row.request_id,
        row.source,
        row.outcome,
        row.detail,
        row.epoch,
        row.version,
        digest,
    )


def link(previous: bytes, values: Sequence[object]) -> bytes:
    """The hash of a row with these :func:`columns` that follows the row with ``previous``."""
    return hashlib.sha256(previous + msgspec.json.encode(values)).digest()


def flag_json(flag: Flag | None) -> str | None:
    """A flag as the record holds it."""
    return None if flag is None else msgspec.json.encode(flag).decode()


def action(command: Command, flag: Flag | None) -> str:
    """What a command does, for people: ``toggle to ON``, ``reset to OFF``.

    ``flag`` is what it meets; where that is not known, a toggle is just a ``toggle``.
    """
    wanted = {
        "set": command.value,
        "reset": False,
        "toggle": None if flag is None else not flag.is_active,
    }[command.command]
    return command.command if wanted is None else f"{command.command} to {_word(wanted)}"


def log_row(row: AuditRow) -> None:
    """Tell the log of a row that is committed."""
    _tell(
        row.action,
        actor=row.actor,
        flag=row.flag,
        outcome=row.outcome,
        reason=row.reason,
        detail=row.detail or None,
        command_id=row.command_id,
        request_id=row.request_id,
        source=row.source,
        position=str(Position(row.epoch, row.version)),
        seq=row.seq,
        hash=row.hash,
    )


def log_unrecorded(command: Command, verdict: Verdict, *, source: str, detail: str = "") -> None:
    """Tell the log of an attempt that has no row: PostgreSQL is away, or its id was used before."""
    _tell(
        action(command, None),
        actor=command.actor,
        flag=command.flag,
        outcome=verdict.value,
        reason=command.reason,
        detail=detail or None,
        command_id=command.id,
        request_id=command.request_id,
        source=source,
    )


def _tell(action: str, **fields: Any) -> None:
    known = {name: value for name, value in fields.items() if value is not None}
    _log.info(f"[AUDIT] {action}", action=action, **known)


def _word(active: bool) -> str:
    return "ON" if active else "OFF"


def _row(record: asyncpg.Record) -> AuditRow:
    flags = {name: _flag(record[name]) for name in ("before", "after")}
    return AuditRow(**{**record, **flags})


def _flag(text: str | None) -> Flag | None:
    """The flag in a row. What somebody forged shows as nothing; :meth:`Audit.verify` names it."""
    try:
        return None if text is None else msgspec.json.decode(text, type=Flag)
    except msgspec.MsgspecError:
        return None


def _gap(expected: int, found: int) -> tuple[int, str]:
    """Which row is wrong where ``found`` comes instead of ``expected``, and why."""
    if found < expected:
        return found, f"row {found} comes before the first"
    return expected, f"row {expected} is missing: row {found} follows"


def _fault(record: asyncpg.Record, previous: bytes) -> str:
    """What is wrong with a row that follows the one with the hash ``previous``; ``""``: nothing."""
    *values, stored_previous, stored = record
    if link(stored_previous, values) != stored:
        return "the row was changed: its content does not give its hash"
    if stored_previous != previous:
        return "the row does not continue the one before it: one of the two was replaced"
    return ""


def _ended(seq: int, last: bytes, end: asyncpg.Record | None) -> Verified:
    """Whether a chain whose last row has ``seq`` and the hash ``last`` is whole."""
    if end is None:
        return Verified(seq, seq + 1, "nothing says where the chain ends: flags_state is empty")
    if end["audit_seq"] > seq:
        return Verified(seq, seq + 1, f"the rows up to {end['audit_seq']} are missing at the end")
    if end["audit_seq"] < seq:
        added = end["audit_seq"] + 1
        return Verified(end["audit_seq"], added, f"row {added} was added behind the end")
    if end["audit_hash"] != last:
        return Verified(max(seq - 1, 0), seq, "the last row is not the one that was written last")
    return Verified(seq)


def _cursor_at(seq: int) -> str:
    return base64.urlsafe_b64encode(seq.to_bytes(8)).decode().rstrip("=")


def _seq_of(cursor: str) -> int:
    try:
        seq = int.from_bytes(base64.urlsafe_b64decode(cursor.encode() + b"="))
    except ValueError:
        seq = 0
    if not 0 < seq <= _NEWEST or _cursor_at(seq) != cursor:
        raise InvalidInput("is not one that a page gave", "cursor")
    return seq
