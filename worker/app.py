"""How a worker is put together: what exists, what it is made from, and in which order."""

import gc
import socket
from collections.abc import Callable
from contextlib import aclosing, suppress

from aiohttp import web
from redis.asyncio import Redis

from control import ids, keys, logs, tracing
from control.clock import Clock, SystemClock
from control.config import Config
from control.errors import StoreUnavailable
from control.flags.plane import open_plane
from control.flags.presence import Presence
from control.flags.replica import Replica
from control.health import dependencies, liveness
from control.health import instance as instance_checks
from control.health.engine import Engine
from control.health.networks import ProbeNetworks
from control.health.probes import Probes
from control.health.watchdog import Watchdog
from control.lifespan import Lifespan
from control.listener import serving, url_of
from control.metrics.instance import Checks, Flags, Loop, Pool
from control.metrics.registry import Metrics
from control.stores import redis
from control.stores.postgres import Database
from control.subscriber import Listener, Subscriber
from control.webhooks.destinations import Destinations
from control.webhooks.sender import Sender
from control.webhooks.signature import Signer
from worker import resources
from worker.alarm import Alarm
from worker.archivist import Archivist
from worker.consumer import BELL_WAIT_S, Consumer
from worker.drain import Drain
from worker.executor import Executor
from worker.jobs import kinds
from worker.jobs.archive import Archive
from worker.jobs.manager import JobStateManager
from worker.leases import Lease
from worker.metrics import Work
from worker.periodic import PeriodicRuns
from worker.rescuer import Rescuer
from worker.scheduler import Scheduler
from worker.trimmer import Trimmer

_DATABASE_S = 1.4
"""A connection and a query together stay below the three seconds after which state is stale."""


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
        own = {Sender: await _sender(life, config, clock)}
        known = known.given(own | await life.enter(resources.opened(config.jobs.modules)))
        executor = Executor(
            jobs, known, modules=config.jobs.modules, memory=config.worker.memory,
            tracing=await life.enter(
                tracing.opened(config.log.otlp_url, process="worker", instance=worker)
            ),
        )  # fmt: skip
        due, lost = Alarm(clock), Alarm(clock)
        lease = Lease(
            worker, lease_s=config.jobs.lease_s, jobs=jobs, executor=executor, clock=clock,
            due=due, lost=lost,
        )  # fmt: skip
        subscriber = Subscriber(await _open(life, redis.client(config.redis.url, retries=0)), clock)
        subscriber.on_loss(lambda: engine.suspect(dependencies.REDIS))
        scheduler = Scheduler(jobs, due)
        database = await life.enter(
            Database(config.postgres, connect_s=_DATABASE_S, query_s=_DATABASE_S)
        )
        plane = await open_plane(
            life, config, kind="worker", instance=worker, redis=commands, subscriber=subscriber,
            database=database, clock=clock, replica=replica,
        )  # fmt: skip
        probes.control_stale = lambda: replica.stale
        drain = Drain(
            executor, replica, urgent=life.urgent, clock=clock,
            soft_s=config.worker.drain_soft_s, hard_s=config.worker.drain_hard_s,
        )  # fmt: skip
        for collector in (
            Work(executor, drain), Flags(replica, clock), Pool(lambda: database.occupancy)
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


async def _sender(life: Lifespan, config: Config, clock: Clock) -> Sender:
    """What posts callbacks."""
    destinations = await life.enter(aclosing(Destinations(config.callbacks.networks)))
    signer = Signer(config.callbacks.secrets)
    return await life.enter(aclosing(Sender(signer, destinations, clock)))


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
