"""How the commands of the status page reach it: over HTTP, with the token of the caller."""

import os
from typing import Any

import click
from rich.table import Table

from control import cancelling
from control.cli import api_url
from control.cli.api_client import Api
from control.cli.steering import print_json, screen
from control.running import load_config

ROOT = "/api/status"

api_option = api_url.option("The API (default: DRAWBRIDGE_API).")
json_option = click.option("--json", "as_json", is_flag=True, help="Print one line of JSON.")
affects_option = click.option(
    "--component", "-c", "components", multiple=True, metavar="ID",
    help="A component that is affected, by id or name; again for more.",
)  # fmt: skip


def ask(
    api: str | None,
    method: str,
    path: str,
    body: dict[str, Any] | None = None,
    **query: str,
) -> dict[str, Any]:
    """One request below ``/api/status``; members that are ``None`` are left out of the body."""

    async def work() -> dict[str, Any]:
        options: dict[str, Any] = {"params": query} if query else {}
        if body is not None:
            options["json"] = {name: told for name, told in body.items() if told is not None}
        async with Api.of(load_config(os.environ), api) as client:
            return await client.ask(method, ROOT + path, **options)

    return cancelling.run(work())


def tell(found: dict[str, Any], line: str, *, as_json: bool) -> None:
    """What came of a command: one line."""
    if as_json:
        print_json(found)
    else:
        click.echo(line)


def table(*titles: str) -> Table:
    """A plain table; the last column may be folded."""
    made = Table(box=None, pad_edge=False, header_style="bold")
    for title in titles:
        made.add_column(title, no_wrap=title != titles[-1])
    return made


def show(found: Table, nothing: str) -> None:
    """Print a table, or that there is ``nothing``."""
    if found.row_count:
        screen().print(found)
    else:
        click.echo(nothing)


def words(status: str) -> str:
    """A status as people write it."""
    return status.replace("_", " ")


def short(moment: str | None) -> str:
    """An RFC 3339 time to the minute, in UTC."""
    return "" if moment is None else moment[:16].replace("T", " ")
