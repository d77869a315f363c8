"""`drawbridge ingest`: upload the files of a network, and follow it into the graph."""

import json
import os
from pathlib import Path
from typing import Any

import click
from rich.console import Console

from control import cancelling
from control.cli import api_url
from control.cli import follow as following
from control.cli.api_client import PATIENCE_S, Api
from control.cli.network_files import NetworkFile, recognised
from control.errors import InvalidInput
from control.networks.network import check_name
from control.running import load_config


def _files(_ctx: click.Context, _param: click.Parameter, value: tuple[Path, ...]) -> Any:
    try:
        return [recognised(path) for path in value]
    except ValueError as error:
        raise click.BadParameter(str(error)) from None


def _name(_ctx: click.Context, _param: click.Parameter, value: str) -> str:
    try:
        return check_name(value)
    except InvalidInput as error:
        raise click.BadParameter(str(error).removeprefix("name: ")) from None


@click.command
@click.argument(
    "files",
    metavar="FILE…",
    nargs=-1,
    required=True,
    type=click.Path(exists=True, dir_okay=False, readable=True, path_type=Path),
    callback=_files,
)
@click.option("--name", required=True, callback=_name, help="The network that they become.")
@click.option("--implied-nodes", is_flag=True, help="Edges may name nodes that no file declares.")
@click.option("--follow", is_flag=True, help="Stay until it is stored, and show how it goes.")
@click.option("--priority", help="high, normal or low, or 0 to 9 (9 is the most urgent).")
@click.option("--timeout", type=float, metavar="S", help="Seconds after which the job fails.")
@click.option("--key", metavar="TEXT", help="Idempotency-Key: sent again, it is the same job.")
@click.option("--callback-url", metavar="URL", help="Is told, signed, how the job ended.")
@click.option("--json", "as_json", is_flag=True, help="Print one line of JSON on stdout.")
@api_url.option("The API (default: DRAWBRIDGE_API, the running stack).")
def ingest(
    files: list[NetworkFile],
    *,
    name: str,
    implied_nodes: bool,
    follow: bool,
    key: str | None,
    as_json: bool,
    api: str | None,
    timeout: float | None,
    **terms: str | None,
) -> None:
    """Upload a network: CSV tables of nodes (id, supply, …) and edges (source, target, cost,
    capacity, lower, …), NDJSON, or a DIMACS file (p min); each may be gzipped.

    What a file is shows in its first line. A network of that name is replaced once all is stored;
    the same files again change nothing.

    Exit status: 0 done, 1 failed, cancelled or refused, 2 usage, 3 timed out.
    """
    client = Api.of(load_config(os.environ), api)
    query = {term: value for term, value in terms.items() if value is not None} | {"name": name}
    if timeout is not None:
        query["timeout_s"] = str(timeout)
    if implied_nodes:
        query["implied_nodes"] = "true"
    receipt = cancelling.run(_upload(client, files, query, key))
    if not follow:
        click.echo(json.dumps(receipt) if as_json else _told(receipt))
        return
    try:
        raise SystemExit(cancelling.run(_watch(client, receipt["run_id"], as_json=as_json)))
    except KeyboardInterrupt:
        raise SystemExit(following.left(receipt["run_id"])) from None


async def _upload(
    client: Api, files: list[NetworkFile], query: dict[str, str], key: str | None
) -> dict[str, Any]:
    size = sum(file.path.stat().st_size for file in files)
    with following.Display(Console(stderr=True)) as display:

        def sent(count: int) -> None:
            display.share("uploading", count, size)

        async with client:
            return await client.ingest(files, query, key=key, sent=sent)


async def _watch(client: Api, run_id: str, *, as_json: bool) -> int:
    async with client:
        record = await following.to_the_end(client, run_id, Console(stderr=True))
        result = None
        if record["status"] == "completed":
            result = await client.result(run_id, patience_s=PATIENCE_S)
    if as_json:
        click.echo(json.dumps(record if result is None else result))
    elif result is not None:
        click.echo(_stored(result))
    else:
        click.echo(following.ending(record, None))
    bad = (record.get("progress") or {}).get("bad_rows", [])
    for row in [] if as_json else bad:
        click.echo(f"{row['file']}:{row['line']}: {row['reason']}", err=True)
    return following.exit_status(record)


def _stored(result: dict[str, Any]) -> str:
    words = {"unchanged": "is stored already", "superseded": "was replaced by a later upload"}
    return (
        f"{result['network']} {words.get(result['outcome'], 'is stored')} · "
        f"{result['nodes']:,d} nodes · {result['edges']:,d} edges · "
        f"supply {result['total_supply']:.10g} · demand {result['total_demand']:.10g}"
    )


def _told(receipt: dict[str, Any]) -> str:
    run_id = receipt["run_id"]
    return f"{run_id} {receipt['status']}\n  follow  drawbridge jobs show {run_id} --follow"
