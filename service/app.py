"""How the service is put together: what exists, what it is made from, and in which order."""

import asyncio
from contextlib import aclosing

from aiohttp import web

from control.clock import Clock, SystemClock
from control.config import Config
from control.health import dependencies
from control.health.engine import Engine
from control.health.probes import Probes
from control.jwt_tokens import JwtVerifier
from control.lifespan import Lifespan
from control.principals import ApiKeys, Keyring
from control.stores import redis
from control.stores.postgres import Database
from control.subscriber import Subscriber
from service import appkeys, middleware, openapi, routes, routing
from worker.jobs import kinds
from worker.jobs.feed import EventFeed
from worker.jobs.manager import JobStateManager

PROBES = web.AppKey("probes", Probes)
_KEY_LOOKUP_S = 1.4
"""A token is looked up with a connection and a query; together they stay below three seconds."""


async def build(config: Config, life: Lifespan, *, clock: Clock | None = None) -> web.Application:
    """The application, its connections and background tasks owned by ``life``.

    No store needs to be there: each connects on first use. Raises
    :class:`control.errors.ConfigError`.
    """
    clock = clock or SystemClock()
    known = kinds.load(config.jobs.modules)
    commands = await life.enter(aclosing(redis.client(config.redis.url)))
    listening = await life.enter(aclosing(redis.client(config.redis.url, retries=0)))
    database = await life.enter(
        Database(config.postgres, connect_s=_KEY_LOOKUP_S, query_s=_KEY_LOOKUP_S)
    )
    engine = Engine(await life.enter(dependencies.checks(config)), clock=clock)
    subscriber = Subscriber(listening, clock)
    probes = Probes(engine, clock=clock)
    jobs = JobStateManager(
        commands, result_ttl_s=config.jobs.result_ttl_s, lease_s=config.jobs.lease_s
    )
    table = routes.table(probes)

    app = web.Application(middlewares=middleware.MIDDLEWARES)
    app[appkeys.CONFIG] = config.service
    app[appkeys.JOBS] = jobs
    app[appkeys.FEED] = EventFeed(subscriber, jobs)
    app[appkeys.KINDS] = known
    app[appkeys.KEYRING] = Keyring(
        ApiKeys(database, clock), admin_token=config.service.admin_token, clock=clock
    )
    app[appkeys.JWT] = JwtVerifier(config.identity, clock) if config.identity.jwks_url else None
    app[appkeys.OPENAPI] = openapi.document(table, known)
    app[appkeys.CLOSING] = asyncio.Event()
    app[PROBES] = probes
    app.on_response_prepare.append(middleware.add_headers)
    app.on_shutdown.append(_end_streams)
    routing.install(app, table)

    life.supervise("subscriber", subscriber.run())
    life.supervise("health checks", engine.run())
    return app


async def _end_streams(app: web.Application) -> None:
    """Event streams would go on for ever; their clients reconnect to another replica."""
    app[appkeys.CLOSING].set()
