"""`drawbridge jobs`: submit, list, show, cancel and run again."""

import json
import os
import sys
from collections.abc import Awaitable, Callable, Sequence
from typing import Any, TypeVar

import click
from rich.console import Console
from rich.table import Table

from control import cancelling
from control.cli import api_url, times
from control.cli import follow as following
from control.cli.api_client import PATIENCE_S, Api, Refused
from control.cli.times import span
from control.clock import iso
from control.running import load_config

T = TypeVar("T")
_STATES = ("queued", "scheduled", "running", "completed", "failed", "cancelled")
_ENDED = _STATES[3:]
_since = times.option(times.moment_or_ago)
_PIPED_WIDTH = 160
_api = api_url.option("The API (default: DRAWBRIDGE_API).")
_json = click.option("--json", "as_json", is_flag=True, help="Print one line of JSON.")


@click.group
def jobs() -> None:
    """Submit, list, show, cancel and rerun jobs. Exit status: 0 done, 1 refused, 2 usage."""


def _payload(_ctx: click.Context, _param: click.Parameter, value: str | None) -> Any:
    """JSON, or with an @ the file that holds it."""
    if value is None:
        return None
    try:
        if value.startswith("@"):
            with click.open_file(value[1:], encoding="utf-8") as file:
                value = file.read()
        return json.loads(value)
    except (OSError, ValueError) as error:
        raise click.BadParameter(str(error)) from None


@jobs.command
@click.argument("kind")
@click.option(
    "--payload", metavar="JSON|@FILE", callback=_payload, help="What the job gets; @- reads stdin."
)
@click.option("--follow", is_flag=True, help="Stay until it has ended, and print its result.")
@click.option("--priority", help="high, normal or low, or 0 to 9 (9 is the most urgent).")
@click.option("--run-at", metavar="TIME", help="Not before this RFC 3339 time.")
@click.option("--timeout", type=float, metavar="S", help="Seconds after which it fails.")
@click.option("--max-attempts", type=int, metavar="N", help="How often it may run at most.")
@click.option("--callback-url", metavar="URL", help="Is told, signed, how it ended.")
@click.option(
    "--unique", metavar="TEXT", help="While a job with this key has not ended, it is the answer."
)
@click.option("--key", metavar="TEXT", help="Idempotency-Key: sent again, it is the same job.")
@_json
@_api
def submit(
    kind: str,
    *,
    payload: Any,
    follow: bool,
    key: str | None,
    as_json: bool,
    api: str | None,
    **terms: Any,
) -> None:
    """Submit a job of any KIND that the service knows.

    With --follow it prints the result, one line of JSON, once the job has completed; the exit
    status is 1 if it failed or was cancelled, 3 if it timed out.
    """
    asked = {"timeout_s" if name == "timeout" else name: value for name, value in terms.items()}
    if isinstance(asked["priority"], str) and asked["priority"].isdecimal():
        asked["priority"] = int(asked["priority"][:2])
    document = {name: value for name, value in asked.items() if value is not None}
    if payload is not None:
        document["payload"] = payload
    receipt = _ask(api, lambda client: client.submit_job(kind, document, key=key))
    run_id = receipt["run_id"]
    if not follow:
        told = f"{run_id} {receipt['status']}\n  follow  drawbridge jobs show {run_id} --follow"
        click.echo(json.dumps(receipt) if as_json else told)
        return
    record = _followed(api, run_id)
    if record["status"] == "completed":
        result = _ask(api, lambda client: client.result(run_id, patience_s=PATIENCE_S))
        click.echo(json.dumps(result))
    else:
        click.echo(json.dumps(record) if as_json else following.ending(record, None))
    raise SystemExit(following.exit_status(record))


@jobs.command("list")
@click.option("--status", type=click.Choice(_STATES), help="Only jobs in this state.")
@click.option("--dead", is_flag=True, help="Only jobs that failed: --status failed.")
@click.option("--kind", help="Only jobs of this kind.")
@click.option("--limit", type=click.IntRange(1, 200), default=50, show_default=True)
@click.option("--cursor", help="Go on after the page that gave this cursor.")
@_json
@_api
def list_jobs(
    *, dead: bool, limit: int, as_json: bool, api: str | None, **only: str | None
) -> None:
    """List jobs, newest first."""
    if dead:
        only["status"] = "failed"
    query = {"limit": str(limit)} | {name: value for name, value in only.items() if value}
    page = _ask(api, lambda client: client.jobs(query))
    if as_json:
        click.echo(json.dumps(page))
        return
    table = _table("run id", "kind", "status", "submitted", "attempt")
    table.add_column("progress", no_wrap=True, ratio=1)  # gives way where the line is short
    for job in page["jobs"]:
        table.add_row(
            job["run_id"],
            job["kind"],
            job["status"],
            _short(job["submitted_at"]),
            f"{job['attempt']}/{job['max_attempts']}",
            _remark(job),
        )
    _print(table)
    if page["cursor"]:
        click.echo(f"more: --cursor {page['cursor']}")


@jobs.command
@click.option("--kind", help="Only jobs of this kind.")
@click.option("--status", type=click.Choice(_ENDED), help="Only jobs that ended so.")
@click.option("--correlation-id", metavar="ID", help="Only jobs of this request.")
@click.option("--since", callback=_since, metavar="TIME", help="RFC 3339, or a span: 2h, 7d.")
@click.option("--until", callback=_since, metavar="TIME", help="The same.")
@click.option("--q", metavar="WORDS", help="Of the error, the submitter, the worker, the request.")
@click.option("--limit", type=click.IntRange(1, 200), default=50, show_default=True)
@click.option("--cursor", help="Go on after the page that gave this cursor.")
@_json
@_api
def archive(*, limit: int, as_json: bool, api: str | None, **only: Any) -> None:
    """Find finished jobs, also long after Redis has forgotten them; the last one to end first."""
    moments = {name: iso(only.pop(name)) for name in ("since", "until") if only[name] is not None}
    query = {"limit": str(limit)} | {name: text for name, text in only.items() if text} | moments
    page = _ask(api, lambda client: client.archive(query))
    if as_json:
        click.echo(json.dumps(page))
        return
    table = _table("run id", "kind", "status", "ended", "attempt")
    table.add_column("error", no_wrap=True, ratio=1)
    for job in page["jobs"]:
        attempts = f"{job['attempt']}/{job['max_attempts']}"
        ended = _short(job["finished_at"])
        error = (job["error"] or {}).get("message", "")
        table.add_row(job["run_id"], job["kind"], job["status"], ended, attempts, error)
    _print(table)
    if page["cursor"]:
        click.echo(f"more: --cursor {page['cursor']}")


@jobs.command
@click.argument("run_id")
@click.option("--follow", is_flag=True, help="Stay until it has ended, and show how it goes.")
@_json
@_api
def show(run_id: str, follow: bool, as_json: bool, api: str | None) -> None:
    """Show a job. With --follow the exit status is 1 if it failed, 3 if it timed out."""
    record = _followed(api, run_id) if follow else _ask(api, lambda client: client.job(run_id))
    click.echo(json.dumps(record) if as_json else _shown(record))
    if follow:
        raise SystemExit(following.exit_status(record))


@jobs.command
@_json
@_api
def schedules(as_json: bool, api: str | None) -> None:
    """List the periodic kinds: when each runs next, and when it ran last."""
    found = _ask(api, lambda client: client.schedules())
    if as_json:
        click.echo(json.dumps(found))
        return
    table = _table("kind", "runs", "misfire", "next run", "last run", "last run id")
    for each in found["schedules"]:
        every_s = each["every_s"]
        runs = (
            f"{each['cron']}  {each['timezone']}" if every_s is None else f"every {span(every_s)}"
        )
        moments = (_short(each["next_run_at"]), _short(each["last_run_at"]))
        table.add_row(each["kind"], runs, each["misfire"], *moments, each["last_run_id"] or "")
    _print(table)


@jobs.command
@click.argument("run_id")
@_json
@_api
def cancel(run_id: str, as_json: bool, api: str | None) -> None:
    """Cancel a job: at once if it waits, within a second if it runs."""
    record = _ask(api, lambda client: client.cancel(run_id))
    click.echo(json.dumps(record) if as_json else f"{run_id} {record['status']}")


@jobs.command
@click.argument("run_ids", metavar="RUN_ID…", nargs=-1)
@click.option("--all", "every", is_flag=True, help="Every job that failed, of --kind if given.")
@click.option("--kind", help="With --all: only jobs of this kind.")
@_json
@_api
def rerun(
    run_ids: tuple[str, ...], *, every: bool, kind: str | None, as_json: bool, api: str | None
) -> None:
    """Run failed jobs again, each under its own id and with all its attempts anew.

    The exit status is 1 where one of them could not be.
    """
    if bool(run_ids) is every or (kind and not every):
        raise click.UsageError("name jobs, or give --all, which --kind may narrow")
    done, refused = _ask(api, lambda client: _rerun(client, run_ids, kind))
    if as_json:
        click.echo(json.dumps({"rerun": done, "refused": refused}))
    else:
        for run_id in done:
            click.echo(f"{run_id} queued")
        for each in refused:
            click.echo(f"{each['run_id']} {each['detail']}", err=True)
    raise SystemExit(1 if refused else 0)


async def _rerun(
    client: Api, named: Sequence[str], kind: str | None
) -> tuple[list[str], list[dict[str, str]]]:
    """Rerun those that are named, or all that failed: which were, and which were refused."""
    run_ids = list(named) or [run_id async for run_id in client.failed_jobs(kind)]
    done, refused = [], []
    for run_id in run_ids:
        try:
            done.append((await client.rerun(run_id))["run_id"])
        except Refused as error:
            if error.status >= 500:
                raise
            refused.append({"run_id": run_id, "detail": str(error)})
    return done, refused


def _ask(api: str | None, question: Callable[[Api], Awaitable[T]]) -> T:
    """One conversation with the API."""

    async def ask() -> T:
        async with Api.of(load_config(os.environ), api) as client:
            return await question(client)

    return cancelling.run(ask())


def _followed(api: str | None, run_id: str) -> dict[str, Any]:
    """The job's record once it has ended, its course shown until then. Ctrl-C leaves it alone."""
    console = Console(stderr=True)
    try:
        return _ask(api, lambda client: following.to_the_end(client, run_id, console))
    except KeyboardInterrupt:
        click.echo(f"The job goes on. Cancel it: drawbridge jobs cancel {run_id}", err=True)
        raise SystemExit(following.INTERRUPTED) from None


def _shown(record: dict[str, Any]) -> str:
    """A record as lines of name and value, without what is not known."""
    rows = {name: value for name, value in record.items() if value is not None and name != "links"}
    rows["progress"] = following.figures(record.get("progress") or {})
    if error := record.get("error"):
        rows["error"] = f"{error['class']}: {error['message']}"
    width = max(map(len, rows))
    return "\n".join(f"{name:{width}}  {value}" for name, value in rows.items() if value != "")


def _table(*titles: str) -> Table:
    table = Table(box=None, pad_edge=False, expand=True)
    for title in titles:
        table.add_column(title, no_wrap=True)
    return table


def _print(table: Table) -> None:
    width = None if sys.stdout.isatty() else _PIPED_WIDTH
    Console(width=width, markup=False).print(table)


def _short(moment: str | None) -> str:
    """A moment of the API to the second."""
    return (moment or "")[:19].replace("T", " ")


def _remark(job: dict[str, Any]) -> str:
    if error := job.get("error"):
        return str(error["message"])
    return following.figures(job.get("progress") or {})
