"""`drawbridge events`: what happens to the flags and to the instances."""

import json
from datetime import datetime
from typing import Any

import click
import msgspec

from control.cli import times
from control.cli.bridge_view import place, work
from control.cli.steering import INTERRUPTED, Control, api_option, as_json_option, ask
from control.clock import SystemClock
from control.flags import events as flag_events
from control.flags.document import NOTHING, Document
from control.flags.plane import ControlEvent
from control.flags.presence import ReplicaReport


@click.command
@click.option("--follow", is_flag=True, help="Go on until Ctrl-C, across every reconnect.")
@as_json_option
@api_option
def events(*, follow: bool, as_json: bool, api: str | None) -> None:
    """Show the flags and every instance as they are now; with --follow what happens then, too.

    \b
    drawbridge events --follow
    drawbridge events --follow --json | jq 'select(.type == "flags")'

    With --json each event is one line of JSON; `type` is flags, replica or left. Ctrl-C ends it
    with exit status 130.
    """
    journal = Journal(as_json=as_json)

    async def show(control: Control) -> None:
        if not follow:
            await _current(control, journal)
            return
        async with control.follow() as coming:
            await _current(control, journal)
            async for event in coming:
                journal.tell(event)

    try:
        ask(api, show)
    except KeyboardInterrupt:
        raise SystemExit(INTERRUPTED) from None


async def _current(control: Control, journal: "Journal") -> None:
    """The state as events of now."""
    document = await control.flags()
    journal.tell(ControlEvent("flags", flag_events.of_document(document, SystemClock().now())))
    for report in await control.replicas():
        journal.tell(ControlEvent("replica", msgspec.json.encode(report)))


class Journal:
    """Prints events, each once: reconnects bring the same state again."""

    def __init__(self, *, as_json: bool) -> None:
        self._as_json = as_json
        self._document = NOTHING
        self._reports: dict[str, ReplicaReport] = {}

    def tell(self, event: ControlEvent) -> None:
        """Print ``event`` if it says anything new."""
        said = json.loads(event.data)
        line = self._line(event, said)
        if line is None:
            return
        if self._as_json:
            click.echo(json.dumps({**said, "type": event.type}))
            return
        at = said.get("at")
        moment = datetime.fromisoformat(at) if at else SystemClock().now()
        click.echo(f"{times.stamp(moment)}  {line}")

    def _line(self, event: ControlEvent, said: dict[str, Any]) -> str | None:
        """The event in words; ``None`` where it is known already."""
        match event.type:
            case "flags":
                return self._flags(msgspec.convert(said, Document), said.get("outcome"))
            case "replica":
                return self._replica(msgspec.convert(said, ReplicaReport))
            case "left":
                self._reports.pop(said["id"], None)
                return f"left     {said['id']}"
        return None

    def _flags(self, document: Document, outcome: dict[str, Any] | None) -> str | None:
        newer = document.position > self._document.position
        refused = outcome is not None and outcome["verdict"] not in ("applied", "unchanged")
        if not newer and not outcome:
            return None
        self._document = document if newer else self._document
        stand = ", ".join(
            f"{flag} {'on' if document.is_active(flag) else 'off'}"
            for flag in sorted(document.flags)
        )
        why = f" ({outcome['verdict']}: {outcome['detail']})" if outcome and refused else ""
        return f"flags    {document.position}: {stand}{why}"

    def _replica(self, report: ReplicaReport) -> str | None:
        before = self._reports.get(report.id)
        self._reports[report.id] = report
        if before is not None and _state(before) == _state(report):
            return None
        rest = ", at rest" if report.quiesced else ""
        return (
            f"{report.kind:8} {place(report)}: {report.phase}{rest}, {work(report)}, "
            f"version {report.position}"
        )


def _state(report: ReplicaReport) -> tuple[object, ...]:
    return report.position, report.phase, report.running, report.quiesced
