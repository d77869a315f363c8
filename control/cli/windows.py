"""`drawbridge window`: plan maintenance, call it off, end it early, let it take longer."""

from datetime import datetime, timedelta

import click

from control.cli import times
from control.cli.status_api import (
    affects_option,
    api_option,
    ask,
    json_option,
    short,
    show,
    table,
    tell,
    words,
)
from control.cli.steering import print_json
from control.clock import SystemClock, iso, seconds

_PATH = "/maintenance"


@click.group
def window() -> None:
    """Plan maintenance; needs an operator's token.

    \b
    drawbridge window create "Database upgrade" --start 2026-12-01T22:00:00Z --for 2h \\
        -c database --raise-bridge
    drawbridge window create "Backups" --for 30m --recurrence "FREQ=WEEKLY;BYDAY=SU" \\
        --timezone Europe/Berlin --start 2026-12-06T03:00:00+01:00
    drawbridge window extend ID 30m
    drawbridge window finish ID

    Exit status: 0 done, 1 refused, 2 usage.
    """


@window.command
@click.argument("title")
@click.option("--description", default="", metavar="MARKDOWN", help="What will be done.")
@click.option("--start", callback=times.option(times.moment), metavar="RFC3339",
              help="When it begins [default: now].")  # fmt: skip
@click.option("--until", callback=times.option(times.moment), metavar="RFC3339",
              help="When it ends.")  # fmt: skip
@click.option("--for", "for_s", callback=times.option(seconds), metavar="SPAN",
              help="How long it takes: 20m, 2h.")  # fmt: skip
@affects_option
@click.option("--raise-bridge", is_flag=True,
              help="Turn maintenance mode on at its start and off at its end.")  # fmt: skip
@click.option("--recurrence", metavar="RRULE", help="Again and again: FREQ=WEEKLY;BYDAY=SU.")
@click.option("--timezone", default="UTC", show_default=True,
              help="On whose wall clock it recurs.")  # fmt: skip
@json_option
@api_option
def create(
    *,
    title: str,
    description: str,
    start: datetime | None,
    until: datetime | None,
    for_s: float | None,
    components: tuple[str, ...],
    raise_bridge: bool,
    recurrence: str | None,
    timezone: str,
    as_json: bool,
    api: str | None,
) -> None:
    """Make a window."""
    if (until is None) == (for_s is None):
        raise click.UsageError("give --until or --for")
    ends = until or (start or SystemClock().now()) + timedelta(seconds=for_s or 0)
    body = {
        "title": title, "description": description,
        "scheduled_start": iso(start) if start else None, "scheduled_end": iso(ends),
        "affected_components": list(components), "raise_bridge": raise_bridge,
        "recurrence": recurrence, "timezone": timezone,
    }  # fmt: skip
    found = ask(api, "POST", _PATH, body)
    span = f"{short(found['scheduled_start'])} to {short(found['scheduled_end'])} UTC"
    again = f", series {found['series']}" if found["series"] else ""
    tell(found, f"{found['id']} is {words(found['status'])}: {span}{again}.", as_json=as_json)


@window.command
@click.argument("id_", metavar="ID")
@click.argument("longer", metavar="SPAN", callback=times.option(seconds))
@json_option
@api_option
def extend(*, id_: str, longer: float, as_json: bool, api: str | None) -> None:
    """Let a window take longer, by 30m or 1h."""
    found = ask(api, "POST", f"{_PATH}/{id_}/extend", {"minutes": longer / 60})
    tell(found, f"{id_} ends at {short(found['scheduled_end'])} UTC.", as_json=as_json)


@window.command
@click.argument("id_", metavar="ID")
@json_option
@api_option
def finish(*, id_: str, as_json: bool, api: str | None) -> None:
    """End a window in progress now; a bridge that it raised comes down."""
    found = ask(api, "POST", f"{_PATH}/{id_}/finish")
    tell(found, f"{id_} is {words(found['status'])}.", as_json=as_json)


@window.command
@click.argument("id_", metavar="ID")
@click.option("--series", is_flag=True, help="ID is a series: call off all that is to come.")
@json_option
@api_option
def cancel(*, id_: str, series: bool, as_json: bool, api: str | None) -> None:
    """Call off a window that has not begun."""
    if series:
        found = ask(api, "POST", f"{_PATH}/series/{id_}/cancel")
        count = len(found["maintenance_windows"])
        tell(found, f"{count} windows of {id_} are called off.", as_json=as_json)
        return
    found = ask(api, "POST", f"{_PATH}/{id_}/cancel")
    tell(found, f"{id_} is {words(found['status'])}.", as_json=as_json)


@window.command("list")
@click.option("--all", "everything", is_flag=True, help="Also those that are over.")
@json_option
@api_option
def list_windows(*, everything: bool, as_json: bool, api: str | None) -> None:
    """List windows by their start: those to come and those in progress."""
    found = ask(api, "GET", _PATH, detail="true")["maintenance_windows"]
    if not everything:
        found = [each for each in found if each["status"] in ("scheduled", "in_progress")]
    if as_json:
        print_json(found)
        return
    rows = table("id", "start", "end", "status", "bridge", "components", "title")
    for each in found:
        stands = "missed" if each["missed"] else words(each["status"])
        rows.add_row(
            each["id"], short(each["scheduled_start"]), short(each["scheduled_end"]), stands,
            "raised" if each["raise_bridge"] else "", ", ".join(each["affected_components"]),
            each["title"],
        )  # fmt: skip
    show(rows, "no maintenance is planned")
