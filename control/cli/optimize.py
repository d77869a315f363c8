"""`drawbridge optimize`: submit a model, and follow it to its optimum."""

import json
import os
from pathlib import Path
from typing import Any

import click
from rich.console import Console

from control import cancelling
from control.cli import follow as following
from control.cli.api_client import PATIENCE_S, Api, media_of
from control.running import load_config


def _model(_ctx: click.Context, _param: click.Parameter, value: Path) -> Path:
    try:
        media_of(value)
    except ValueError as error:
        raise click.BadParameter(f"{value.name} {error}") from None
    return value


@click.command
@click.argument(
    "model",
    metavar="FILE",
    type=click.Path(exists=True, dir_okay=False, readable=True, path_type=Path),
    callback=_model,
)
@click.option("--follow", is_flag=True, help="Stay until it is solved, and show how it goes.")
@click.option("--json", "as_json", is_flag=True, help="Print one line of JSON on stdout.")
@click.option(
    "--out",
    type=click.Path(dir_okay=False, writable=True, path_type=Path),
    help="Write the solution to this CSV file; implies --follow.",
)
@click.option("--time-limit", type=float, metavar="S", help="Seconds of solving; the best is kept.")
@click.option("--gap", type=float, help="Relative gap at which an integer solution is good enough.")
@click.option("--threads", type=int, help="Threads of the solver.")
@click.option("--seed", type=int, help="Seed of the solver.")
@click.option("--priority", help="high, normal or low, or 0 to 9 (9 is the most urgent).")
@click.option("--timeout", type=float, metavar="S", help="Seconds after which the job fails.")
@click.option("--callback-url", metavar="URL", help="Is told, signed, how the job ended.")
@click.option("--api", metavar="URL", help="The API (default: DRAWBRIDGE_API, the running stack).")
def optimize(
    model: Path, follow: bool, as_json: bool, out: Path | None, api: str | None, **terms: Any
) -> None:
    """Submit a model: FILE.mps or FILE.lp, either may be gzipped (.gz).

    Without --follow it prints the run id and where to look. With --follow and --json it prints the
    result; the solution is left out where --out takes it.

    Exit status: 0 completed, 1 failed, cancelled or refused, 2 usage, 3 timed out.
    """
    config = load_config(os.environ)
    client = Api.of(config, api)
    asked = _query(terms)
    if follow or out is not None:
        status = _watch(client, model, asked, as_json=as_json, out=out)
        raise SystemExit(status)
    receipt = cancelling.run(_submit(client, model, asked))
    click.echo(json.dumps(receipt) if as_json else _told(client, receipt))


async def _submit(client: Api, model: Path, terms: dict[str, str]) -> dict[str, Any]:
    async with client:
        return await client.submit(model, terms)


def _watch(
    client: Api, model: Path, terms: dict[str, str], *, as_json: bool, out: Path | None
) -> int:
    """Submit, follow, print the end; the exit status. Ctrl-C leaves the job to itself."""
    console = Console(stderr=True)
    submitted: list[str] = []

    async def watch() -> int:
        async with client:
            receipt = await client.submit(model, terms)
            submitted.append(receipt["run_id"])
            record = await following.to_the_end(client, receipt["run_id"], console)
            result = await _result(client, record, out)
            if as_json:
                click.echo(json.dumps(record if result is None else _line(result, out)))
            else:
                click.echo(following.ending(record, result))
            return following.exit_status(record)

    try:
        return cancelling.run(watch())
    except KeyboardInterrupt:
        return following.left(submitted[0]) if submitted else following.INTERRUPTED


async def _result(client: Api, record: dict[str, Any], out: Path | None) -> dict[str, Any] | None:
    """What the job returned, if it completed; its solution goes to ``out`` as well."""
    if record["status"] != "completed":
        return None
    run_id = record["run_id"]
    result = await client.result(run_id, patience_s=PATIENCE_S)
    if out is not None:
        await client.save_csv(run_id, out, patience_s=PATIENCE_S)
    return result


def _line(result: dict[str, Any], out: Path | None) -> dict[str, Any]:
    if out is None:
        return result
    return {name: value for name, value in result.items() if name != "solution"}


def _told(client: Api, receipt: dict[str, Any]) -> str:
    links = receipt["links"]
    return (
        f"{receipt['run_id']} {receipt['status']}\n"
        f"  status  {client.url}{links['status']}\n"
        f"  result  {client.url}{links['result']}\n"
        f"  follow  drawbridge jobs show {receipt['run_id']} --follow"
    )


def _query(terms: dict[str, Any]) -> dict[str, str]:
    """The options that were given, under the names that the API has for them."""
    names = {"time_limit": "time_limit_s", "gap": "mip_rel_gap", "timeout": "timeout_s"}
    return {names.get(key, key): str(value) for key, value in terms.items() if value is not None}
