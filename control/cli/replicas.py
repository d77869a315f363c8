"""`drawbridge replicas`: who is live, what each has applied and still runs."""

import click

from control.cli.bridge_view import fleet
from control.cli.steering import api_option, as_json_option, ask, print_json, screen


@click.command
@as_json_option
@api_option
def replicas(*, as_json: bool, api: str | None) -> None:
    """Show every live instance: the flags it has applied, its phase, what it runs."""
    found = ask(api, lambda control: control.replicas())
    if as_json:
        print_json({"replicas": found})
    else:
        screen().print(fleet(found) if found else "No instance is running.")
