"""The keeper of the status page: one instance of the fleet looks, judges, and moves windows.

Whoever holds a PostgreSQL advisory lock is in office. All that it writes about components goes over
the connection that holds the lock, so one that was held up (SIGSTOP) and has lost it writes
nothing. The others see within seconds that the lock is free. Windows are moved by whoever sees
first that it is time, in office or not.

While PostgreSQL is away nobody is in office. Then every instance judges by itself, for its own
readers, and remembers what it saw: whoever comes into office first enters that, by the same rules.
"""

import asyncio
import contextlib
import random
from collections import deque
from collections.abc import Awaitable, Callable, Mapping, Sequence
from datetime import datetime, timedelta

import asyncpg

from control import logs, sql
from control.clock import Clock
from control.errors import StoreUnavailable
from control.flags.document import NOTHING
from control.flags.replica import Replica
from control.status import automatic, judging, lanes, reader, rounds
from control.status.automatic import Mode
from control.status.components import Definition, Observation
from control.status.edges import Edges
from control.status.judging import Judged
from control.status.publishing import Publisher
from control.status.reader import ComponentRow
from control.status.watch import Watch
from control.stores import postgres
from control.stores.postgres import Connection, Database

LOCK = 0x6472_6177_7374_6174
"""Key of the advisory lock: the letters "drawstat"."""

TICK_S = 1.0
CANDIDATE_S = (2.0, 3.0)
"""How often the others see whether the office is vacant, and whether a window waits."""

REMEMBER_S = 30.0
"""How often they read how things stand, for the time when PostgreSQL is away."""

AWAY_S = 2.0
"""How often PostgreSQL is tried while it is away."""

FIRST_S = 10.0
HURRIED_S, UNSEEN_S = 0.25, 5.0
"""When a component is looked at again of which the checks told nothing: in the first seconds of an
office, and later."""

TIDY_S = 5.0
REMEMBERED = 720
"""So many looks are remembered while PostgreSQL is away: half a day and more."""

_ANSWER_S = 5.0
_GIVE_UP_OFFICE = """
SET idle_session_timeout = '10s';
SET idle_in_transaction_session_timeout = '10s';
"""
"""An instance that is held keeps its connection; PostgreSQL 14 and newer ends it."""


class Keeper:
    """One candidate for the office. ``told`` is called when something was written."""

    def __init__(
        self,
        instance: str,
        url: str,
        *,
        database: Database,
        definitions: Sequence[Definition],
        watch: Watch,
        edges: Edges,
        publisher: Publisher,
        replica: Replica,
        mode: Mode,
        clock: Clock,
        told: Callable[[], None] = lambda: None,
    ) -> None:
        self.instance = instance
        self.definitions = definitions
        self.watch = watch
        self.edges = edges
        self.publisher = publisher
        self.replica = replica
        self.mode: Mode = mode
        self.clock = clock
        self.told = told
        self.seen: deque[tuple[datetime, Mapping[str, Observation]]] = deque(maxlen=REMEMBERED)
        """What was seen while PostgreSQL was away."""
        self.in_office = False
        self._url = url
        self._database = database
        self._remembered_at = 0.0
        self._held: dict[str, Judged] = {}
        self.declared: Sequence[Definition] = definitions
        self._local: Mapping[str, Judged] | None = None
        self._woken = asyncio.Event()
        self._log = logs.get(__name__)

    @property
    def local(self) -> Mapping[str, Judged] | None:
        """What this instance holds of components itself; ``None`` while PostgreSQL answers."""
        return self._local

    def suspect(self) -> None:
        """PostgreSQL did not answer somebody: look whether it is away."""
        if self._local is None and not self.in_office:
            self._woken.set()

    async def run(self) -> None:
        """Serve whenever the office is vacant, for ever."""
        told = ""
        while True:
            try:
                async with postgres.connection(
                    self._url, connect_s=AWAY_S, query_s=_ANSWER_S
                ) as connection:
                    await self._try(connection)
                told = ""
            except (StoreUnavailable, asyncpg.PostgresError) as error:
                if str(error) != told:
                    told = str(error)
                    fault = None if isinstance(error, StoreUnavailable) else error
                    tell = self._log.warning if fault is None else self._log.error
                    tell("the status page is not kept from here", reason=told, exc_info=fault)
                if self._local is None:
                    self._local = dict(self._held)
                await self._look_alone()
            finally:
                self.in_office = False
            await self._pause()

    def remember(self, rows: Sequence[ComponentRow]) -> None:
        """What is stored of components now: from here this instance would go on alone."""
        if not rows:  # nobody has entered the configured ones yet
            return
        self._remembered_at = self.clock.monotonic()
        self.declared = [row.definition for row in rows]
        self._held = {row.definition.id: row.judged for row in rows}

    async def _try(self, connection: Connection) -> None:
        """Serve if the office is vacant, else see how things stand."""
        if not await connection.fetchval("SELECT pg_try_advisory_lock($1)", LOCK):
            self.remember(await reader.components(connection, self.clock.now()))
            self._local = None
            self.seen.clear()  # whoever is in office has seen it too
            return
        with contextlib.suppress(asyncpg.UndefinedObjectError):
            await connection.execute(_GIVE_UP_OFFICE)
        office = Office(self, connection)
        await office.begin()
        self.in_office, self._local = True, None
        self._log.info("keeper of the status page in office")
        self.told()
        while True:
            await office.tick()
            await asyncio.sleep(HURRIED_S if office.hurried else TICK_S)

    async def _pause(self) -> None:
        if self._local is not None:
            await asyncio.sleep(AWAY_S)
            return
        self._woken.clear()
        with contextlib.suppress(StoreUnavailable, asyncpg.PostgresError):
            while await self._occupied():
                with contextlib.suppress(TimeoutError):
                    pause_s = random.uniform(*CANDIDATE_S)  # noqa: S311 - jitter
                    await asyncio.wait_for(self._woken.wait(), pause_s)
                    return

    async def _occupied(self) -> bool:
        """Whether somebody is in office. A window whose time has come waits for nobody."""
        row = await self._database.fetchrow(
            sql.queries("status_checks")["vacancy"], self.clock.now(), LOCK
        )
        if row is not None and row["due"]:
            await self.edges.settle()
            self.told()
        if self.clock.monotonic() - self._remembered_at > REMEMBER_S:
            async with self._database.acquire() as connection:
                self.remember(await reader.components(connection, self.clock.now()))
        return row is not None and row["held"]

    async def _look_alone(self) -> None:
        """Judge by what this instance sees, if it is time to."""
        now, held = self.clock.now(), self._local or {}
        # Without anything stored, as at a start, every component is new.
        judged = [held.get(each.id, Judged()) for each in self.declared]
        if rounds.look_again_at(judged, now) > now and not differs(
            self.watch.glance(self.declared), held
        ):
            return
        self.judge(await self.watch.look(self.declared))

    def judge(self, found: Mapping[str, Observation], *, asked: bool = False) -> None:
        """Hold what was found, while PostgreSQL is away; else it is entered there."""
        held, at = self._local, self.clock.now()
        if held is None:
            return
        self.seen.append((at, found))
        self._local = {
            **held,
            **{
                id_: judging.step(held.get(id_, Judged()), observation.status, at, asked=asked)
                for id_, observation in found.items()
            },
        }


class Office:
    """The work of the one that is in office, over the connection that holds the lock."""

    def __init__(self, keeper: Keeper, connection: Connection) -> None:
        self._keeper = keeper
        self._connection = connection
        self._rows: tuple[ComponentRow, ...] = ()
        self._due_at: datetime | None = None
        self._began_at = keeper.clock.monotonic()
        self._tidied_at = 0.0
        self._position = NOTHING.position
        self._revision = -1
        self._log = logs.get(__name__)

    @property
    def hurried(self) -> bool:
        """Whether some component was never seen, and the checks may only be starting."""
        young = self._keeper.clock.monotonic() - self._began_at < FIRST_S
        return young and any(row.judged.checked_at is None for row in self._rows)

    async def begin(self) -> None:
        """Bring the components up to date, and enter what was seen while nobody could."""
        keeper = self._keeper
        await rounds.declare(self._connection, keeper.definitions, keeper.clock.now())
        await self._read()
        newest = max(
            (row.judged.checked_at for row in self._rows if row.judged.checked_at), default=None
        )
        while keeper.seen:
            at, found = keeper.seen[0]
            if newest is None or at > newest:
                await self._write(found, at)
            keeper.seen.popleft()
        await self._read()

    async def tick(self) -> None:
        """Do what there is to do now."""
        keeper = self._keeper
        now = keeper.clock.now()
        row = await self._connection.fetchrow(sql.queries("status_checks")["tick"], now)
        assert row is not None  # noqa: S101 - the state has one row
        if row["checks"] != self._revision:  # somebody else wrote: a component, an incident
            await self._read()
            self._revision = row["checks"]
        if row["due"]:
            await self._settle(keeper.edges.settle())
            keeper.told()
        await self._follow_bridge()
        if row["asked"] or self._due_at is None or now >= self._due_at or self._differs():
            await self._look(asked=row["asked"])

    async def _look(self, *, asked: datetime | None) -> None:
        """Look, and write what was found if it is about anything that was due."""
        keeper = self._keeper
        found = await keeper.watch.look(
            [row.definition for row in self._rows], afresh=asked is not None
        )
        at = keeper.clock.now()
        due = {
            row.definition.id
            for row in self._rows
            if (row.judged.due_at() or at) <= at or differs(
                {row.definition.id: found[row.definition.id]}
                if row.definition.id in found
                else {},
                {row.definition.id: row.judged},
            )
        }  # fmt: skip
        if asked or due & found.keys():
            await self._write(found, at, asked=asked)
            await self._read()
            keeper.told()
        again = rounds.look_again_at(
            [row.judged for row in self._rows if row.definition.id in found], at
        )
        if any(row.definition.id not in found for row in self._rows):
            pause_s = HURRIED_S if self.hurried else UNSEEN_S
            again = min(again, at + timedelta(seconds=pause_s))
        self._due_at = again

    async def _write(
        self, found: Mapping[str, Observation], at: datetime, *, asked: datetime | None = None
    ) -> None:
        keeper = self._keeper
        async with self._connection.transaction():
            await rounds.record(self._connection, found, at, keeper.instance, asked=asked)
            rows = await reader.components(self._connection, at)
            await automatic.follow(self._connection, keeper.publisher, rows, at, keeper.mode)

    async def _follow_bridge(self) -> None:
        """Let segments say what the flag says, once it has moved; mind a bridge that is a
        window's."""
        keeper = self._keeper
        position = keeper.replica.position
        if position != self._position:
            async with self._connection.transaction():
                await lanes.sync(self._connection, keeper.clock.now())
            self._position = position
        now = keeper.clock.monotonic()
        if keeper.edges.untidy and now - self._tidied_at >= TIDY_S:
            self._tidied_at = now
            await self._settle(keeper.edges.tidy())

    async def _settle(self, work: Awaitable[object]) -> None:
        """What cannot be done now is done at the next tick; it is no reason to leave the office."""
        try:
            await work
        except StoreUnavailable as error:
            self._log.warning("a maintenance window waits", reason=error.reason)

    def _differs(self) -> bool:
        """Whether the checks know something that is not held yet, and no row of looks is under
        way that will tell."""
        rows = self._rows
        seen = self._keeper.watch.glance([row.definition for row in rows])
        return differs(seen, {row.definition.id: row.judged for row in rows})

    async def _read(self) -> None:
        self._rows = await reader.components(self._connection, self._keeper.clock.now())
        self._keeper.remember(self._rows)


def differs(seen: Mapping[str, Observation], held: Mapping[str, Judged]) -> bool:
    """Whether something is seen that contradicts what is held, and has not begun a row yet."""
    for id_, observation in seen.items():
        judged = held.get(id_)
        if judged is None or judged.checked_at is None:
            return True
        if judged.pending is None and observation.status is not judged.status:
            return True
    return False
