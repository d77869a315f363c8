"""Components in PostgreSQL that administrators make, and what they declare of any."""

import contextlib
from collections.abc import AsyncIterator, Sequence
from datetime import datetime, timedelta

import asyncpg
import msgspec

from control import sql, status_settings
from control.clock import Clock
from control.errors import InvalidInput
from control.status import components, reader, rounds, texts
from control.status.components import CheckRef, Definition
from control.status.errors import Illegal, Unknown
from control.status.states import Status
from control.stores.postgres import Connection, Database

LONGEST_OVERRIDE = timedelta(days=7)


class ComponentChange(msgspec.Struct, frozen=True, kw_only=True):
    """What is to be different of a component; ``None``: as it is."""

    name: str | None = None
    description: str | None = None
    position: int | None = None
    checks: tuple[str, ...] | None = None


class Components:
    """Makes, changes and retires components. ``known`` are the names of the health checks here.

    Every method raises :class:`StoreUnavailable`, :class:`InvalidInput`, :class:`Unknown` and
    :class:`Illegal`.
    """

    def __init__(self, database: Database, known: Sequence[str], clock: Clock) -> None:
        self._database = database
        self._known = frozenset((*known, components.SERVICE, components.WORKER, components.WORKERS))
        self._clock = clock

    async def create(self, new: Definition, checks: Sequence[str]) -> str:
        """Make one; its id. It must be fed by a check: declaring something well is no truth."""
        now = self._clock.now()
        name = _name(new.name)
        id_ = new.id or components.id_of(name)
        if not status_settings.is_id(id_):
            raise InvalidInput("must be letters, digits and hyphens, such as payments", "id")
        if not checks:
            raise InvalidInput("names none; a component is fed by one health check at least",
                               "checks")  # fmt: skip
        references = [str(each) for each in self._checks(checks)]
        async with self._transaction() as connection:
            done = await connection.execute(
                sql.queries("status_checks")["create"], id_, name,
                texts.text(new.description, "description", needed=False), new.position,
                references, new.follows_flag, now,
            )  # fmt: skip
            if done == "INSERT 0 0":
                raise Illegal(f"There is a component {id_} already, or there was.", "exists")
            await connection.execute(sql.queries("status_checks")["touch"])
        return id_

    async def change(self, id_: str, change: ComponentChange) -> None:
        """Let a component be different. Those of the configuration are changed there."""
        queries = sql.queries("status_checks")
        async with self._transaction() as connection:
            await self._own(connection, id_)
            rows = await reader.components(connection, self._clock.now())
            before = next(row.definition for row in rows if row.definition.id == id_)
            checks = before.checks
            if change.checks is not None:
                checks = self._checks(change.checks)
                if not checks:
                    raise InvalidInput("names none", "checks")
            description = before.description
            if change.description is not None:
                description = texts.text(change.description, "description", needed=False)
            await connection.execute(
                queries["change"], id_, before.name if change.name is None else _name(change.name),
                description, before.position if change.position is None else change.position,
                [str(each) for each in checks], before.follows_flag,
            )  # fmt: skip
            await connection.execute(queries["touch"])

    async def retire(self, id_: str) -> None:
        """Show a component no longer; what is known of it stays."""
        queries = sql.queries("status_checks")
        async with self._transaction() as connection:
            await self._own(connection, id_)
            await connection.execute(queries["retire"], id_, self._clock.now())
            await connection.execute(queries["touch"])

    async def override(self, id_: str, status: Status, until: datetime) -> None:
        """Declare how a component is, whatever its checks say, until then. Incidents still show
        where they are worse."""
        now, queries = self._clock.now(), sql.queries("status_checks")
        if not now < until <= now + LONGEST_OVERRIDE:
            raise InvalidInput(f"must lie in the next {LONGEST_OVERRIDE.days} days", "until")
        async with self._transaction() as connection:
            number: int = (await self._origin(connection, id_))["number"]
            await connection.execute(queries["end_override"], number, now)
            await connection.execute(queries["override"], number, status, now, until)
            await self._counted(connection, now)

    async def release(self, id_: str) -> None:
        """Declare nothing more of a component."""
        now, queries = self._clock.now(), sql.queries("status_checks")
        async with self._transaction() as connection:
            number: int = (await self._origin(connection, id_))["number"]
            await connection.execute(queries["end_override"], number, now)
            await self._counted(connection, now)

    async def request_look(self) -> None:
        """Have whoever keeps the page look now."""
        await self._database.execute(sql.queries("status_checks")["request"], self._clock.now())

    async def look_awaited(self) -> bool:
        """Whether a look that was asked for is still to come."""
        row = await self._database.fetchrow(sql.queries("status_checks")["requested"])
        return row is not None and bool(row["awaited"])

    @contextlib.asynccontextmanager
    async def _transaction(self) -> AsyncIterator[Connection]:
        """One that holds the state, as everybody's does who writes here: none waits crosswise."""
        async with self._database.acquire() as connection, connection.transaction():
            await connection.execute(sql.queries("status_checks")["hold"])
            yield connection

    async def _own(self, connection: Connection, id_: str) -> None:
        if (await self._origin(connection, id_))["configured"]:
            raise Illegal(
                f"The component {id_} is configured: DRAWBRIDGE_STATUS_COMPONENTS changes it.",
                "configured",
            )

    async def _origin(self, connection: Connection, id_: str) -> asyncpg.Record:
        row = await connection.fetchrow(sql.queries("status_checks")["origin"], id_)
        if row is None:
            raise Unknown("component", id_)
        return row

    async def _counted(self, connection: Connection, now: datetime) -> None:
        await rounds.count_days(connection, now, now)
        await connection.execute(sql.queries("status_checks")["touch"])

    def _checks(self, names: Sequence[str]) -> tuple[CheckRef, ...]:
        if len(names) > components.MAX_CHECKS:
            raise InvalidInput(f"names more than {components.MAX_CHECKS}", "checks")
        found = []
        for name in names:
            try:
                reference = CheckRef.parse(name)
            except InvalidInput as error:
                raise InvalidInput(str(error), "checks") from None
            if reference.name not in self._known:
                known = ", ".join(sorted(self._known))
                raise InvalidInput(f"{reference.name} is none of {known}", "checks")
            found.append(reference)
        return tuple(found)


def _name(text: str) -> str:
    found = texts.title(text, "name")
    if len(found) > components.MAX_NAME:
        raise InvalidInput(f"is longer than {components.MAX_NAME} characters", "name")
    return found
