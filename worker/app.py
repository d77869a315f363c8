"""How a worker is put together: what exists, what it is made from, and in which order."""

import dataclasses
import gc
import socket
from collections.abc import Callable
from contextlib import aclosing, suppress
from typing import Any

from aiohttp import web

from control import ids, keys, logs, preflight, tracing
from control.clock import Clock, SystemClock
from control.config import Config
from control.errors import StoreUnavailable
from control.flags.plane import open_plane
from control.flags.presence import Presence
from control.flags.replica import Replica
from control.health import dependencies, external, liveness
from control.health import instance as instance_checks
from control.health.engine import Engine
from control.health.networks import ProbeNetworks
from control.health.probes import Probes
from control.health.watchdog import Watchdog
from control.job_keys import shards
from control.lifespan import Lifespan
from control.listener import serving, url_of
from control.metrics.instance import Checks, Flags, Loop, Pool
from control.metrics.registry import Metrics
from control.networks.uploads import Uploads
from control.status.page import open_page
from control.stores.graph import Graph
from control.stores.postgres import Database
from control.stores.servers import Servers
from control.subscriber import Subscribers
from control.subscribers.bell import Bell
from control.subscribers.telling import tell_subscribers
from control.webhooks.destinations import Destinations
from control.webhooks.sender import Sender
from control.webhooks.signature import Signer
from worker import resources
from worker.consumer import Asked
from worker.cpu.frames import GraphAccess
from worker.drain import Drain
from worker.executor import Executor
from worker.ingest.lamp import Lamp
from worker.ingest.stores import IngestStores
from worker.jobs import kinds
from worker.jobs.archive import Archive
from worker.jobs.manager import JobStateManager
from worker.metrics import Told, Work
from worker.notify import wiring
from worker.notify.courier import Courier
from worker.station import Station
from worker.trimmer import Trimmer

_DATABASE_S = 1.4
"""A connection and a query together stay below the three seconds after which state is stale."""

_GRAPH_RETRY_S = 1.0
"""An ingest that waits for the graph retries by itself, and says so."""


async def run(config: Config, listening: socket.socket, *, instance: str | None = None) -> None:
    """Work until a signal comes, then drain and stop; probes are served on ``listening``.

    No store needs to be there: the worker waits for them. Raises
    :class:`control.errors.ConfigError`, and :class:`control.lifespan.TaskDied` where a background
    task fails.
    """
    worker, clock, log = instance or ids.new_id(), SystemClock(), logs.get(__name__)
    known = kinds.load(config.jobs.modules).limited(config.jobs.concurrency)
    async with Lifespan() as life:
        watchdog, replica = Watchdog(clock), Replica(clock)
        engine = Engine(
            (
                *await life.enter(dependencies.checks(config)),
                *instance_checks.of_process(watchdog),
                instance_checks.of_control_plane(replica),
                *await life.enter(external.checks(config, worker, clock=clock)),
            ),
            clock=clock,
        )
        probes = Probes(engine, clock=clock)
        metrics = Metrics("worker", Checks(engine, probes, clock), Loop(watchdog))
        await life.enter(serving(_pages(probes, metrics), listening, entrance=config.entrance))
        await life.enter(
            liveness.served(
                config.worker.host,
                config.health.liveness_port,
                alive=probes.alive,
                watchdog=watchdog,
                networks=ProbeNetworks(config.health.networks),
            )
        )
        life.supervise("watchdog", watchdog.run())
        life.supervise("health checks", engine.run())

        servers = await life.enter(aclosing(Servers(config.redis.url)))
        jobs = JobStateManager.on(servers, config.jobs)
        subscribers = Subscribers.of(servers, shards(config.jobs.shards), clock)
        database = await life.enter(
            Database(config.postgres, connect_s=_DATABASE_S, query_s=_DATABASE_S)
        )
        plane = await open_plane(
            life, config, kind="worker", instance=worker, redis=servers.commands(keys.CONTROL),
            subscriber=subscribers.control,
            database=database, clock=clock, replica=replica, spread=servers.spread,
        )  # fmt: skip
        dependencies.heed(engine, subscribers, plane.presence)
        probes.control_stale = lambda: replica.stale
        open_page(
            life, config, kind="worker", plane=plane, engine=engine, database=database, clock=clock,
            announces=(tell_subscribers,), announced=Bell(servers.commands(keys.CONTROL)).ring,
        )  # fmt: skip
        own = await _own(life, config, database, clock) | {
            IngestStores: IngestStores(
                await life.enter(Graph(config.graph, retry_s=_GRAPH_RETRY_S)),
                Uploads(database), Lamp(database, plane, jobs), jobs, clock,
            )
        }  # fmt: skip
        known = known.given(own | await life.enter(resources.opened(config.jobs.modules)))
        executor = Executor(
            jobs, known, modules=config.jobs.modules, memory=config.worker.memory,
            graph=GraphAccess(**dataclasses.asdict(config.graph)),
            tracing=await life.enter(
                tracing.opened(config.log.otlp_url, process="worker", instance=worker)
            ),
        )  # fmt: skip
        drain = Drain(
            executor, replica, urgent=life.urgent, clock=clock,
            soft_s=config.worker.drain_soft_s, hard_s=config.worker.drain_hard_s,
        )  # fmt: skip
        for collector in (
            Work(executor, drain), Told(own[Courier]), Flags(replica, clock),
            Pool(lambda: database.occupancy),
        ):  # fmt: skip
            metrics.add(collector)
        drain.on_progress(_reporter(drain, executor, plane.presence))
        lanes = {"cpu": config.worker.cpu_slots, "io": config.worker.io_slots}
        asked = {lane: Asked() for lane, slots in lanes.items() if slots}
        stations = [
            Station(
                shard, worker, config, jobs=jobs, kinds=known, executor=executor, drain=drain,
                archive=Archive(database), asked=asked, clock=clock,
            )
            for shard in range(len(jobs.shards))
        ]  # fmt: skip
        for station, subscriber in zip(stations, subscribers.jobs, strict=True):
            await station.listen(subscriber, _stopper(executor))
        heartbeats = [life.supervise(*station.heartbeat()) for station in stations]
        for name, work in (
            *subscribers.tasks(),
            *(work for station in stations for work in station.work()),
            ("trimmer", Trimmer(jobs).run()),
            ("ingestion flag", own[IngestStores].lamp.run()),
            ("caretaker", wiring.caretaker(config, database, clock).run()),
            (
                "relay",
                (
                    await wiring.relay(
                        config,
                        database,
                        own[Courier],
                        jobs=jobs,
                        subscriber=subscribers.control,
                        clock=clock,
                    )
                ).run(),
            ),
            *preflight.checks(config),
        ):
            life.supervise(name, work)
        drain.follow()

        gc.freeze()  # what is there by now stays: the collector need not walk it for each few jobs
        log.info("working", worker=worker, probes=url_of(listening), kinds=[k.name for k in known])
        try:
            await life.stopping()
        finally:
            probes.shutting_down.set()
            await drain.stop()
            for heartbeat in heartbeats:
                await life.end(heartbeat)
            with suppress(StoreUnavailable):
                await jobs.leave(worker)
    log.info("stopped")


async def _own(life: Lifespan, config: Config, database: Database, clock: Clock) -> dict[Any, Any]:
    """What the built-in kinds use: what posts callbacks, what tells subscribers."""
    destinations = await life.enter(aclosing(Destinations(config.callbacks.networks)))
    signer = Signer(config.callbacks.secrets)
    sender = await life.enter(aclosing(Sender(signer, destinations, clock)))
    return {Sender: sender, Courier: await wiring.courier(life, config, database, sender, clock)}


def _pages(probes: Probes, metrics: Metrics) -> web.Application:
    application = web.Application()
    probes.add_to(application)
    for path in ("/metrics", "/metrics/"):
        application.router.add_get(path, metrics.page)
    return application


def _reporter(drain: Drain, executor: Executor, presence: Presence) -> Callable[[], None]:
    return lambda: presence.report(
        phase=drain.phase, running=len(executor.running), quiesced=drain.quiesced
    )


def _stopper(executor: Executor) -> Callable[[bytes], None]:
    return lambda run_id: executor.stop(run_id.decode(), "cancelled")
