"""What incidents and maintenance say of components, as segments.

Whatever changes an incident, a window or the flag brings these lanes up to date: in its own
transaction, or at the next tick of whoever keeps the page.
"""

from datetime import datetime

from control import sql
from control.status.states import Source, Status
from control.stores.postgres import Connection


async def sync(connection: Connection, at: datetime) -> bool:
    """Let the lanes say what holds now, from ``at`` on; whether anything was changed.

    What began before is dated back, as far as its lane was silent until then.
    """
    queries = sql.queries("status_checks")
    await connection.execute(queries["hold"])
    wanted = await _wanted(connection)
    changed = False
    for row in await connection.fetch(queries["lasting"]):
        lane = row["component"], Source(row["source"])
        if lane in wanted and wanted[lane][0] == row["status"]:
            del wanted[lane]
            continue
        if lane in wanted:  # it goes on as something else from now on, not from its beginning
            wanted[lane] = wanted[lane][0], at
        await connection.execute(queries["end"], row["id"], at)
        changed = True
    for (component, source), (status, since) in wanted.items():
        await connection.execute(queries["last"], component, source, status, min(since or at, at))
        changed = True
    if changed:
        await connection.execute(queries["touch"])
    return changed


async def _wanted(
    connection: Connection,
) -> dict[tuple[int, Source], tuple[Status, datetime | None]]:
    """What each lane should say, and since when."""
    queries = sql.queries("status_checks")
    wanted: dict[tuple[int, Source], tuple[Status, datetime | None]] = {}
    for component, since, impact in await connection.fetch(queries["impacts"]):
        lane, status = (component, Source.INCIDENT), Status(impact)
        if lane not in wanted or status.rank > wanted[lane][0].rank:
            wanted[lane] = status, since
    for component, since in await connection.fetch(queries["maintained"]):
        lane = component, Source.MAINTENANCE
        before = wanted.get(lane, (None, None))[1]
        earliest = min(filter(None, (before, since)), default=None)
        wanted[lane] = Status.UNDER_MAINTENANCE, earliest
    return wanted
