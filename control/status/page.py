"""The status page of one instance, put together."""

from collections.abc import Sequence
from dataclasses import dataclass

from control.clock import Clock
from control.config import Config
from control.flags.plane import ControlPlane
from control.flags.presence import Kind
from control.health import external
from control.health.engine import Engine
from control.lifespan import Lifespan
from control.metrics.registry import Metrics
from control.status import components
from control.status.automatic import Mode
from control.status.board import StatusBoard
from control.status.component_store import Components
from control.status.edges import Edges
from control.status.incident_store import Incidents
from control.status.keeper import Keeper
from control.status.metrics import StatusMetrics
from control.status.publishing import Announce, Announced, Publisher
from control.status.reader import StatusReader
from control.status.watch import Watch
from control.status.window_store import Windows
from control.stores.postgres import Database


@dataclass(frozen=True)
class StatusPage:
    """What the rest of an instance uses of its status page."""

    board: StatusBoard
    reader: StatusReader
    components: Components
    incidents: Incidents
    windows: Windows
    edges: Edges
    keeper: Keeper
    watch: Watch


def open_page(
    life: Lifespan,
    config: Config,
    *,
    kind: Kind,
    plane: ControlPlane,
    engine: Engine,
    database: Database,
    clock: Clock,
    announces: Sequence[Announce] = (),
    announced: Announced | None = None,
    metrics: Metrics | None = None,
) -> StatusPage:
    """The status page of this process; its tasks belong to ``life``. No store needs to be there.

    Every instance is a candidate for the office of the keeper; a worker shows no page, so it keeps
    no view fresh. ``announces`` queue what others are told of what is published, ``announced`` is
    called once that is committed. Raises :class:`ConfigError`.
    """
    services = [service.name for service in external.services(config.health.external)]
    definitions = components.configured(config.status.components, services)
    components.require_known(definitions, engine.snapshot.results)
    mode: Mode = config.status.incidents  # type: ignore[assignment]
    publisher, reader = Publisher(database, announces, announced), StatusReader(database)
    edges = Edges(plane, database, publisher, clock)
    watch = Watch(engine, plane.registry.read, kind, clock)
    keeper = Keeper(
        plane.instance, config.postgres.direct, database=database, definitions=definitions,
        watch=watch, edges=edges, publisher=publisher, replica=plane.replica, mode=mode,
        clock=clock,
    )  # fmt: skip
    board = StatusBoard(reader, plane.replica, definitions, clock, local=lambda: keeper.local)
    board.lost, keeper.told = keeper.suspect, board.hint
    life.supervise("keeper of the status page", keeper.run())
    if kind == "service":
        life.supervise("status page", board.run())
    page = StatusPage(
        board=board,
        reader=reader,
        components=Components(database, list(engine.snapshot.results), clock),
        incidents=Incidents(publisher, clock),
        windows=Windows(publisher, clock),
        edges=edges,
        keeper=keeper,
        watch=watch,
    )
    if metrics is not None:
        metrics.add(StatusMetrics(page.board, page.keeper))
    return page
