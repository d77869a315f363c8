"""`drawbridge worker`: one process that claims and runs jobs."""

# First of all, so that the modules after it fill what the driver's tables leave free.
import control.stores.graph  # noqa: F401

# isort: split
import asyncio
import os
import sys

import click

from control import ids, logs
from control.lifespan import new_loop
from control.listener import listening_socket
from control.running import load_config
from worker import app

_LAST_WORDS_S = 1.0


@click.command
@click.option("--host", help="Address of the probes (default: DRAWBRIDGE_WORKER_HOST, 127.0.0.1).")
@click.option(
    "--port",
    type=click.IntRange(0, 65535),
    help="Port of the probes; 0 takes a free one (default: DRAWBRIDGE_WORKER_PORT, 8090).",
)
@click.option("--fd", type=click.IntRange(min=0), help="Serve probes on this inherited socket.")
def worker(host: str | None, port: int | None, fd: int | None) -> None:
    """Run one worker.

    It starts whether or not its stores are there, and waits for them. SIGTERM ends it: nothing
    more is claimed, running jobs get DRAWBRIDGE_DRAIN_SOFT_S to finish, are then asked to stop,
    and DRAWBRIDGE_DRAIN_HARD_S later are handed back. A second SIGTERM hands them back at once.

    Maintenance brings it to rest in the same way, but it stays, and goes on by itself once
    maintenance is off.
    """
    config = load_config(os.environ)
    section = config.worker
    listening = listening_socket(
        section.host if host is None else host, section.port if port is None else port, fd
    )
    instance = ids.new_id()
    logs.configure(config.log, process="worker", instance=instance)
    with asyncio.Runner(loop_factory=new_loop) as runner:
        try:
            runner.run(app.run(config, listening, instance=instance))
        finally:
            _leave_deaf(runner.get_loop())


def _leave_deaf(loop: asyncio.AbstractEventLoop) -> None:
    """End the process here where functions of jobs swallow their cancellation: the runner would
    wait for them for ever."""
    left = asyncio.all_tasks(loop)
    for task in left:
        task.cancel()
    if left and loop.run_until_complete(asyncio.wait(left, timeout=_LAST_WORDS_S))[1]:
        sys.stdout.flush()
        os._exit(1 if sys.exc_info()[0] else 0)
