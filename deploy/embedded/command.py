"""`drawbridge up`: the command line of the embedded stack."""

import asyncio
import json
import os
import signal
import time
from collections.abc import Coroutine, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import click

from control import cancelling, running
from control.config import Config, load
from control.errors import DrawbridgeError
from deploy.embedded import sample, screen
from deploy.embedded.folder import DataFolder
from deploy.embedded.stack import Plan, Stack

_PORT = click.IntRange(0, 65535)
_REPLICAS = click.IntRange(0, 100)


@dataclass(frozen=True)
class Request:
    """What the command line asks for, beside the plan."""

    folder: Path
    found_by_others: bool
    as_json: bool
    solve_sample: bool


@click.command()
@click.option("--services", type=_REPLICAS, default=1, show_default=True, help="How many services.")
@click.option("--workers", type=_REPLICAS, default=1, show_default=True, help="How many workers.")
@click.option(
    "--port",
    type=_PORT,
    help="Port of the first service; the next ones follow. 0 = free ports.  [default: 8080]",
)
@click.option(
    "--worker-port",
    type=_PORT,
    help="Port of the first worker's probes; likewise.  [default: 8090; 0 with --port 0]",
)
@click.option(
    "--data-dir",
    type=click.Path(path_type=Path, file_okay=False),
    help="Where everything is kept.  [default: the user's data folder]",
)
@click.option("--json", "as_json", is_flag=True, help="Print one JSON line once ready.")
@click.option(
    "--redis-server",
    type=click.Path(path_type=Path),
    help="Run this installed redis-server instead of the embedded one.",
)
@click.option(
    "--sample/--no-sample",
    "solve_sample",
    default=None,
    help="Solve the sample model once ready.  [default: DRAWBRIDGE_SAMPLE, else no]",
)
def up(
    *,
    services: int,
    workers: int,
    port: int | None,
    worker_port: int | None,
    data_dir: Path | None,
    as_json: bool,
    redis_server: Path | None,
    solve_sample: bool | None,
) -> None:
    """Start everything on this machine and keep it running until Ctrl-C.

    Redis, PostgreSQL and a graph database from wheels, services and workers; all on loopback, all
    data in one folder. REDIS_URL, DATABASE_URL and NEO4J_URI replace the embedded servers.
    """
    environ = dict(os.environ)
    config = load(("environment", environ))
    if worker_port is None:
        worker_port = 0 if port == 0 else config.worker.port
    plan = Plan(
        services=services,
        workers=workers,
        port=config.service.port if port is None else port,
        worker_port=worker_port,
        redis_program=redis_server,
    )
    found = running.data_dir(environ)
    request = Request(
        folder=data_dir or found,
        found_by_others=data_dir is None or data_dir.expanduser().absolute() == found.absolute(),
        as_json=as_json,
        solve_sample=config.client.sample if solve_sample is None else solve_sample,
    )
    asyncio.run(_up(request, plan, config, environ))


class Interruptions:
    """Ctrl-C, SIGTERM and a closed terminal: the first one stops, the second one hurries."""

    def __init__(self) -> None:
        self.stop = asyncio.Event()
        self.hurry = asyncio.Event()
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            asyncio.get_running_loop().add_signal_handler(number, self._came)

    def _came(self) -> None:
        (self.hurry if self.stop.is_set() else self.stop).set()

    async def or_done(self, work: Coroutine[Any, Any, None]) -> bool:
        """Do ``work`` until it is done (true) or a signal comes (false). Raises what it raises."""
        doing = asyncio.create_task(work)
        waiting = asyncio.create_task(self.stop.wait())
        try:
            await asyncio.wait((doing, waiting), return_when=asyncio.FIRST_COMPLETED)
            if doing.done():
                doing.result()
        finally:
            await cancelling.end(doing, waiting)
        return not self.stop.is_set()


def _complain(loop: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
    """What the loop has to say, but for connections that nobody waits for any more.

    A probe that is cancelled while it connects leaves a refused connection to the loop.
    """
    if not isinstance(context.get("exception"), OSError):
        loop.default_exception_handler(context)


async def _up(request: Request, plan: Plan, config: Config, environ: Mapping[str, str]) -> None:
    asyncio.get_running_loop().set_exception_handler(_complain)
    interruptions = Interruptions()
    folder = DataFolder(request.folder)
    try:
        stack = Stack(folder, config, plan, environ, screen.progress)
        try:
            if await interruptions.or_done(stack.start()):
                _tell(request, config, folder, stack)
                if not request.solve_sample or await interruptions.or_done(_sample(stack)):
                    await interruptions.or_done(stack.run())
            screen.progress("stopping")
        finally:
            await stack.stop(interruptions.hurry)
    finally:
        folder.close()
    screen.progress("stopped")


def _tell(request: Request, config: Config, folder: DataFolder, stack: Stack) -> None:
    if request.as_json:
        click.echo(json.dumps(stack.ready_line()))
        return
    screen.welcome(
        services=[replica.url for replica in stack.services],
        workers=[replica.url for replica in stack.workers],
        folder=folder.path,
        found_by_others=request.found_by_others,
        admin_token=stack.admin_token,
        anonymous=config.service.anonymous == "jobs",
    )


async def _sample(stack: Stack) -> None:
    if not stack.services or not stack.workers:
        screen.progress("the sample model needs a service and a worker")
        return
    began = time.monotonic()
    try:
        objective = await sample.solve(stack.services[0].url, stack.admin_token)
    except DrawbridgeError as error:
        screen.progress(str(error))
        return
    took_s = time.monotonic() - began
    screen.progress(f"the sample model is solved: optimum {objective:g}, in {took_s:.2f} s")
