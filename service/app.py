"""How the service is put together: what exists, what it is made from, and in which order."""

import asyncio
import contextlib
from contextlib import aclosing

from aiohttp import web
from aiohttp.typedefs import Middleware

from control import keys, preflight, tracing
from control.clock import Clock, SystemClock
from control.config import Config
from control.flags.document import DECLARED
from control.flags.plane import open_plane
from control.health import dependencies, external, liveness
from control.health import instance as instance_checks
from control.health.engine import Engine
from control.health.networks import ProbeNetworks
from control.health.probes import Probes
from control.health.watchdog import Watchdog
from control.job_keys import shards
from control.jwt_tokens import JwtVerifier
from control.lifespan import Lifespan
from control.listener import AT_ONCE, REFUSE
from control.metrics.instance import Checks, Flags, Loop, Pool
from control.metrics.registry import Metrics
from control.networks.catalogue import Catalogue
from control.networks.uploads import Uploads
from control.principals import ApiKeys, Keyring
from control.rates.limiter import RateLimiter
from control.status.page import open_page
from control.stores.graph import Graph
from control.stores.postgres import Database
from control.stores.servers import Servers
from control.stores.wire import Wire
from control.subscriber import Subscribers
from control.subscribers.bell import Bell
from control.subscribers.roster import Roster
from control.subscribers.telling import tell_subscribers
from control.subscribers.tokens import Tokens
from control.subscribers.vault import Vault
from service import appkeys, auth, gate, middleware, openapi, routes, routing
from service.bypass import Bypass
from service.callbacks import Callbacks
from service.clients import Clients
from service.handlers import app_status, ingest
from service.health_pages import HealthPages
from service.limits import Attempts, Limits
from service.statuspage.site import StatusSite
from service.subscriptions import Subscriptions
from service.traffic import Jobs, Traffic
from worker.jobs import kinds, workforce
from worker.jobs.archive import Archive
from worker.jobs.feed import EventFeed
from worker.jobs.manager import JobStateManager

_DATABASE_S = 1.4
"""For a connection, and for a query: looking up a token, together, stays below three seconds."""

_GRAPH_S = 2.8
"""For a look at what networks there are."""
_LOOKED_S = 0.05


async def build(
    config: Config, life: Lifespan, *, instance: str, clock: Clock | None = None
) -> web.Application:
    """The application, its connections and background tasks owned by ``life``.

    ``instance`` is the id of this process in logs and in the fleet. No store needs to be there:
    each connects on first use. Raises :class:`control.errors.ConfigError`.
    """
    clock = clock or SystemClock()
    known = kinds.load(config.jobs.modules).submittable()
    servers = await life.enter(aclosing(Servers(config.redis.url)))
    commands = servers.commands(keys.CONTROL)
    database = await life.enter(
        Database(config.postgres, connect_s=_DATABASE_S, query_s=_DATABASE_S)
    )
    subscribers = Subscribers.of(servers, shards(config.jobs.shards), clock)
    plane = await open_plane(
        life, config, kind="service", instance=instance, redis=commands,
        subscriber=subscribers.control, database=database, clock=clock, spread=servers.spread,
    )  # fmt: skip
    jobs = JobStateManager.on(servers, config.jobs)
    watchdog = Watchdog(clock)
    engine = Engine(
        (
            *await life.enter(dependencies.checks(config, pool=lambda: database.occupancy)),
            *instance_checks.of_process(watchdog),
            instance_checks.of_control_plane(plane.replica),
            *workforce.checks(servers, config.jobs.shards),
            *await life.enter(external.checks(config, instance, clock=clock)),
        ),
        clock=clock,
    )
    dependencies.heed(engine, subscribers, plane.presence)
    probes = Probes(engine, clock=clock)
    probes.control_stale = lambda: plane.replica.stale
    networks = ProbeNetworks(config.health.networks)
    pages = HealthPages(
        engine, probes, clock=clock, environment=config.client.environment, networks=networks,
        is_viewer=auth.is_viewer,
    )  # fmt: skip
    probes.may_see_all = pages.may_see_all
    base = config.service.app_status_base
    traffic = Traffic()
    metrics = Metrics(
        "service", traffic, Jobs(jobs, engine), Checks(engine, probes, clock),
        Flags(plane.replica, clock), Loop(watchdog), Pool(lambda: database.occupancy),
    )  # fmt: skip
    table = routes.table(probes, metrics, base)
    open_paths = gate.excluded((path for route in table for path in route.paths), base)
    bypass = Bypass(config.control.secret, clock)
    bridge = gate.Gate(
        plane.replica, plane.presence, open_paths=open_paths, app_status_base=base,
        bypass=bypass, clock=clock,
    )  # fmt: skip

    arrivals = middleware.Arrivals(traffic, probes)
    entrance = await _entrance(life, config, arrivals, instance)
    app = web.Application(middlewares=(*entrance, app_status.strays(base), bridge.check))
    app[AT_ONCE], app[REFUSE] = arrivals.at_once, arrivals.refuse
    app[appkeys.CONFIG], app[appkeys.ENTRANCE] = config.service, config.entrance
    app[appkeys.JOBS] = jobs
    app[appkeys.FEED] = EventFeed(subscribers.jobs, jobs)
    app[appkeys.KINDS] = known
    await _add_archives(app, life, config, database)
    await _telling(app, life, config, servers=servers, database=database, clock=clock)
    app[appkeys.KEYRING] = Keyring(
        ApiKeys(database, clock), admin_token=config.service.admin_token, clock=clock
    )
    app[appkeys.JWT] = JwtVerifier(config.identity, clock) if config.identity.jwks_url else None
    await _limit(app, life, config, servers, clock)
    app[appkeys.OPENAPI] = openapi.document(table, known, open_paths)
    app[appkeys.CLOSING] = asyncio.Event()
    app[appkeys.PROBES] = probes
    app[appkeys.PLANE] = plane
    app[appkeys.FLAGS] = frozenset((*DECLARED, *config.control.flags))
    app[appkeys.GATE], app[appkeys.BYPASS] = bridge, bypass
    app[appkeys.HEALTH] = engine
    app[appkeys.STATUS] = open_page(
        life, config, kind="service", plane=plane, engine=engine, database=database, clock=clock,
        announces=(tell_subscribers,), announced=Bell(commands).ring,
        metrics=metrics,
    )  # fmt: skip
    app[appkeys.HEALTH_PAGES] = pages
    app[appkeys.CLOCK] = clock
    _install(app, table, config, clock)

    for name, work in (
        *subscribers.tasks(),
        ("watchdog", watchdog.run()),
        ("health checks", engine.run()),
        *preflight.checks(config),
    ):
        life.supervise(name, work)
    await life.enter(
        liveness.served(
            config.service.host,
            config.health.liveness_port,
            alive=probes.alive,
            watchdog=watchdog,
            networks=networks,
        )
    )
    return app


async def _add_archives(
    app: web.Application, life: Lifespan, config: Config, database: Database
) -> None:
    """What handlers read and write for good: finished jobs, networks and their uploads."""
    app[appkeys.ARCHIVE] = Archive(database)
    app[appkeys.UPLOADS] = Uploads(database)
    app[appkeys.NETWORKS] = Catalogue(await life.enter(Graph(config.graph, query_s=_GRAPH_S)))
    app[appkeys.INGEST] = kinds.load(()).required(ingest.KIND)


async def _telling(
    app: web.Application,
    life: Lifespan,
    config: Config,
    *,
    servers: Servers,
    database: Database,
    clock: Clock,
) -> None:
    """Who may be told what: callbacks of jobs, subscribers of the status page."""
    app[appkeys.CALLBACKS] = await life.enter(aclosing(Callbacks(config.callbacks)))
    vault = Vault(config.notify.secrets)
    app[appkeys.CLIENTS] = Clients(config.service.proxies)
    app[appkeys.ROSTER] = roster = Roster(database, vault, clock)
    redis = servers.commands(keys.CONTROL)
    app[appkeys.SUBSCRIPTIONS] = Subscriptions(
        config, vault, Tokens(vault, clock), roster,
        limiter=RateLimiter(servers.spread or redis, clock),
        destinations=app[appkeys.CALLBACKS], ring=Bell(redis).ring,
    )  # fmt: skip


def _install(
    app: web.Application, table: tuple[routing.Route, ...], config: Config, clock: Clock
) -> None:
    page, told = config.status_page, app[appkeys.STATUS]
    app[appkeys.STATUS_SITE] = StatusSite(page.title, told.board, told.reader, clock)
    app[appkeys.STATUS_TITLE] = page.title
    app[appkeys.STATUS_URL] = page.url
    app.on_response_prepare.append(middleware.add_headers)
    app.on_shutdown.append(_end_streams)
    routing.install(app, table)


async def _entrance(
    life: Lifespan, config: Config, arrivals: middleware.Arrivals, instance: str
) -> tuple[Middleware, ...]:
    """What a request meets first, errors having become problems by then."""
    made = await life.enter(
        tracing.opened(config.log.otlp_url, process="service", instance=instance)
    )
    traces = () if made is None else (middleware.Traces(made).trace,)
    return (arrivals.correlate, *traces, middleware.explain)


async def _limit(
    app: web.Application, life: Lifespan, config: Config, servers: Servers, clock: Clock
) -> None:
    """Limit what is written of each principal and, where configured, how often they ask."""
    app[appkeys.LIMITS], app[appkeys.ATTEMPTS] = None, Attempts(clock)
    if (allowance := config.entrance.allowance) is not None:
        own = await life.enter(aclosing(Wire(servers.commands(keys.CONTROL))))
        wire = servers.spread or own
        app[appkeys.LIMITS] = limits = Limits(allowance, wire, app[appkeys.CLIENTS], clock)
        app.on_response_prepare.append(limits.tell)


async def settled(app: web.Application, within_s: float) -> None:
    """Wait until this instance may let work in and knows how components are, lest its very first
    callers are refused, or told that nothing is known.

    Returns after ``within_s`` in any case: probes must be answered whatever store is away.
    """
    board = app[appkeys.STATUS].board
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(within_s):
            await app[appkeys.PLANE].replica.proved.wait()
            while True:
                if board.looked_at:  # from the records, or by this instance alone
                    return
                await asyncio.sleep(_LOOKED_S)


def begin_stop(app: web.Application) -> None:
    """Say that this instance is about to stop: on /ready, and to the fleet."""
    app[appkeys.PROBES].shutting_down.set()
    app[appkeys.GATE].stopping()


async def _end_streams(app: web.Application) -> None:
    """Event streams would go on for ever; their clients reconnect to another replica."""
    app[appkeys.CLOSING].set()
