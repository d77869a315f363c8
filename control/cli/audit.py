"""`drawbridge audit`: who changed what, and whether the record was tampered with."""

import os
from typing import Any

import click
from rich.table import Table

from control import cancelling
from control.cli import times
from control.cli.away import advised
from control.cli.steering import (
    REFUSED,
    api_option,
    as_json_option,
    ask,
    print_json,
    screen,
)
from control.flags.audit import OUTCOMES, Audit, AuditRow
from control.running import load_config
from control.stores.postgres import Database


@click.group
def audit() -> None:
    """Show who changed what, and check that the record is whole.

    \b
    drawbridge audit list --flag app_maintenance --since 2d
    drawbridge audit verify
    """


@audit.command("list")
@click.option("--flag", metavar="NAME", help="Only attempts on this flag.")
@click.option("--actor", metavar="NAME", help="Only attempts of this caller.")
@click.option("--outcome", type=click.Choice(OUTCOMES), help="Only attempts that ended so.")
@click.option(
    "--since",
    callback=times.option(times.moment_or_ago),
    metavar="TIME",
    help="RFC 3339, or a span: 2h, 7d.",
)
@click.option("--limit", type=click.IntRange(1, 200), default=50, show_default=True)
@click.option("--cursor", help="Go on after the page that gave this cursor.")
@as_json_option
@api_option
def list_rows(*, as_json: bool, api: str | None, **terms: Any) -> None:
    """List every attempt to change a flag, newest first: applied, debounced, refused."""
    page = ask(api, lambda control: control.audit(**terms))
    if as_json:
        print_json(page)
        return
    table = Table(box=None, pad_edge=False, header_style="bold")
    for heading in ("seq", "at", "actor", "action", "flag", "outcome", "why"):
        table.add_column(heading, no_wrap=heading != "why")
    for row in page.rows:
        table.add_row(*_cells(row))
    screen().print(table)
    if page.cursor:
        click.echo(f"more: --cursor {page.cursor}")


@audit.command
@as_json_option
def verify(*, as_json: bool) -> None:
    """Compute the whole chain of hashes anew, from PostgreSQL.

    Exit status: 0 it is whole, 1 it is broken (the row and why are told).
    """

    config = load_config(os.environ)

    async def work() -> dict[str, Any]:
        async with Database(config.postgres) as database:
            record = Audit(database)
            found = await record.verify()
            newest = (await record.page(limit=1)).rows
            return {
                "intact": found.intact,
                "rows": found.rows,
                "head": newest[0].hash if newest else None,
                "broken": found.broken,
                "why": found.why,
            }

    with advised(config):
        found = cancelling.run(work())
    if as_json:
        print_json(found)
    elif found["intact"]:
        click.echo(f"The audit is whole: {found['rows']} rows, the newest hash is {found['head']}.")
    if not found["intact"]:
        told = f"the audit is broken at row {found['broken']}: {found['why']}"
        click.echo(f"drawbridge: {told} ({found['rows']} rows before it are intact)", err=True)
        raise SystemExit(REFUSED)


def _cells(row: AuditRow) -> tuple[str, ...]:
    why = "; ".join(text for text in (row.reason, row.detail) if text)
    at = times.stamp(row.at)
    return str(row.seq), at, row.actor, row.action, row.flag or "", row.outcome, why
