"""`drawbridge maintenance`: raise the bridge over the whole fleet, lower it, look at it."""

from datetime import datetime

import click

from control.cli import bridge_view as view
from control.cli.change import Change, announces, changes
from control.cli.steering import Control, api_option, as_json_option, ask, print_json, screen
from control.clock import SystemClock
from control.flags.document import MAINTENANCE, Document, Mode
from control.flags.presence import ReplicaReport


@click.group
def maintenance() -> None:
    """Raise the bridge over the whole fleet, lower it, look at it.

    \b
    drawbridge maintenance on --reason "db upgrade" --for 20m --wait quiesced
    drawbridge maintenance status
    drawbridge maintenance off --wait applied

    While it is up nothing is accepted or claimed; running jobs finish. Commands go over Redis, or
    over HTTP with --api.

    Exit status: 0 done, 1 refused, 2 usage, 3 timed out (who did not follow is named; the change
    stands).
    With --json the `outcome` is timed_out, unheard or unavailable where no answer came.
    """


@maintenance.command("on")
@changes
@announces
def raise_bridge(
    *, reason: str | None, until: datetime | None, mode: Mode | None, how: Change
) -> None:
    """Raise the bridge.

    \b
    drawbridge maintenance on --reason "db upgrade" --for 20m --wait quiesced

    With --wait it stays until every instance has followed, and shows each one. Ctrl-C ends the
    waiting only; the bridge stays up.
    """
    how.make("set", MAINTENANCE, value=True, reason=reason, until=until, mode=mode)


@maintenance.command("off")
@changes
def lower_bridge(*, reason: str | None, how: Change) -> None:
    """Lower the bridge: work is accepted and claimed again."""
    how.make("set", MAINTENANCE, value=False, reason=reason)


@maintenance.command
@changes
@announces
def toggle(*, reason: str | None, until: datetime | None, mode: Mode | None, how: Change) -> None:
    """Raise the bridge if it is down, lower it if it is up."""
    how.make("toggle", MAINTENANCE, reason=reason, until=until, mode=mode)


@maintenance.command
@as_json_option
@api_option
def status(*, as_json: bool, api: str | None) -> None:
    """Show the bridge and every instance. Exit status 0, up or down."""

    async def look(control: Control) -> tuple[Document, list[ReplicaReport]]:
        return await control.flags(), await control.replicas()

    document, replicas = ask(api, look)
    flag = document.flag(MAINTENANCE)
    if as_json:
        print_json({"maintenance": flag, "document": document, "replicas": replicas})
        return
    click.echo(view.bridge(flag, SystemClock().now()))
    click.echo()
    screen().print(view.fleet(replicas) if replicas else "No instance is running.")
