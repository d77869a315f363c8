"""One round of looks, written: what is held of each component, its segments, its days."""

from collections import defaultdict
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime, timedelta
from typing import NamedTuple

from control import sql
from control.status import judging, lanes, reader, timeline
from control.status.components import Definition, Observation
from control.status.judging import Judged
from control.status.reader import ComponentRow
from control.status.states import Status
from control.status.timeline import Segment
from control.stores.postgres import Connection

KEPT_DAYS = 90


class Turn(NamedTuple):
    """What a round changed of a component: it was ``before``, and has been ``after`` since."""

    component: ComponentRow
    before: Status | None
    after: Status
    since: datetime
    causes: tuple[str, ...]


async def declare(connection: Connection, definitions: Sequence[Definition], now: datetime) -> None:
    """Bring the configured components up to date; those that are configured no more retire."""
    queries = sql.queries("status_checks")
    async with connection.transaction():
        await connection.execute(queries["hold"])
        await connection.executemany(
            queries["declare"],
            [
                (d.id, d.name, d.description, d.position, [str(c) for c in d.checks],
                 d.follows_flag, now)
                for d in definitions
            ],
        )  # fmt: skip
        await connection.execute(queries["retire_others"], [d.id for d in definitions], now)
        await connection.execute(queries["touch"])


async def record(
    connection: Connection,
    found: Mapping[str, Observation],
    at: datetime,
    by: str,
    *,
    asked: datetime | None = None,
) -> list[Turn]:
    """Write what one look found, by component; returns what it changed. Inside a transaction.

    ``asked``: when somebody asked for it, who then need not wait any longer.
    """
    queries = sql.queries("status_checks")
    previous = await connection.fetchval(queries["round"], at, by, asked)
    turns: list[Turn] = []
    judged: list[tuple[object, ...]] = []
    for row in await reader.components(connection, at):
        seen = found.get(row.definition.id)
        if seen is None:
            continue
        after = judging.step(row.judged, seen.status, at, asked=asked is not None)
        if after is row.judged:
            continue
        causes = _causes(row, after, seen)
        await _write(connection, row.number, row.judged, after)
        judged.append((
            row.number, after.status, after.since, after.checked_at, after.pending,
            after.pending_since, after.pending_count, list(causes),
        ))  # fmt: skip
        if (
            after.status is not None
            and after.since is not None
            and (after.status is not row.judged.status or after.since != row.judged.since)
        ):
            turns.append(Turn(row, row.judged.status, after.status, after.since, causes))
    await connection.executemany(queries["judge"], judged)
    await lanes.sync(connection, at)
    oldest = min((turn.since for turn in turns), default=at)
    await count_days(connection, min(oldest, previous or at, at - timeline.DAY), at)
    return turns


def _causes(row: ComponentRow, after: Judged, seen: Observation) -> tuple[str, ...]:
    """The checks that are to blame for what is held of it."""
    if after.status is None or after.status is Status.OPERATIONAL:
        return ()
    return seen.causes or row.causes


async def _write(connection: Connection, number: int, before: Judged, after: Judged) -> None:
    """The segments of one component, brought to its newest look."""
    queries = sql.queries("status_checks")
    at = after.checked_at
    goes_on = before.status is not None and judging.is_fresh(before.checked_at, at or _NEVER)
    if after.status is None:
        return
    if goes_on and after.status is before.status and after.since == before.since:
        await connection.execute(queries["extend"], number, at)
        return
    if goes_on:
        await connection.execute(queries["extend"], number, after.since)  # cut back to where it was
    await connection.execute(queries["begin"], number, after.status, after.since, at)


_NEVER = datetime.max.replace(tzinfo=UTC)


async def count_days(connection: Connection, start: datetime, end: datetime) -> None:
    """Count the days from that of ``start`` to ``end`` anew, at most the last 90."""
    queries = sql.queries("status_checks")
    first = max(start, end - KEPT_DAYS * timeline.DAY).astimezone(UTC).date()
    begins = timeline.midnight(first)
    segments: dict[int, list[Segment]] = defaultdict(list)
    for row in await connection.fetch(queries["segments"], begins, end):
        segments[row["component"]].append(reader.segment(row))
    rows = [
        (component.number, day, *totals.parts)
        for component in await reader.components(connection, end)
        for day, totals in timeline.days(
            segments[component.number], max(begins, component.created_at), end
        )
    ]
    await connection.executemany(queries["day"], rows)


def look_again_at(rows: Sequence[Judged], now: datetime) -> datetime:
    """When the next look is due; a component that was never seen is due now."""
    due = [judged.due_at() or now for judged in rows]
    return min(due, default=now + timedelta(seconds=judging.INTERVAL_S))
