"""`drawbridge incident`: open one, say more on it, resolve it, list them."""

from datetime import datetime, timedelta
from typing import Any

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

_STATUSES = ("investigating", "identified", "monitoring", "resolved")
_SEVERITIES = ("minor", "major", "critical")
_severity = click.option("--severity", type=click.Choice(_SEVERITIES), help="How bad it is.")
_eta = click.option(
    "--eta", callback=times.option(times.moment), metavar="RFC3339",
    help="When it should be over.",
)  # fmt: skip
_next = click.option(
    "--next-update", "next_s", callback=times.option(seconds), metavar="SPAN",
    help="In how long more will be said: 30m. It shows as overdue afterwards.",
)  # fmt: skip


@click.group
def incident() -> None:
    """Tell of incidents on the status page; needs an administrator's token.

    \b
    drawbridge incident create "Slow answers" --severity major -c api --next-update 30m
    drawbridge incident update ID "It is the cache." --status identified
    drawbridge incident resolve ID --root-cause "A full cache." --resolution "It was emptied."
    drawbridge incident list --drafts

    Exit status: 0 done, 1 refused, 2 usage.
    """


@incident.command
@click.argument("title")
@click.option("--description", default="", metavar="MARKDOWN", help="What is known.")
@_severity
@affects_option
@_eta
@_next
@json_option
@api_option
def create(
    *,
    title: str,
    description: str,
    severity: str | None,
    components: tuple[str, ...],
    eta: datetime | None,
    next_s: float | None,
    as_json: bool,
    api: str | None,
) -> None:
    """Open an incident."""
    body = {"title": title, "description": description, "severity": severity,
            "affected_components": list(components), **_promised(eta, next_s)}  # fmt: skip
    found = ask(api, "POST", "/incidents/create", body)
    tell(found, f"{found['id']} is open: {found['title']} ({found['severity']}).", as_json=as_json)


@incident.command
@click.argument("id_", metavar="ID")
@click.argument("message")
@click.option("--status", type=click.Choice(_STATUSES), help="Where it stands now.")
@_severity
@_eta
@_next
@json_option
@api_option
def update(
    *,
    id_: str,
    message: str,
    status: str | None,
    severity: str | None,
    eta: datetime | None,
    next_s: float | None,
    as_json: bool,
    api: str | None,
) -> None:
    """Say one more word on an incident. A draft is published by it."""
    body = {"message": message, "status": status, "severity": severity, **_promised(eta, next_s)}
    found = ask(api, "POST", f"/incidents/{id_}/updates", body)
    tell(found, f"{id_} is {words(found['status'])}.", as_json=as_json)


@incident.command
@click.argument("id_", metavar="ID")
@click.option("--root-cause", metavar="MARKDOWN", help="Why it was.")
@click.option("--resolution", metavar="MARKDOWN", help="What ended it.")
@json_option
@api_option
def resolve(
    *, id_: str, root_cause: str | None, resolution: str | None, as_json: bool, api: str | None
) -> None:
    """Say that an incident is over. A draft is closed without telling anybody."""
    body = {"root_cause": root_cause, "resolution": resolution}
    found = ask(api, "POST", f"/incidents/{id_}/resolve", body)
    tell(found, f"{id_} is resolved.", as_json=as_json)


@incident.command
@click.argument("id_", metavar="ID")
@json_option
@api_option
def publish(*, id_: str, as_json: bool, api: str | None) -> None:
    """Publish a draft as it stands."""
    found = ask(api, "POST", f"/incidents/{id_}/publish")
    tell(found, f"{id_} is published: {found['title']}.", as_json=as_json)


@incident.command("list")
@click.option("--days", type=click.IntRange(1, 365), default=90, show_default=True)
@click.option("--drafts", is_flag=True, help="Those that checks opened and nobody published.")
@json_option
@api_option
def list_incidents(*, days: int, drafts: bool, as_json: bool, api: str | None) -> None:
    """List incidents, newest first."""
    if drafts:
        found = ask(api, "GET", "/incidents/drafts")["incidents"]
    else:
        found = ask(api, "GET", "/incidents", days=str(days), detail="true")["incidents"]
    if as_json:
        print_json(found)
        return
    rows = table("id", "started", "resolved", "severity", "status", "components", "title")
    for each in found:
        overdue = " (overdue)" if each["overdue"] else ""
        rows.add_row(
            each["id"], short(each["started_at"]), short(each["resolved_at"]), each["severity"],
            each["status"] + overdue, ", ".join(each["affected_components"]), each["title"],
        )  # fmt: skip
    show(rows, "no incidents")


def _promised(eta: datetime | None, next_s: float | None) -> dict[str, Any]:
    now = SystemClock().now()
    return {
        "estimated_resolution": iso(eta) if eta else None,
        "next_update": iso(now + timedelta(seconds=next_s)) if next_s else None,
    }
