"""`drawbridge migrate`: bring the schema of PostgreSQL up to date."""

import os

import click
import msgspec

from control import cancelling, migrations
from control.migrations import Migration
from control.running import load_config
from control.stores import postgres


@click.command()
@click.option("--plan", is_flag=True, help="Only say what would be applied.")
@click.option("--quiet", is_flag=True, help="Say nothing unless it fails.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON line.")
def migrate(*, plan: bool, quiet: bool, as_json: bool) -> None:
    """Bring the PostgreSQL schema up to date.

    Safe to run at any time and from many places at once: what is applied stays, one runs at a time.
    """
    url = load_config(os.environ).postgres.url
    found = cancelling.run(_pending(url) if plan else migrations.migrate(url))
    if quiet:
        return
    if as_json:
        report = {
            "version": max((m.version for m in migrations.shipped()), default=0),
            "applied": [] if plan else [str(m) for m in found],
            "pending": [str(m) for m in found] if plan else [],
        }
        click.echo(msgspec.json.encode(report).decode())
        return
    for migration in found:
        click.echo(f"{'pending' if plan else 'applied'}  {migration}")
    if not found:
        click.echo("the schema is up to date")


async def _pending(url: str) -> tuple[Migration, ...]:
    async with postgres.connection(url) as connection:
        return await migrations.pending(connection, migrations.shipped())
