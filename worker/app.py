"""How a worker is put together: what exists, what it is made from, and in which order."""

import dataclasses
import gc
import socket
from collections.abc import Callable
from contextlib import aclosing, suppress
from typing import Any

from aiohttp import web
from redis.asyncio import Redis

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
from control.lifespan import Lifespan
from control.listener import serving, url_of
from control.metrics.instance import Checks, Flags, Loop, Pool
from control.metrics.registry import Metrics
from control.networks.uploads import Uploads
from control.status.page import open_page
from control.stores import redis
from control.stores.graph import Graph
from control.stores.postgres import Database
from control.subscriber import Listener, Subscriber
from control.subscribers.bell import Bell
from control.subscribers.telling import tell_subscribers
from control.webhooks.destinations import Destinations
from control.webhooks.sender import Sender
from control.webhooks.signature import Signer
from worker import resources
from worker.alarm import Alarm
from worker.archivist import Archivist
from worker.consumer import BELL_WAIT_S, Consumer
from worker.cpu.frames import GraphAccess
from worker.drain import Drain
from worker.executor import Executor
from worker.ingest.lamp import Lamp
from worker.ingest.stores import IngestStores
from worker.jobs import kinds
from worker.jobs.archive import Archive
from worker.jobs.manager import JobStateManager
from worker.leases import Lease
from worker.metrics import Told, Work
from worker.notify import wiring
from worker.notify.courier import Courier
from worker.periodic import PeriodicRuns
from worker.rescuer import Rescuer
from worker.scheduler import Scheduler
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

        commands = await _open(life, redis.client(config.redis.url))
        jobs = JobStateManager.of(commands, config.jobs)
        subscriber = Subscriber(await _open(life, redis.client(config.redis.url, retries=0)), clock)
        database = await life.enter(
            Database(config.postgres, connect_s=_DATABASE_S, query_s=_DATABASE_S)
        )
        plane = await open_plane(
            life, config, kind="worker", instance=worker, redis=commands, subscriber=subscriber,
            database=database, clock=clock, replica=replica,
        )  # fmt: skip
        dependencies.heed(engine, subscriber, plane.presence)
        probes.control_stale = lambda: replica.stale
        open_page(
            life, config, kind="worker", plane=plane, engine=engine, database=database, clock=clock,
            announces=(tell_subscribers,), announced=Bell(commands).ring,
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
        due, lost = Alarm(clock), Alarm(clock)
        lease = Lease(
            worker, lease_s=config.jobs.lease_s, jobs=jobs, executor=executor, clock=clock,
            due=due, lost=lost,
        )  # fmt: skip
        scheduler = Scheduler(jobs, due)
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
        await subscriber.add(
            keys.CANCEL_CHANNEL, Listener(_stopper(executor), lease.beat_now), wait_s=0
        )
        await scheduler.listen(subscriber)
        heartbeat = life.supervise("heartbeat", lease.beat())
        for name, work in (
            ("subscriber", subscriber.run()),
            ("scheduler", scheduler.run()),
            ("rescuer", Rescuer(lost, lease).run()),
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
                        subscriber=subscriber,
                        clock=clock,
                    )
                ).run(),
            ),
            (
                "periodic runs",
                PeriodicRuns(jobs.timetable, known, opened=drain.open, clock=clock).run(),
            ),
            (
                "archivist",
                Archivist(
                    worker, jobs.ended, Archive(database), days=config.archive.days, clock=clock
                ).run(),
            ),
            *preflight.checks(config),
        ):
            life.supervise(name, work)
        for lane, slots in (("cpu", config.worker.cpu_slots), ("io", config.worker.io_slots)):
            if slots:
                bell = await _open(
                    life, redis.blocking_client(config.redis.url, block_s=BELL_WAIT_S)
                )
                consumer = Consumer(
                    lane, slots, limits=known.limits(lane), worker=worker, jobs=jobs,
                    executor=executor, lease=lease, drain=drain, bell=bell, clock=clock,
                )  # fmt: skip
                life.supervise(f"consumer of {lane}", consumer.run())
        drain.follow()

        gc.freeze()  # what is there by now stays: the collector need not walk it for each few jobs
        log.info("working", worker=worker, probes=url_of(listening), kinds=[k.name for k in known])
        try:
            await life.stopping()
        finally:
            probes.shutting_down.set()
            await drain.stop()
            await life.end(heartbeat)
            with suppress(StoreUnavailable):
                await jobs.leave(worker)
    log.info("stopped")


async def _open(life: Lifespan, client: Redis) -> Redis:
    """``client``, closed at the end of ``life``."""
    return await life.enter(aclosing(client))


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
