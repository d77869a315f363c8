"""`drawbridge migrate`: bring the schema of PostgreSQL up to date."""

import os
from typing import Any

import click
import msgspec

from control import cancelling, migrations
from control.migrations import Migration, MigrationError, Plan
from control.running import load_config
from control.stores import postgres


@click.command()
@click.option("--plan", "only_plan", is_flag=True, help="Only say what would be applied.")
@click.option(
    "--contract",
    is_flag=True,
    help="Apply what instances of the release before cannot live with too; end them first.",
)
@click.option("--quiet", is_flag=True, help="Say nothing unless it fails.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON line.")
def migrate(*, only_plan: bool, contract: bool, quiet: bool, as_json: bool) -> None:
    """Bring the PostgreSQL schema up to date.

    Safe to run at any time and from many places at once: what is applied stays, one runs at a time,
    and the release that runs now goes on. Where that cannot be, nothing is applied without
    --contract.
    """
    url = load_config(os.environ).postgres.direct
    plan = cancelling.run(_planned(url))
    if plan.breaking and not (contract or only_plan):
        raise MigrationError(
            f"{plan.breaking[0]} takes away what running instances need: end them all, then run "
            "`drawbridge migrate --contract`"
        )
    applied = () if only_plan else cancelling.run(migrations.migrate(url))
    if quiet:
        return
    if as_json:
        click.echo(msgspec.json.encode(_report(plan, applied, only_plan=only_plan)).decode())
    elif only_plan:
        _show(plan)
    else:
        for migration in applied:
            click.echo(f"applied  {migration}")
    if not (as_json or applied or (only_plan and plan.pending)):
        click.echo("the schema is up to date")


async def _planned(url: str) -> Plan:
    async with postgres.connection(url) as connection:
        return await migrations.plan(connection, migrations.shipped())


def _report(plan: Plan, applied: tuple[Migration, ...], *, only_plan: bool) -> dict[str, Any]:
    return {
        "version": max((m.version for m in migrations.shipped()), default=0),
        "applied": [str(m) for m in applied],
        "pending": [str(m) for m in plan.pending] if only_plan else [],
        "breaking": [str(m) for m in plan.breaking] if only_plan else [],
    }


def _show(plan: Plan) -> None:
    """Each file, what it means for older releases, and what to do."""
    for migration in plan.pending:
        means = "expands" if not migration.since else f"contracts, since {migration.since:04d}"
        click.echo(f"pending  {migration}.sql  {means}")
    if plan.breaking:
        click.echo(
            f"What runs now cannot live with {', '.join(map(str, plan.breaking))}: end all "
            "instances, then run `drawbridge migrate --contract`."
        )
    elif plan.pending:
        click.echo("What runs now can go on meanwhile: run `drawbridge migrate`, then roll.")
