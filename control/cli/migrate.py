"""`drawbridge migrate`: bring the schemas of PostgreSQL and of the graph up to date."""

import os
from collections.abc import Sequence

import click
import msgspec

from control import cancelling, migrations
from control.config import Config, GraphSection
from control.errors import StoreUnavailable
from control.migrations import Migration
from control.running import load_config
from control.stores import postgres


@click.command()
@click.option("--plan", is_flag=True, help="Only say what would be applied.")
@click.option("--quiet", is_flag=True, help="Say nothing unless it fails.")
@click.option("--postgres-only", is_flag=True, help="Leave the graph to its first use.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON line.")
def migrate(*, plan: bool, quiet: bool, postgres_only: bool, as_json: bool) -> None:
    """Bring the schemas of PostgreSQL and of the graph up to date.

    Safe to run at any time and from many places at once: what is applied stays. Where Neo4j is
    away its schema is brought up to date before it is first written to.
    """
    config = load_config(os.environ)
    found = cancelling.run(_of_postgres(config, plan=plan))
    of_graph: tuple[Migration, ...] = ()
    away = ""
    if not postgres_only:
        try:
            of_graph = cancelling.run(_of_graph(config.graph, plan=plan))
        except StoreUnavailable as error:
            away = str(error)
    if quiet:
        return
    if as_json:
        click.echo(msgspec.json.encode(_report(found, of_graph, plan=plan, away=away)).decode())
        return
    for migration, where in (*((m, "") for m in found), *((m, " (graph)") for m in of_graph)):
        click.echo(f"{'pending' if plan else 'applied'}  {migration}{where}")
    if away:
        click.echo(f"graph not looked at: {away}", err=True)
    if not found and not of_graph:
        click.echo("the schema is up to date")


async def _of_postgres(config: Config, *, plan: bool) -> tuple[Migration, ...]:
    if not plan:
        return await migrations.migrate(config.postgres.url)
    async with postgres.connection(config.postgres.url) as connection:
        return await migrations.pending(connection, migrations.shipped())


async def _of_graph(section: GraphSection, *, plan: bool) -> tuple[Migration, ...]:
    from control import graph_migrations  # noqa: PLC0415 - the driver is slow to import
    from control.stores.graph import Graph  # noqa: PLC0415

    async with Graph(section, retry_s=0) as graph:
        if plan:
            return await graph_migrations.pending(graph, graph_migrations.shipped())
        return await graph_migrations.migrate(graph)


def _report(
    found: Sequence[Migration], of_graph: Sequence[Migration], *, plan: bool, away: str
) -> dict[str, object]:
    done, due = ("applied", "pending") if not plan else ("pending", "applied")
    return {
        "version": max((m.version for m in migrations.shipped()), default=0),
        done: [str(m) for m in found],
        due: [],
        "graph": {done: [str(m) for m in of_graph], due: [], "error": away or None},
    }
