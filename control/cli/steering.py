"""How commands reach the control plane, and what they have in common.

Over Redis by default, as a script would; over HTTP with ``--api``. Exit status: 0 done, 1 refused,
2 usage, 3 timed out, 130 interrupted.
"""

import os
import sys
from collections.abc import Awaitable, Callable
from contextlib import AbstractAsyncContextManager
from typing import TYPE_CHECKING, Any, TypeAlias, TypeVar

import click
import msgspec
from rich.console import Console

from control import cancelling, ids, logs
from control.cli import api_url
from control.cli.away import advised
from control.config import Config, LogSection
from control.flags.client import ControlClient
from control.running import load_config

if TYPE_CHECKING:
    from control.cli.control_api import ApiControl

T = TypeVar("T")
Control: TypeAlias = "ControlClient | ApiControl"
"""The control plane over Redis, or over HTTP: the same methods."""

REFUSED, TIMED_OUT, INTERRUPTED = 1, 3, 130
"""Exit statuses beside 0 and that of a usage error, 2."""

_PIPED_WIDTH = 200

as_json_option = click.option("--json", "as_json", is_flag=True, help="Print JSON on stdout.")
api_option = api_url.option("Over HTTP at this address, with DRAWBRIDGE_TOKEN, not over Redis.")


def open_control(config: Config, api: str | None) -> AbstractAsyncContextManager[Control]:
    """The control plane over HTTP at ``api``, else over the Redis of the configuration."""
    if api is None:
        return ControlClient(config)
    # aiohttp takes 80 ms to import, which raising the bridge over Redis need not wait for.
    from control.cli.api_client import Api  # noqa: PLC0415
    from control.cli.control_api import ApiControl  # noqa: PLC0415

    return ApiControl(Api.of(config, api))


def ask(api: str | None, question: Callable[[Control], Awaitable[T]]) -> T:
    """One conversation with the control plane."""
    config = load_config(os.environ)
    # A library's warnings belong beside what was asked for, never among it.
    section = LogSection(level="error")
    logs.configure(section, process="cli", instance=ids.new_id(), stream=sys.stderr)

    async def run() -> T:
        async with open_control(config, api) as control:
            return await question(control)

    if api is not None:
        return cancelling.run(run())
    with advised(config, api=True):
        return cancelling.run(run())


def screen(*, error: bool = False) -> Console:
    """Where people read. In a pipe nothing is folded or coloured."""
    stream = sys.stderr if error else sys.stdout
    width = None if stream.isatty() else _PIPED_WIDTH
    return Console(stderr=error, width=width, markup=False, highlight=False)


def print_json(value: Any) -> None:
    """One line of JSON."""
    click.echo(msgspec.json.encode(value).decode())
