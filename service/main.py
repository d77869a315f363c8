"""`drawbridge service`: one process of the API."""

# First of all, so that the modules after it fill what the driver's tables leave free.
import control.stores.graph  # noqa: F401

# isort: split
import asyncio
import contextlib
import gc
import os
import signal
import socket
from collections.abc import Callable

import click

from control import ids, logs
from control.config import Config
from control.lifespan import Lifespan
from control.listener import listening_socket, serving, url_of
from control.running import load_config
from service import app

_SETTLE_S = 2.0


@click.command
@click.option("--host", help="Address to listen on (default: DRAWBRIDGE_HOST, 127.0.0.1).")
@click.option(
    "--port",
    type=click.IntRange(0, 65535),
    help="Port; 0 takes a free one (default: DRAWBRIDGE_PORT, 8080).",
)
@click.option("--fd", type=click.IntRange(min=0), help="Serve on this inherited listening socket.")
def service(host: str | None, port: int | None, fd: int | None) -> None:
    """Run one API service.

    It starts whether or not its stores are there, and says on /ready what it misses. SIGTERM ends
    it: /ready says 503 for the drain delay, then requests under way finish. A second signal, or
    SIGINT, skips the delay.
    """
    config = load_config(os.environ)
    listening = listening_socket(
        config.service.host if host is None else host,
        config.service.port if port is None else port,
        fd,
    )
    instance = ids.new_id()
    logs.configure(config.log, process="service", instance=instance)
    with asyncio.Runner(loop_factory=_fast_loop()) as runner:
        runner.run(run(config, listening, instance))


async def run(config: Config, listening: socket.socket, instance: str) -> None:
    """Serve on ``listening`` until a signal comes, then drain and stop.

    Raises :class:`control.lifespan.TaskDied` where a background task fails.
    """
    log = logs.get(__name__)
    async with Lifespan() as life:
        application = await app.build(config, life, instance=instance)
        await app.settled(application, _SETTLE_S)
        await life.enter(serving(application, listening, entrance=config.entrance))
        gc.freeze()  # what is there by now stays: a walk over all of it would take some 100 ms
        log.info("serving", url=url_of(listening))
        await life.stopping()
        app.begin_stop(application)
        await _drain(life, config.service.drain_delay_s)
    log.info("stopped")


async def _drain(life: Lifespan, delay_s: float) -> None:
    """Serve on for ``delay_s``, so that load balancers see /ready before the listener closes."""
    if life.signal is signal.SIGINT:
        return
    with contextlib.suppress(TimeoutError):
        await asyncio.wait_for(life.urgent.wait(), delay_s)


def _fast_loop() -> Callable[[], asyncio.AbstractEventLoop] | None:
    """uvloop's loop where it is installed, else Python's own."""
    try:
        import uvloop  # noqa: PLC0415 - optional
    except ImportError:
        return None
    factory: Callable[[], asyncio.AbstractEventLoop] = uvloop.new_event_loop
    return factory
