"""`drawbridge flag`: every flag by name."""

from datetime import datetime

import click

from control.cli.bridge_view import flags_table
from control.cli.change import Change, announces, changes
from control.cli.steering import api_option, as_json_option, ask, print_json, screen
from control.flags.document import Mode

_name = click.argument("name", metavar="NAME")


@click.group
def flag() -> None:
    """Set, toggle, reset and list flags.

    \b
    drawbridge flag set app_data_ingestion on --reason "nightly load"
    drawbridge flag reset app_data_ingestion
    drawbridge flag list

    Exit status: 0 done, 1 refused, 2 usage, 3 timed out.
    With --json the `outcome` is timed_out, unheard or unavailable where no answer came.
    """


@flag.command("set")
@_name
@click.argument("value", metavar="on|off", type=click.Choice(["on", "off"]))
@changes
@announces
def set_flag(
    *,
    name: str,
    value: str,
    reason: str | None,
    until: datetime | None,
    mode: Mode | None,
    how: Change,
) -> None:
    """Switch the flag NAME on or off."""
    how.make("set", name, value=value == "on", reason=reason, until=until, mode=mode)


@flag.command
@_name
@changes
@announces
def toggle(
    *, name: str, reason: str | None, until: datetime | None, mode: Mode | None, how: Change
) -> None:
    """Switch the flag NAME to what it is not."""
    how.make("toggle", name, reason=reason, until=until, mode=mode)


@flag.command
@_name
@changes
def reset(*, name: str, reason: str | None, how: Change) -> None:
    """Switch the flag NAME off, whatever it is; the audit says `reset`."""
    how.make("reset", name, reason=reason)


@flag.command("list")
@as_json_option
@api_option
def list_flags(*, as_json: bool, api: str | None) -> None:
    """Show every flag."""
    document = ask(api, lambda control: control.flags())
    if as_json:
        print_json(document)
        return
    screen().print(flags_table(document))
    click.echo(f"version {document.position}")
