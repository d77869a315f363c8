"""Raise the bridge from a script.

    from control import Bridge

    with Bridge().raised("db upgrade", wait="quiesced"):
        upgrade()

Everything here is synchronous; each call opens its own connections and closes them. Settings come
from the environment and from a running `drawbridge up`, as for the command line. Asynchronous code
uses :class:`control.flags.client.ControlClient`, which this is made of.
"""

import asyncio
import os
import time
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from datetime import datetime, timedelta
from typing import Any, TypeVar

import structlog

from control import cancelling
from control.clock import SystemClock
from control.config import Config
from control.errors import DrawbridgeError
from control.flags import commands
from control.flags.acknowledgement import Want
from control.flags.client import ControlClient, Done, local_actor, patience_s
from control.flags.commands import Verb
from control.flags.document import MAINTENANCE, Document, Flag, Mode
from control.flags.errors import CommandTimedOut, NobodyListens
from control.flags.outcome import Outcome, Verdict
from control.flags.presence import ReplicaReport
from control.running import load_config

T = TypeVar("T")

LOWER_WITHIN_S = 30.0
"""How long :meth:`Bridge.raised` tries to lower the bridge while others change it."""


class Refused(DrawbridgeError):
    """The change was not made; ``outcome`` has the verdict, and the flags as they stand."""

    def __init__(self, outcome: Outcome, why: str = "") -> None:
        super().__init__(why or outcome.detail or str(outcome.verdict))
        self.outcome = outcome


class Debounced(Refused):
    """The flag was changed a moment ago; it may be changed again in ``retry_after_s`` seconds."""

    @property
    def retry_after_s(self) -> float:
        """Seconds to wait."""
        return self.outcome.retry_after_s or 0.0


class TimedOut(DrawbridgeError):
    """What was waited for did not come in time.

    ``stragglers`` are the live instances that did not follow a change, which stands. With none of
    them nothing is known: the command may still be carried out.
    """

    def __init__(self, why: str, stragglers: list[ReplicaReport]) -> None:
        super().__init__(why)
        self.stragglers = stragglers


class Bridge:
    """The fleet's bridge, and its other flags.

    ``actor`` is who the audit names: ``user@host`` of this process unless given. Methods raise
    :class:`Refused`, :class:`Debounced`, :class:`TimedOut`,
    :class:`control.flags.errors.NobodyListens` where no instance runs, and
    :class:`control.errors.StoreUnavailable`.
    """

    def __init__(self, *, actor: str | None = None, config: Config | None = None) -> None:
        self._actor = actor or local_actor()
        self._config = config or load_config(os.environ)

    def maintenance_on(
        self,
        reason: str | None = None,
        *,
        until: datetime | timedelta | None = None,
        mode: Mode = "full",
        wait: Want | None = None,
        timeout_s: float | None = None,
    ) -> Done:
        """Raise the bridge. ``until`` (a moment or a span from now) is announced, not enforced.

        ``wait``: return once every instance has applied it, or has also come to rest (quiesced).
        """
        return self._raise(_terms(reason, until, mode), wait, timeout_s)

    def maintenance_off(
        self,
        reason: str | None = None,
        *,
        wait: Want | None = None,
        timeout_s: float | None = None,
    ) -> Done:
        """Lower the bridge."""
        return self._change("set", MAINTENANCE, wait, timeout_s, value=False, reason=reason)

    @contextmanager
    def raised(
        self,
        reason: str | None = None,
        *,
        until: datetime | timedelta | None = None,
        mode: Mode = "full",
        wait: Want | None = "quiesced",
        timeout_s: float | None = None,
    ) -> Iterator[Done]:
        """Raise the bridge for the block, and lower it again, whatever the block raises.

        It is lowered too where the fleet did not follow in time; then the block does not run.
        Raises :class:`Refused` where somebody else has raised it: they would lower it too soon.
        What somebody else raises during the block stays up after it.
        """
        done = self._raise_if_down(_terms(reason, until, mode), wait, timeout_s)
        try:
            yield done
        finally:
            self._lower_own(reason)

    def set(
        self,
        flag: str,
        value: bool,
        *,
        reason: str | None = None,
        wait: Want | None = None,
        timeout_s: float | None = None,
    ) -> Done:
        """Switch a flag on or off."""
        return self._change("set", flag, wait, timeout_s, value=value, reason=reason)

    def flags(self) -> Document:
        """Every flag as it stands."""
        return self._run(lambda control: control.flags())

    def status(self) -> Flag:
        """The bridge: whether it is up, who raised it, when, why, and until when."""
        return self.flags().flag(MAINTENANCE)

    def replicas(self) -> list[ReplicaReport]:
        """Every live instance."""
        return self._run(lambda control: control.replicas())

    def _raise(self, terms: dict[str, Any], wait: Want | None, timeout_s: float | None) -> Done:
        return self._change("set", MAINTENANCE, wait, timeout_s, value=True, **terms)

    def _raise_if_down(
        self, terms: dict[str, Any], wait: Want | None, timeout_s: float | None
    ) -> Done:
        """Raise the bridge, so that exactly one of several scripts does; the others are refused."""
        while True:
            found = self.flags()
            flag = found.flag(MAINTENANCE)
            if flag.is_active:
                outcome = Outcome(command_id="", verdict=Verdict.CONFLICT, document=found)
                why = f": {flag.reason}" if flag.reason else ""
                raise Refused(outcome, f"{flag.changed_by} has raised the bridge already{why}")
            try:
                return self._raise({**terms, "expected": found.position}, wait, timeout_s)
            except NobodyListens:
                raise
            except Refused as error:
                if error.outcome.verdict is not Verdict.CONFLICT:
                    raise
            except BaseException:  # it may be up, or come up yet
                self._lower_own(terms["reason"])
                raise

    def _lower_own(self, reason: str | None) -> None:
        """Lower the bridge unless somebody else has raised it since."""
        give_up = time.monotonic() + LOWER_WITHIN_S
        why = f"over: {reason}"[: commands.MAX_REASON] if reason else None
        while True:
            flag = self.status()
            if flag.is_active and flag.changed_by != self._actor:
                return
            try:
                self.maintenance_off(why)
            except Debounced as error:
                if time.monotonic() > give_up:
                    raise
                time.sleep(error.retry_after_s)
            else:
                return

    def _change(
        self, verb: Verb, flag: str, wait: Want | None, timeout_s: float | None, **terms: Any
    ) -> Done:
        within_s = timeout_s or patience_s(wait)
        command = commands.new(verb, flag, actor=self._actor, **terms)
        try:
            done = self._run(
                lambda control: control.carry_out(command, want=wait, timeout_s=within_s)
            )
        except CommandTimedOut as error:
            raise TimedOut(str(error), []) from error
        if not done.outcome.done:
            debounced = done.outcome.verdict is Verdict.DEBOUNCED
            raise (Debounced if debounced else Refused)(done.outcome)
        if done.acknowledged is not None and not done.acknowledged.complete:
            late = done.acknowledged.stragglers
            names = ", ".join(f"{each.kind} {each.id} on {each.host}" for each in late)
            why = f"not followed within {within_s:g} s by {names or 'everybody'}; the change stands"
            raise TimedOut(why, late)
        return done

    def _run(self, work: Callable[[ControlClient], Awaitable[T]]) -> T:
        async def run() -> T:
            async with ControlClient(self._config) as control:
                return await work(control)

        _log_as_a_library()
        try:
            asyncio.get_running_loop()
        except RuntimeError:
            return cancelling.run(run())
        raise RuntimeError("asynchronous code uses control.flags.client.ControlClient")


def _terms(reason: str | None, until: datetime | timedelta | None, mode: Mode) -> dict[str, Any]:
    if isinstance(until, timedelta):
        until = SystemClock().now() + until
    return {"reason": reason, "until": until, "mode": mode}


def _log_as_a_library() -> None:
    """Through ``logging``, where the script has set up nothing else: nothing on its stdout."""
    if not structlog.is_configured():
        structlog.configure(
            processors=[structlog.stdlib.filter_by_level, structlog.stdlib.render_to_log_kwargs],
            logger_factory=structlog.stdlib.LoggerFactory(),
            wrapper_class=structlog.stdlib.BoundLogger,
        )
