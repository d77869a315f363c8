"""`drawbridge networks`: what is stored."""

import json
import os
import sys
from typing import Any

import click
from rich.console import Console
from rich.table import Table

from control import cancelling
from control.cli import api_url
from control.cli.api_client import Api
from control.running import load_config

_PIPED_WIDTH = 160
_api = api_url.option("The API (default: DRAWBRIDGE_API).")
_json = click.option("--json", "as_json", is_flag=True, help="Print one line of JSON.")


@click.group
def networks() -> None:
    """List and show the networks that `drawbridge ingest` has stored."""


@networks.command("list")
@click.option("--limit", type=click.IntRange(1, 200), default=50, show_default=True)
@click.option("--cursor", help="Go on after the page that gave this cursor.")
@_json
@_api
def list_networks(*, limit: int, cursor: str | None, as_json: bool, api: str | None) -> None:
    """List the networks by name."""
    query = {"limit": str(limit)} | ({"cursor": cursor} if cursor else {})
    page = _get("/networks", api, query)
    if as_json:
        click.echo(json.dumps(page))
        return
    table = Table(box=None, pad_edge=False)
    for title, side in (("name", "left"), ("nodes", "right"), ("edges", "right"),
                        ("supply", "right"), ("demand", "right"), ("stored", "left")):  # fmt: skip
        table.add_column(title, no_wrap=True, justify="left" if side == "left" else "right")
    for each in page["networks"]:
        table.add_row(
            each["name"],
            f"{each['nodes']:,d}",
            f"{each['edges']:,d}",
            f"{each['total_supply']:.10g}",
            f"{each['total_demand']:.10g}",
            each["created_at"][:19].replace("T", " "),
        )
    Console(width=None if sys.stdout.isatty() else _PIPED_WIDTH).print(table)
    if page["cursor"]:
        click.echo(f"more: --cursor {page['cursor']}")


@networks.command
@click.argument("name")
@_json
@_api
def show(name: str, *, as_json: bool, api: str | None) -> None:
    """Show one network."""
    found = _get(f"/networks/{name}", api, {})
    if as_json:
        click.echo(json.dumps(found))
        return
    flow = found.pop("flow")
    rows = {**found}
    if flow:
        rows["flow"] = f"{flow['objective']:.10g}, by {flow['run_id']} at {flow['at']}"
    width = max(map(len, rows))
    for label, value in rows.items():
        click.echo(f"{label:{width}}  {value}")


def _get(path: str, api: str | None, query: dict[str, str]) -> dict[str, Any]:
    async def ask() -> dict[str, Any]:
        async with Api.of(load_config(os.environ), api) as client:
            return await client.ask("GET", path, params=query)

    return cancelling.run(ask())
