"""One change of a flag from the command line: its options, its live view, how it is told."""

import asyncio
import contextlib
import functools
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

import click

from control.cli import bridge_view as view
from control.cli import times
from control.cli.steering import (
    INTERRUPTED,
    REFUSED,
    TIMED_OUT,
    Control,
    api_option,
    as_json_option,
    ask,
    print_json,
    screen,
)
from control.clock import SystemClock, seconds
from control.errors import DrawbridgeError, InvalidInput, StoreUnavailable
from control.flags import commands
from control.flags.acknowledgement import Want
from control.flags.client import Acknowledged, Done, Watch, local_actor, patience_s
from control.flags.commands import Command, Verb
from control.flags.document import MAINTENANCE, Position
from control.flags.errors import CommandTimedOut, NobodyListens
from control.flags.outcome import Verdict
from control.flags.presence import ReplicaReport

ROLL_S = 2.0
"""How long reading who is live may take once a command has had no answer."""


@dataclass(frozen=True)
class Change:
    """How one change is to be made and told: the options that every such command has."""

    want: Want | None
    timeout_s: float
    expected: Position | None
    actor: str
    as_json: bool
    api: str | None

    def make(self, verb: Verb, flag: str, **terms: Any) -> None:
        """Make the change, tell of it, and end with its exit status."""
        try:
            command = commands.new(verb, flag, actor=self.actor, expected=self.expected, **terms)
        except InvalidInput as error:
            raise click.UsageError(str(error)) from None
        watched = view.Waiting(screen(error=True), self.want, quiet=self.as_json)
        silent: list[ReplicaReport] = []
        try:
            with watched:
                done = ask(
                    self.api, lambda control: self._carry_out(control, command, watched, silent)
                )
        except DrawbridgeError as error:
            self._unanswered(command, error, silent)
            raise
        except KeyboardInterrupt:
            click.echo(_interrupted(command, known=watched.target is not None), err=True)
            raise SystemExit(INTERRUPTED) from None
        if self.as_json:
            print_json(told(done))
        raise SystemExit(self._told(command, done))

    async def _carry_out(
        self, control: Control, command: Command, watch: Watch, silent: list[ReplicaReport]
    ) -> Done:
        """Carry it out; where no answer comes, ``silent`` gets who is live, if that can be read."""
        try:
            return await control.carry_out(
                command, want=self.want, timeout_s=self.timeout_s, watch=watch
            )
        except CommandTimedOut:
            with contextlib.suppress(DrawbridgeError, TimeoutError):
                async with asyncio.timeout(ROLL_S):
                    silent += await control.replicas()
            raise

    def _unanswered(
        self, command: Command, error: DrawbridgeError, silent: list[ReplicaReport]
    ) -> None:
        """Tell scripts why no answer came, and everybody who should have given one. Ends the
        process where it did not come in time; any other ``error`` is the caller's to tell."""
        word = unanswered(error, over_http=self.api is not None)
        if self.as_json and word is not None:
            print_json({
                "outcome": word,
                "detail": str(error),
                "command_id": command.id,
                "stragglers": [each.id for each in silent],
            })  # fmt: skip
        if word != "timed_out":
            return
        late = f"; of {len(silent)} live instances none has answered:" if silent else ""
        click.echo(f"drawbridge: {error}{late}", err=True)
        for each in silent:
            click.echo(f"  {each.kind} {view.place(each)}", err=True)
        raise SystemExit(TIMED_OUT) from None

    def _told(self, command: Command, done: Done) -> int:
        """Say what came of it; the exit status."""
        if not done.outcome.done:
            click.echo(f"drawbridge: {refusal(done)}", err=True)
            return REFUSED
        if not self.as_json:
            click.echo(summary(command, done, self.want))
        if done.acknowledged is None or done.acknowledged.complete:
            return 0
        position = done.outcome.document.position
        click.echo(f"drawbridge: {late(done.acknowledged, self.timeout_s)}", err=True)
        for line in view.stragglers(done.acknowledged.stragglers, position, self.want):
            click.echo(f"  {line}", err=True)
        return TIMED_OUT


def changes(function: Callable[..., None]) -> Callable[..., None]:
    """The options of a change; the command gets them as one :class:`Change`, ``how``."""

    @functools.wraps(function)
    def command(
        *,
        wait: Want | None,
        timeout_s: float | None,
        expected: Position | None,
        actor: str | None,
        as_json: bool,
        api: str | None,
        **own: Any,
    ) -> None:
        if api is not None and actor is not None:
            raise click.UsageError("with --api the token says who you are: leave --actor out")
        how = Change(
            wait, timeout_s or patience_s(wait), expected, actor or local_actor(), as_json, api
        )
        function(how=how, **own)

    options = (
        click.option("--reason", metavar="TEXT", help="Why; everybody who is refused reads it."),
        click.option(
            "--wait",
            type=click.Choice(["applied", "quiesced"]),
            help="Return when every instance has applied it, or has also finished what it ran.",
        ),
        click.option(
            "--timeout",
            "timeout_s",
            callback=times.option(times.span_or_seconds),
            metavar="SPAN",
            help=f"How long to wait [default: {patience_s(None):g}s; "
            f"{patience_s('quiesced'):g}s with --wait quiesced].",
        ),
        click.option(
            "--if-version",
            "expected",
            callback=times.option(Position.parse),
            metavar="EPOCH.VERSION",
            help="Only if the flags still stand at this epoch.version.",
        ),
        click.option("--actor", metavar="NAME", help="Who does it [default: you@this-host]."),
        as_json_option,
        api_option,
    )
    for option in reversed(options):
        command = option(command)
    return command


def announces(function: Callable[..., None]) -> Callable[..., None]:
    """The options of raising the bridge: ``until`` (aware, or ``None``) and ``mode``."""

    @functools.wraps(function)
    def command(
        *, until: datetime | None, for_s: float | None, mode: str | None, **others: Any
    ) -> None:
        now = SystemClock().now()
        if until is not None and for_s is not None:
            raise click.UsageError("give --until or --for, not both")
        if until is not None and until <= now:
            raise click.BadParameter(f"{until.isoformat()} is past", param_hint="--until")
        if for_s is not None:
            until = now.replace(microsecond=0) + timedelta(seconds=for_s)
        function(until=until, mode=mode and mode.replace("-", "_"), **others)

    options = (
        click.option(
            "--until",
            callback=times.option(times.moment),
            metavar="RFC3339",
            help="When it should be over: announced, not enforced.",
        ),
        click.option(
            "--for",
            "for_s",
            callback=times.option(seconds),
            metavar="SPAN",
            help="The same from now: 20m, 1h30m.",
        ),
        click.option(
            "--mode",
            type=click.Choice(["full", "read-only"]),
            help="full (the default), or read-only: GET and HEAD still pass.",
        ),
    )
    for option in reversed(options):
        command = option(command)
    return command


def told(done: Done) -> dict[str, Any]:
    """What came of a change, for scripts."""
    outcome, acknowledged = done.outcome, done.acknowledged
    return {
        "document": outcome.document,
        "outcome": outcome.verdict,
        "detail": outcome.detail,
        "retry_after_s": outcome.retry_after_s,
        "command_id": outcome.command_id,
        "acknowledged": acknowledged,
        "stragglers": acknowledged.stragglers if acknowledged else [],
    }


def unanswered(error: DrawbridgeError, *, over_http: bool) -> str | None:
    """Why a change had no answer, in a word for scripts; ``None`` where it had one."""
    match error:
        case CommandTimedOut():
            return "timed_out"
        case NobodyListens():
            return "unheard"
        case StoreUnavailable():
            return "unavailable"
    if not over_http:
        return None
    from control.cli.api_client import Unreachable  # noqa: PLC0415 - slow; loaded by now

    return "unavailable" if isinstance(error, Unreachable) else None


def refusal(done: Done) -> str:
    """Why a change was not made, in a line."""
    outcome = done.outcome
    told = outcome.detail or str(outcome.verdict).replace("_", " ")
    if outcome.verdict is Verdict.DEBOUNCED:
        wait_s = outcome.retry_after_s or 0
        return f"too soon after the last change of this flag; try again in {wait_s:.1f} s"
    if outcome.verdict is Verdict.CONFLICT:
        return f"{told} (the flags stand at {outcome.document.position} now)"
    return told


def late(found: Acknowledged, timeout_s: float) -> str:
    """That not everybody followed in time, in a line."""
    if not found.stragglers:
        return (
            f"timed out after {timeout_s:g} s; the change stands, but Redis has forgotten who is "
            "live, and not everybody may have told it again"
        )
    return (
        f"timed out after {timeout_s:g} s; the change stands, but {len(found.stragglers)} of "
        f"{found.replicas} instances did not follow in time:"
    )


def summary(command: Command, done: Done, want: Want | None) -> str:
    """What a change came to, in a line or two."""
    document, acknowledged = done.outcome.document, done.acknowledged
    active = document.is_active(command.flag)
    if command.flag == MAINTENANCE:
        subject, stands = "The bridge", "up" if active else "down"
    else:
        subject, stands = command.flag, "on" if active else "off"
    verb = "is" if done.outcome.verdict is Verdict.APPLIED else "was already"
    lines = [f"{subject} {verb} {stands} (version {document.position})."]
    if acknowledged is not None and acknowledged.complete:
        rests = want == "quiesced" and command.flag == MAINTENANCE and active
        count = f"{acknowledged.replicas} of {acknowledged.replicas} instances"
        lines.append(f"{count} {'are at rest' if rests else 'have followed'}.")
    return "\n".join(lines)


def _interrupted(command: Command, *, known: bool) -> str:
    if known:
        return f"The change of {command.flag} stands; only the waiting has ended."
    return f"Interrupted before an answer came: {command.flag} may still change."
