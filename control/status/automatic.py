"""Incidents that confirmed failures open: one for each cause, as long as it lasts.

They are followed until somebody writes on one: from then on it is theirs. What fails under
maintenance opens none.
"""

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, datetime
from typing import Literal

import asyncpg

from control import sql
from control.clock import iso
from control.status import incident_store, incidents, reader
from control.status.incidents import NewIncident, Said
from control.status.publishing import Publication, Publisher
from control.status.reader import ComponentRow
from control.status.states import IncidentStatus, Status
from control.status.view import IncidentView
from control.stores.postgres import Connection

Mode = Literal["draft", "published", "off"]
ACTOR = "drawbridge"
_EVER = datetime(1970, 1, 1, tzinfo=UTC)


def failing(
    rows: Iterable[ComponentRow], maintained: frozenset[int]
) -> dict[str, list[ComponentRow]]:
    """The components that do not pass, by what is to blame most."""
    found: dict[str, list[ComponentRow]] = defaultdict(list)
    for row in rows:
        status = row.judged.status
        if status in (None, Status.OPERATIONAL) or row.number in maintained or not row.causes:
            continue
        found[row.causes[0]].append(row)
    return found


async def follow(
    connection: Connection,
    publisher: Publisher,
    rows: Sequence[ComponentRow],
    now: datetime,
    mode: Mode,
) -> bool:
    """Open, widen and close what the looks call for; whether anything was done. Inside a
    transaction."""
    queries = sql.queries("status_incidents")
    maintained = frozenset(
        row["component"] for row in await connection.fetch(queries["maintained"])
    )
    causes = failing(rows, maintained)
    oldest = min((r.judged.since or now for each in causes.values() for r in each), default=now)
    known: dict[str, list[asyncpg.Record]] = defaultdict(list)
    for row in await connection.fetch(queries["automatic"], oldest):
        known[row["cause"]].append(row)
    done = False
    for cause, affected in causes.items():
        since = min(row.judged.since or now for row in affected)
        open_ = [row for row in known[cause] if row["resolved_at"] is None]
        if open_:
            done |= await _widen(connection, publisher, open_[0], affected, now)
        elif mode != "off" and not any(row["created_at"] >= since for row in known[cause]):
            async with publisher.on(connection) as publication:
                await _open(publication, cause, affected, since, now, draft=mode == "draft")
            done = True
    well = {row.definition.id: row for row in rows if row.judged.status is Status.OPERATIONAL}
    for cause, each in known.items():
        for row in each:
            if row["resolved_at"] is None and not row["touched"] and cause not in causes:
                done |= await _close(connection, publisher, row, well, now)
    return done


async def _open(
    publication: Publication,
    cause: str,
    affected: Sequence[ComponentRow],
    since: datetime,
    now: datetime,
    *,
    draft: bool,
) -> None:
    impacts = _impacts(affected)
    new = NewIncident(
        title=_title(affected),
        description=f"Automatic checks ({cause}) have failed since {iso(since)}.",
        severity=incidents.severity_of(impacts),
        impacts=impacts,
        started_at=since,
        cause=cause,
        draft=draft,
    )
    await incident_store.open_(publication, new, ACTOR, now)


async def _widen(
    connection: Connection,
    publisher: Publisher,
    row: asyncpg.Record,
    affected: Sequence[ComponentRow],
    now: datetime,
) -> bool:
    """Let an incident that nobody has written on yet be about all that fails for its cause."""
    if row["touched"]:
        return False
    before = await _incident(connection, row)
    was = {each.id: each.impact for each in before.components}
    wider = {id_: new for id_, new in _impacts(affected).items() if was.get(id_) is not new}
    if not wider:
        return False
    names = ", ".join(r.definition.name for r in affected if r.definition.id in wider)
    said = Said(
        message=f"This affects {names}.",
        severity=max(incidents.severity_of(wider), before.severity, key=lambda s: s.impact.rank),
        impacts=wider,
    )
    async with publisher.on(connection) as publication:
        await incident_store.say(publication, before, said, ACTOR, now, touched=False)
    return True


async def _close(
    connection: Connection,
    publisher: Publisher,
    row: asyncpg.Record,
    well: Mapping[str, ComponentRow],
    now: datetime,
) -> bool:
    """Resolve what has recovered by itself, dated back to when it did."""
    before = await _incident(connection, row)
    if not all(each.id in well for each in before.components):
        return False
    recovered = max(
        (well[each.id].judged.since or _EVER for each in before.components), default=now
    )
    said = Said(
        message=f"Automatic checks pass again since {iso(recovered)}.",
        status=IncidentStatus.RESOLVED,
        resolution="It recovered by itself.",
    )
    async with publisher.on(connection) as publication:
        await incident_store.say(publication, before, said, ACTOR, now, touched=False)
    return True


async def _incident(connection: Connection, row: asyncpg.Record) -> IncidentView:
    found = await reader.incident(connection, row["id"], draft=True)
    assert found is not None  # noqa: S101 - its row was read in this transaction
    return found


def _impacts(affected: Iterable[ComponentRow]) -> dict[str, Status]:
    return {row.definition.id: row.judged.status or Status.UNKNOWN for row in affected}


def _title(affected: Sequence[ComponentRow]) -> str:
    ordered = sorted(affected, key=lambda row: -(row.judged.status or Status.UNKNOWN).rank)
    names = [row.definition.name for row in ordered]
    shown = ", ".join(names[:3]) + (f" and {len(names) - 3} more" if len(names) > 3 else "")
    status = ordered[0].judged.status or Status.UNKNOWN
    return f"{shown}: {status.replace('_', ' ')}"
