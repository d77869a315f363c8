"""Keepers of the status page inside the test's own loop, on real stores; what they see and what
time it is, the test says."""

from collections.abc import Iterable, Sequence
from typing import Any

from control.flags.plane import ControlPlane
from control.status.automatic import Mode
from control.status.board import StatusBoard
from control.status.components import CheckRef, Definition, Observation
from control.status.edges import Edges
from control.status.incident_store import Incidents
from control.status.keeper import Keeper, Office
from control.status.publishing import Event, Publisher
from control.status.reader import StatusReader
from control.status.states import Status
from control.status.window_store import Windows
from control.stores.postgres import Connection, Database
from tests.clocks import ManualClock

DEFINITIONS = tuple(
    Definition(
        id=id_, name=id_.title(), position=place, checks=(CheckRef(check),), follows_flag=follows
    )
    for place, (id_, check, follows) in enumerate(
        [("api", "redis", True), ("store", "redis", False), ("graph", "neo4j", False)]
    )
)


class SeenByHand:
    """Stands for what the health checks of an instance find: the outside world."""

    def __init__(self) -> None:
        self.found: dict[str, Observation] = {}
        self.looks = 0
        self.all_well()

    def all_well(self) -> None:
        self.found = {each.id: Observation(Status.OPERATIONAL) for each in DEFINITIONS}

    def down(self, check: str, status: Status = Status.MAJOR_OUTAGE) -> None:
        """Let a check fail."""
        for each in DEFINITIONS:
            if each.checks[0].name == check:
                self.found[each.id] = Observation(status, (check,))

    async def look(
        self, _definitions: Iterable[Definition], *, afresh: bool = False
    ) -> dict[str, Observation]:
        self.looks += 1
        return dict(self.found)

    def glance(self, _definitions: Iterable[Definition]) -> dict[str, Observation]:
        return dict(self.found)


class Page:
    """The status page of one instance, kept by hand."""

    def __init__(
        self,
        plane: ControlPlane,
        database: Database,
        url: str,
        clock: ManualClock,
        *,
        mode: Mode = "draft",
        definitions: Sequence[Definition] = DEFINITIONS,
    ) -> None:
        self.clock = clock
        self.plane = plane
        self.seen = SeenByHand()
        self.events: list[Event] = []
        self.database = database
        publisher = Publisher(database, (self._announced,))
        self.edges = Edges(plane, database, publisher, clock)
        watching: Any = self.seen
        self.keeper = Keeper(
            plane.instance, url, database=database, definitions=definitions, watch=watching,
            edges=self.edges, publisher=publisher, replica=plane.replica, mode=mode, clock=clock,
        )  # fmt: skip
        self.reader = StatusReader(database)
        self.incidents = Incidents(publisher, clock)
        self.windows = Windows(publisher, clock)
        self.board = StatusBoard(
            self.reader, plane.replica, definitions, clock, local=lambda: self.keeper.local
        )

    async def office(self, connection: Connection) -> Office:
        """Let this instance be in office, on a connection of the test's own."""
        office = Office(self.keeper, connection)
        await office.begin()
        return office

    async def statuses(self) -> dict[str, str]:
        """How each component is, as everybody is told."""
        return {each.id: each.status.value for each in (await self.board.refresh()).components}

    async def _announced(self, _connection: Connection, event: Event) -> None:
        self.events.append(event)
