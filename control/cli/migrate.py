"""`drawbridge migrate`: bring the schemas of PostgreSQL and of the graph up to date."""

import os
from collections.abc import Sequence

import click
import msgspec

from control import cancelling, migrations
from control.cli.away import advised
from control.config import GraphSection
from control.errors import StoreUnavailable
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
@click.option("--postgres-only", is_flag=True, help="Leave the graph to its first use.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON line.")
def migrate(
    *, only_plan: bool, contract: bool, quiet: bool, postgres_only: bool, as_json: bool
) -> None:
    """Bring the schemas of PostgreSQL and of the graph up to date.

    Safe to run at any time and from many places at once: what is applied stays, and the release
    that runs now goes on. Where that cannot be, nothing is applied without --contract. Where Neo4j
    is away its schema is brought up to date before it is first written to.
    """
    config = load_config(os.environ)
    with advised(config):
        plan = cancelling.run(_planned(config.postgres.direct))
    if plan.breaking and not (contract or only_plan):
        raise MigrationError(
            f"{plan.breaking[0]} takes away what running instances need: end them all, then run "
            "`drawbridge migrate --contract`"
        )
    found = plan.pending
    if not only_plan:
        found = cancelling.run(migrations.migrate(config.postgres.direct))
    of_graph: tuple[Migration, ...] = ()
    away = ""
    if not postgres_only:
        try:
            of_graph = cancelling.run(_of_graph(config.graph, plan=only_plan))
        except StoreUnavailable as error:
            away = str(error)
    if quiet:
        return
    if as_json:
        report = _report(found, of_graph, only_plan=only_plan, away=away)
        report["breaking"] = [str(m) for m in plan.breaking] if only_plan else []
        click.echo(msgspec.json.encode(report).decode())
        return
    _show(found, of_graph, only_plan=only_plan)
    if away:
        click.echo(f"graph not looked at: {away}", err=True)
    if only_plan and found:
        click.echo(_advice(plan))


async def _planned(url: str) -> Plan:
    async with postgres.connection(url) as connection:
        return await migrations.plan(connection, migrations.shipped())


async def _of_graph(section: GraphSection, *, plan: bool) -> tuple[Migration, ...]:
    from control import graph_migrations  # noqa: PLC0415 - the driver is slow to import
    from control.stores.graph import Graph  # noqa: PLC0415

    async with Graph(section, retry_s=0) as graph:
        if plan:
            return await graph_migrations.pending(graph, graph_migrations.shipped())
        return await graph_migrations.migrate(graph)


def _report(
    found: Sequence[Migration], of_graph: Sequence[Migration], *, only_plan: bool, away: str
) -> dict[str, object]:
    done, due = ("applied", "pending") if not only_plan else ("pending", "applied")
    return {
        "version": max((m.version for m in migrations.shipped()), default=0),
        done: [str(m) for m in found],
        due: [],
        "graph": {done: [str(m) for m in of_graph], due: [], "error": away or None},
    }


def _show(found: Sequence[Migration], of_graph: Sequence[Migration], *, only_plan: bool) -> None:
    """Each file; of one that is pending, what it means for older releases too."""
    for migration in found:
        means = f"contracts, since {migration.since:04d}" if migration.since else "expands"
        click.echo(f"pending  {migration}  {means}" if only_plan else f"applied  {migration}")
    for migration in of_graph:
        click.echo(f"{'pending' if only_plan else 'applied'}  {migration} (graph)")
    if not found and not of_graph:
        click.echo("the schema is up to date")


def _advice(plan: Plan) -> str:
    if plan.breaking:
        return (
            f"What runs now cannot live with {', '.join(map(str, plan.breaking))}: end all "
            "instances, then run `drawbridge migrate --contract`."
        )
    return "What runs now can go on meanwhile: run `drawbridge migrate`, then roll."
