"""`drawbridge components`: how everything is."""

from collections.abc import Iterable

import click

from control.cli.status_api import api_option, ask, json_option, short, show, table, words
from control.cli.steering import print_json


@click.command
@click.option("--check", is_flag=True, help="Look now, instead of telling what was seen last.")
@json_option
@api_option
def components(*, check: bool, as_json: bool, api: str | None) -> None:
    """Show every component of the status page, how it is and since when.

    \b
    drawbridge components
    drawbridge components --check        (administrators)

    Exit status: 0 all are operational, 1 one is not (or was refused), 2 usage.
    """
    if check:
        results = ask(api, "POST", "/health-check")["results"]
        if as_json:
            print_json(results)
        else:
            rows = table("component", "found")
            for name, status in results.items():
                rows.add_row(name, words(status))
            show(rows, "no components")
        raise SystemExit(_exit(results.values()))
    found = ask(api, "GET", "/components")["components"]
    if as_json:
        print_json(found)
    else:
        rows = table("id", "component", "status", "since", "last checked", "says")
        for each in found:
            rows.add_row(
                each["id"], each["name"], words(each["status"]), short(each["since"]),
                short(each["last_checked"]), each["source"] or "nobody",
            )  # fmt: skip
        show(rows, "no components")
    raise SystemExit(_exit(each["status"] for each in found))


def _exit(statuses: Iterable[str]) -> int:
    return int(any(status != "operational" for status in statuses))
