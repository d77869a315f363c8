"""`drawbridge optimize`: submit a model or name a network, and follow it to its optimum."""

import json
import os
from collections.abc import Awaitable, Callable
from functools import partial
from pathlib import Path
from typing import Any

import click
from rich.console import Console

from control import cancelling
from control.cli import api_url
from control.cli import follow as following
from control.cli.api_client import PATIENCE_S, Api, media_of
from control.running import load_config

Submit = Callable[[Api], Awaitable[dict[str, Any]]]
_OUT = {".csv": "text/csv", ".graphml": "application/graphml+xml", ".svg": "image/svg+xml"}
_OPTIONS = ("time_limit_s", "mip_rel_gap", "threads", "seed")


def _model(_ctx: click.Context, _param: click.Parameter, value: Path | None) -> Path | None:
    if value is None:
        return None
    try:
        media_of(value)
    except ValueError as error:
        raise click.BadParameter(f"{value.name} {error}") from None
    return value


@click.command
@click.argument(
    "model",
    metavar="[FILE]",
    required=False,
    type=click.Path(exists=True, dir_okay=False, readable=True, path_type=Path),
    callback=_model,
)
@click.option(
    "--network", metavar="NAME", help="Minimum-cost flow over this stored network instead."
)
@click.option("--write-back", is_flag=True, help="Write the flow onto the network's relationships.")
@click.option("--follow", is_flag=True, help="Stay until it is solved, and show how it goes.")
@click.option("--json", "as_json", is_flag=True, help="Print one line of JSON on stdout.")
@click.option(
    "--out",
    type=click.Path(dir_okay=False, writable=True, path_type=Path),
    help="Write the solution to this CSV file; implies --follow. That of a network also as "
    ".graphml or, as a picture of a small one, .svg.",
)
@click.option("--time-limit", type=float, metavar="S", help="Seconds of solving; the best is kept.")
@click.option("--gap", type=float, help="Relative gap at which an integer solution is good enough.")
@click.option("--threads", type=int, help="Threads of the solver.")
@click.option("--seed", type=int, help="Seed of the solver.")
@click.option("--priority", help="high, normal or low, or 0 to 9 (9 is the most urgent).")
@click.option("--timeout", type=float, metavar="S", help="Seconds after which the job fails.")
@click.option("--callback-url", metavar="URL", help="Is told, signed, how the job ended.")
@api_url.option("The API (default: DRAWBRIDGE_API, the running stack).")
def optimize(
    *,
    model: Path | None,
    network: str | None,
    write_back: bool,
    follow: bool,
    as_json: bool,
    out: Path | None,
    api: str | None,
    **terms: Any,
) -> None:
    """Submit a model: FILE.mps or FILE.lp, either may be gzipped (.gz); or with --network have the
    best flow over a stored network computed.

    Without --follow it prints the run id and where to look. With --follow and --json it prints the
    result; the solution is left out where --out takes it.

    Exit status: 0 completed, 1 failed, cancelled or refused, 2 usage, 3 timed out.
    """
    config = load_config(os.environ)
    client = Api.of(config, api)
    send = _sending(model, network, _given(terms), write_back=write_back)
    if follow or out is not None:
        status = _watch(client, send, as_json=as_json, out=out)
        raise SystemExit(status)
    receipt = cancelling.run(_submit(client, send))
    click.echo(json.dumps(receipt) if as_json else _told(client, receipt))


def _sending(
    model: Path | None, network: str | None, terms: dict[str, Any], *, write_back: bool
) -> Submit:
    """What submits the one of the two that is given. Raises :class:`click.UsageError`."""
    if (model is None) == (network is None):
        raise click.UsageError("give a FILE or --network, one of the two")
    if model is not None:
        if write_back:
            raise click.UsageError("--write-back is for --network")
        query = {name: str(value) for name, value in terms.items()}
        return lambda client: client.submit(model, query)
    document: dict[str, Any] = {"problem": {"format": "network", "network": network}}
    document["options"] = {name: terms.pop(name) for name in _OPTIONS if name in terms}
    if write_back:
        document["write_back"] = True
    if str(terms.get("priority", "")).isdecimal():
        terms["priority"] = int(terms["priority"])
    return partial(Api.submit_network, document={**document, **terms})


async def _submit(client: Api, send: Submit) -> dict[str, Any]:
    async with client:
        return await send(client)


def _watch(client: Api, send: Submit, *, as_json: bool, out: Path | None) -> int:
    """Submit, follow, print the end; the exit status. Ctrl-C leaves the job to itself."""
    console = Console(stderr=True)
    submitted: list[str] = []

    async def watch() -> int:
        async with client:
            receipt = await send(client)
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
        media = _OUT.get(out.suffix.lower(), "text/csv")
        await client.save_result(run_id, out, media, patience_s=PATIENCE_S)
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


def _given(terms: dict[str, Any]) -> dict[str, Any]:
    """The options that were given, under the names that the API has for them."""
    names = {"time_limit": "time_limit_s", "gap": "mip_rel_gap", "timeout": "timeout_s"}
    return {names.get(key, key): value for key, value in terms.items() if value is not None}
