"""The audit chain against a real PostgreSQL: what is written stays, and who rewrites it is seen."""

from collections.abc import AsyncIterator
from urllib.parse import urlsplit

import asyncpg
import msgspec
import pytest
from structlog.testing import capture_logs

from control.clock import SystemClock
from control.errors import InvalidInput
from control.flags import audit, commands
from control.flags.audit import Audit
from control.flags.document import INGESTION, MAINTENANCE
from control.flags.ledger import Ledger
from control.flags.outcome import Verdict
from control.stores.postgres import Database
from tests.conftest import LiveStores

COLUMNS = {
    "at": "at + interval '1 microsecond'",
    "actor": "actor || ' '",
    "action": "'set to OFF'",
    "flag": "NULL",
    "before": "(before::text || ' ')::json",
    "after": "replace(after::text, 'full', 'Full')::json",
    "reason": "''",
    "command_id": "overlay(command_id placing (right(command_id, 1) = '0')::int::text from 26)",
    "request_id": "NULL",
    "source": "upper(source)",
    "outcome": "'refused'",
    "detail": "'x'",
    "epoch": "epoch + 1",
    "version": "version - 1",
    "digest": "set_byte(digest, 31, get_byte(digest, 31) # 1)",
    "previous": "set_byte(previous, 0, get_byte(previous, 0) # 128)",
    "hash": "set_byte(hash, 16, get_byte(hash, 16) # 1)",
}
"""How somebody changes each column of a row, by no more than a byte where that can be."""


@pytest.fixture
def ledger(database: Database) -> Ledger:
    return Ledger(database, (), SystemClock())


@pytest.fixture
def record(database: Database) -> Audit:
    return Audit(database)


@pytest.fixture
async def superuser(
    stores: LiveStores, database: Database, database_url: str
) -> AsyncIterator[asyncpg.Connection]:
    """Somebody with all rights, whom not even triggers stop."""
    connection = await asyncpg.connect(
        host=stores._sockets,
        user="postgres",
        password=stores._superuser_password,
        database=urlsplit(database_url).path[1:],
    )
    await connection.execute("SET session_replication_role = replica")
    yield connection
    await connection.close()


@pytest.fixture
async def six(ledger: Ledger) -> None:
    """Six rows, each an applied toggle."""
    await toggles(ledger, 6)


async def toggles(ledger: Ledger, count: int, flag: str = MAINTENANCE, actor: str = "ann") -> None:
    for _ in range(count):
        command = commands.new("toggle", flag, actor=actor, request_id="r-1")
        await ledger.commit(command, source="channel")


@pytest.mark.usefixtures("six")
async def test_nobody_rewrites_by_the_usual_ways(
    database: Database, superuser: asyncpg.Connection
) -> None:
    await superuser.execute("SET session_replication_role = origin")  # triggers fire again
    for statement in (
        "UPDATE drawbridge.audit SET actor = 'nobody'",
        "UPDATE drawbridge.audit SET actor = 'nobody' WHERE FALSE",
        "DELETE FROM drawbridge.audit",
        "TRUNCATE drawbridge.audit",
        "INSERT INTO drawbridge.audit SELECT * FROM drawbridge.audit "
        "ON CONFLICT (seq) DO UPDATE SET actor = 'nobody'",
    ):
        with pytest.raises(asyncpg.InsufficientPrivilegeError, match="permission denied"):
            await database.execute(statement)
        with pytest.raises(asyncpg.InsufficientPrivilegeError, match="never changed"):
            await superuser.execute(statement)


@pytest.mark.usefixtures("six")
async def test_a_change_to_any_column_is_found(
    record: Audit, superuser: asyncpg.Connection
) -> None:
    names = await superuser.fetch(
        "SELECT attname FROM pg_attribute WHERE attnum > 0 AND NOT attisdropped"
        " AND attrelid = 'drawbridge.audit'::regclass"
    )
    assert {row["attname"] for row in names} == {"seq", *COLUMNS}
    await superuser.execute("CREATE TABLE public.kept AS SELECT * FROM drawbridge.audit")
    for seq in (1, 3, 6):
        for column, forged in COLUMNS.items():
            place = f"drawbridge.audit SET {column} ="
            await superuser.execute(f"UPDATE {place} {forged} WHERE seq = $1", seq)
            found = await record.verify()
            assert (found.broken, found.rows) == (seq, seq - 1), (column, found)
            assert "changed" in found.why
            await superuser.execute(
                f"UPDATE {place} (SELECT {column} FROM public.kept WHERE seq = $1) WHERE seq = $1",
                seq,
            )
    assert (await record.verify()) == audit.Verified(6)


FORGERIES = {
    "a missing row": ("DELETE FROM drawbridge.audit WHERE seq = 3", 3, "missing"),
    "a missing beginning": ("DELETE FROM drawbridge.audit WHERE seq < 3", 1, "missing"),
    "rows that changed places": (
        "UPDATE drawbridge.audit SET seq = -1 WHERE seq = 3;"
        "UPDATE drawbridge.audit SET seq = 3 WHERE seq = 4;"
        "UPDATE drawbridge.audit SET seq = 4 WHERE seq = -1",
        3,
        "changed",
    ),
    "an inserted row": (
        "UPDATE drawbridge.audit SET seq = -seq WHERE seq > 2;"
        "UPDATE drawbridge.audit SET seq = 1 - seq WHERE seq < 0;"
        "INSERT INTO drawbridge.audit SELECT 3, at, actor, action, flag, before, after, reason,"
        " NULL, request_id, source, outcome, detail, epoch, version, digest, previous, hash"
        " FROM drawbridge.audit WHERE seq = 4",
        3,
        "changed",
    ),
    "a row before the first": (
        "INSERT INTO drawbridge.audit SELECT 0, at, actor, action, flag, before, after, reason,"
        " NULL, request_id, source, outcome, detail, epoch, version, digest, previous, hash"
        " FROM drawbridge.audit WHERE seq = 4",
        0,
        "before the first",
    ),
    "a cut tail": ("DELETE FROM drawbridge.audit WHERE seq > 4", 5, "up to 6 are missing"),
    "a cut tail, and its number": (
        "DELETE FROM drawbridge.audit WHERE seq > 4;"
        "UPDATE drawbridge.flags_state SET audit_seq = 4",
        4,
        "written last",
    ),
    "nothing left": (
        "TRUNCATE drawbridge.audit; UPDATE drawbridge.flags_state SET audit_seq = 0",
        0,
        "written last",
    ),
    "an end that was set back": (
        "UPDATE drawbridge.flags_state SET audit_seq = 4",
        5,
        "added behind the end",
    ),
    "an end with another hash": (
        "UPDATE drawbridge.flags_state SET audit_hash = set_byte(audit_hash, 0, 0)",
        6,
        "written last",
    ),
    "no end": ("DELETE FROM drawbridge.flags_state", 7, "flags_state is empty"),
    "a moment that is none": (
        "UPDATE drawbridge.audit SET at = 'infinity' WHERE seq = 2",
        2,
        "changed",
    ),
    "a moment beyond all calendars": (
        "UPDATE drawbridge.audit SET at = '200000-01-01' WHERE seq = 2",
        2,
        "changed",
    ),
}


@pytest.mark.usefixtures("six")
@pytest.mark.parametrize(("forgery", "seq", "why"), FORGERIES.values(), ids=FORGERIES)
async def test_a_forged_chain_is_found(
    forgery: str, seq: int, why: str, record: Audit, superuser: asyncpg.Connection
) -> None:
    assert (await record.verify()).intact
    await superuser.execute(forgery)
    found = await record.verify()
    assert found.broken == seq, found
    assert why in found.why
    assert not found.intact


@pytest.mark.usefixtures("six")
@pytest.mark.parametrize(("forged", "noticed"), [(3, 4), (6, 6)])
async def test_a_row_whose_hash_was_forged_too_breaks_with_what_follows(
    forged: int, noticed: int, record: Audit, superuser: asyncpg.Connection
) -> None:
    """A forger who knows how the hash is made still has to rewrite all that comes after."""
    row = (await record.page(limit=10)).rows[6 - forged]
    [(digest, previous)] = await superuser.fetch(
        "SELECT digest, previous FROM drawbridge.audit WHERE seq = $1", forged
    )
    genuine = audit.link(previous, audit.columns(row, digest))
    assert genuine.hex() == row.hash
    values = audit.columns(msgspec.structs.replace(row, actor="bob"), digest)
    await superuser.execute(
        "UPDATE drawbridge.audit SET actor = 'bob', hash = $2 WHERE seq = $1",
        forged,
        audit.link(previous, values),
    )
    assert (await record.verify()).broken == noticed


async def test_an_empty_record_is_whole(record: Audit) -> None:
    assert await record.verify() == audit.Verified(0)
    assert await record.page() == audit.AuditPage([], None)


async def test_pages_stay_right_while_rows_are_added(ledger: Ledger, record: Audit) -> None:
    await toggles(ledger, 7)
    seen, cursor = [], None
    for _ in range(3):
        page = await record.page(limit=3, cursor=cursor)
        seen += [row.seq for row in page.rows]
        cursor = page.cursor
        await toggles(ledger, 2)
    assert (seen, cursor) == ([7, 6, 5, 4, 3, 2, 1], None)
    assert [row.seq for row in (await record.page(limit=13)).rows] == list(range(13, 0, -1))
    assert (await record.page(limit=13)).cursor is None


async def test_filters(ledger: Ledger, record: Audit) -> None:
    await toggles(ledger, 2, INGESTION)
    await toggles(ledger, 3, actor="bob")
    await ledger.record(
        commands.new("reset", INGESTION, actor="bob"), Verdict.DEBOUNCED, source="local"
    )

    async def found(**filters: object) -> list[int]:
        return [row.seq for row in (await record.page(**filters)).rows]  # type: ignore[arg-type]

    assert await found(flag=INGESTION) == [6, 2, 1]
    assert await found(actor="bob") == [6, 5, 4, 3]
    assert await found(actor="bob", flag=INGESTION) == [6]
    assert await found(outcome="debounced") == [6]
    assert await found(flag="nonsense") == []
    [fourth] = [row for row in (await record.page()).rows if row.seq == 4]
    assert await found(since=fourth.at) == [6, 5, 4]
    page = await record.page(actor="bob", limit=3)
    assert await found(actor="bob", cursor=page.cursor) == [3]


@pytest.mark.parametrize(
    ("argument", "value"),
    [
        *(("cursor", text) for text in ("", "x", "ü", "AAAAAAAAAAA", "_" * 11, "AAAAAAAAAAE=")),
        *(("limit", number) for number in (0, -1, 501)),
        *((name, "a\0b") for name in ("flag", "actor", "outcome")),
        ("actor", "\ud800"),
        ("since", SystemClock().now().replace(tzinfo=None)),
    ],
)
async def test_bad_arguments_are_named(argument: str, value: object, record: Audit) -> None:
    with pytest.raises(InvalidInput) as caught:
        await record.page(**{argument: value})  # type: ignore[arg-type]
    assert caught.value.where == argument


async def test_each_row_is_a_log_line_with_its_hash(ledger: Ledger, record: Audit) -> None:
    with capture_logs() as lines:
        command = commands.new("reset", INGESTION, actor="ann", reason="why", request_id="r-1")
        await ledger.commit(command, source="channel")
        await ledger.note("bypass issued", actor="bob", reason=None, request_id=None, subject="s")
    rows = (await record.page()).rows[::-1]
    assert [(line["event"], line["seq"], line["hash"]) for line in lines] == [
        (f"[AUDIT] {row.action}", row.seq, row.hash) for row in rows
    ]
    assert lines[0] == {
        "event": "[AUDIT] reset to OFF",
        "log_level": "info",
        "action": "reset to OFF",
        "actor": "ann",
        "flag": INGESTION,
        "outcome": "unchanged",
        "reason": "why",
        "command_id": command.id,
        "request_id": "r-1",
        "source": "channel",
        "position": f"{rows[0].epoch}.0",
        "seq": 1,
        "hash": rows[0].hash,
    }


def test_an_attempt_without_a_row_is_a_log_line_without_a_number() -> None:
    command = commands.new("set", MAINTENANCE, value=True, actor="ann")
    with capture_logs() as lines:
        audit.log_unrecorded(command, Verdict.UNAVAILABLE, source="local", detail="away")
    assert lines == [
        {
            "event": "[AUDIT] set to ON",
            "log_level": "info",
            "action": "set to ON",
            "actor": "ann",
            "flag": MAINTENANCE,
            "outcome": "unavailable",
            "detail": "away",
            "command_id": command.id,
            "source": "local",
        }
    ]
