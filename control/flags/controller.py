"""Carries commands out: claim, debounce, commit in PostgreSQL, then project and announce.

Every instance has one. Of those that hear a command one claims it, mostly the one that is the
beacon; what it does is safe to do twice, because PostgreSQL grants each command id once.
"""

import asyncio
import contextlib
import math
import random
from collections import deque
from collections.abc import Callable
from typing import Literal

from control import keys, logs
from control.clock import Clock
from control.errors import StoreUnavailable
from control.flags import audit, commands, events
from control.flags.answers import Answers
from control.flags.commands import BadCommand, Command
from control.flags.document import Document
from control.flags.ledger import Ledger
from control.flags.outcome import Outcome, Verdict
from control.flags.projection import Projection, texts
from control.flags.replica import Replica
from control.stores.scripts import Script
from control.stores.servers import Spread
from control.stores.wire import Wire

DEBOUNCE_S = 2.0
QUEUED_S = 1.0
"""Who waits no longer than this came as late as it is carried out, so nobody is refused for
having come a moment before the two seconds were over."""

HEAD_START_S = 0.1
"""How long the instance that is the beacon has a command to itself."""

CLAIM_S = 5.0
"""How long a command belongs to who claimed it; then another may try."""

ANSWER_KEPT_S = 60
"""How long a copy of a command that turns up late is told what became of the first."""

QUIET_S = 0.5
BACKLOG = 1024

Via = Literal["channel", "local"]


class Controller:
    """The commands of one instance. Its debounce lies in ``spread`` where that is given."""

    def __init__(
        self,
        instance: str,
        *,
        wire: Wire,
        spread: Spread | None,
        ledger: Ledger,
        projection: Projection,
        replica: Replica,
        answers: Answers,
        first: Callable[[], bool],
        clock: Clock,
    ) -> None:
        self._instance = instance
        self._wire = wire
        self._claim = Script(wire, texts()["claim"])
        self._hold = Script(spread or wire, texts()["hold"])
        self._release = Script(spread or wire, texts()["release"])
        self._ledger = ledger
        self._projection = projection
        self._replica = replica
        self._answers = answers
        self._first = first
        self._clock = clock
        self._gives_way_s = HEAD_START_S * random.uniform(0.75, 1.25)  # noqa: S311 - jitter
        self._held: deque[tuple[bytes, float]] = deque()
        """What others may carry out before this instance looks at it, and when it was heard."""
        self._waiting: asyncio.Queue[tuple[bytes, float]] = asyncio.Queue()
        self._changed_at: dict[str, tuple[float, str]] = {}
        self._seen_at: dict[str, float] = {}
        """When a flag was last seen to change, whoever changed it."""
        self._log = logs.get(__name__)
        replica.on_change(self._see)

    def heard(self, message: bytes) -> None:
        """Take a message of the channel; what is a command is carried out when its turn comes.

        The first of the instances has a head start. Else all of them would wake and claim at once,
        and the one that commits would have to share the machine with the others. So these do not
        even look at it before.
        """
        if len(message) > commands.MAX_BYTES:
            self._drop(message, f"is longer than {commands.MAX_BYTES} bytes")
        elif len(self._held) + self._waiting.qsize() >= BACKLOG:
            self._drop(message, "too many are waiting")
        else:
            self._held.append((message, self._clock.monotonic()))
            if self._first():
                while self._held:
                    self._give_turn()
            else:
                asyncio.get_running_loop().call_later(self._gives_way_s, self._give_turn)

    def _give_turn(self) -> None:
        """Let the oldest that is held have its turn."""
        if self._held:
            self._waiting.put_nowait(self._held.popleft())

    def _drop(self, message: bytes, reason: str) -> None:
        self._log.warning("command dropped", reason=reason[:300], size=len(message))

    async def run(self) -> None:
        """Carry out what was heard, one after the other, for ever."""
        while True:
            message, heard_at = await self._waiting.get()
            try:
                command = commands.parse(message)
                if not self._answers.answered_since(command.id, heard_at):
                    await self.claim(command, via="channel", heard_at=heard_at)
            except BadCommand as error:
                self._drop(message, str(error))
            except StoreUnavailable as error:
                # Redis went away: the publisher hears nothing and sends it again.
                self._log.warning("command abandoned", reason=error.reason)
            except Exception:
                self._log.exception("command failed")

    async def claim(
        self, command: Command, *, via: Via = "local", heard_at: float | None = None
    ) -> Outcome | None:
        """Carry ``command`` out, unless another instance has begun to; ``None`` then.

        One that is done has its answer published again. Raises :class:`StoreUnavailable`.
        """
        key = keys.command(command.id, command.attempt())
        verdict = await self._claim(
            [key, key + ":told"],
            [self._instance, int(CLAIM_S * 1000), keys.EVENTS_CHANNEL, int(QUIET_S * 1000)],
        )
        if verdict != b"taken":
            return None
        return await self.carry_out(command, via=via, heard_at=heard_at)

    async def carry_out(
        self,
        command: Command,
        *,
        via: Via = "local",
        debounced: bool = True,
        offline: bool = False,
        heard_at: float | None = None,
    ) -> Outcome:
        """Do what ``command`` asks, whoever heard it, and announce what became of it.

        ``debounced=False`` is for what Drawbridge itself does, such as a window's edge.
        ``offline`` leaves Redis alone: PostgreSQL's notification carries the change. Does not
        raise where a store is away; the verdict tells.
        """
        too_soon = self._too_soon_here if offline else self._too_soon
        heard_at = self._clock.monotonic() if heard_at is None else heard_at
        wait_s = await too_soon(command, heard_at) if debounced else None
        if wait_s is not None:
            outcome = await self._debounced(command, wait_s, via)
        else:
            outcome = await self._commit(command, via)
            if debounced and not outcome.done:
                await self._allow(command, offline=offline)
        self._replica.apply(outcome.document, "commit")
        if not offline:
            await self._announce(command, outcome)
        return outcome

    async def _commit(self, command: Command, via: Via) -> Outcome:
        try:
            return await self._ledger.commit(command, source=via)
        except StoreUnavailable as error:
            detail = str(error)
        audit.log_unrecorded(command, Verdict.UNAVAILABLE, source=via, detail=detail)
        return self._unchanged(command, Verdict.UNAVAILABLE, detail)

    async def _debounced(self, command: Command, wait_s: float, via: Via) -> Outcome:
        detail = f"{command.flag} has just changed; try again in {wait_s:.1f} s"
        try:
            outcome = await self._ledger.record(
                command, Verdict.DEBOUNCED, source=via, detail=detail
            )
        except StoreUnavailable:
            audit.log_unrecorded(command, Verdict.DEBOUNCED, source=via, detail=detail)
            outcome = self._unchanged(command, Verdict.DEBOUNCED, detail)
        return Outcome(
            command_id=command.id,
            verdict=outcome.verdict,
            document=outcome.document,
            detail=outcome.detail or detail,
            retry_after_s=wait_s,
        )

    def _unchanged(self, command: Command, verdict: Verdict, detail: str) -> Outcome:
        document = self._replica.document
        return Outcome(command_id=command.id, verdict=verdict, document=document, detail=detail)

    async def _announce(self, command: Command, outcome: Outcome) -> None:
        """Project and publish. What cannot be now, the beacon does."""
        event = events.of_outcome(outcome, self._clock.now())
        try:
            if outcome.document.epoch:
                await self._projection.write(outcome.document, event)
            else:  # PostgreSQL was never reached: there is nothing to project
                await self._projection.say(event)
            key = keys.command(command.id, command.attempt())
            await self._wire("SET", key, event, "EX", ANSWER_KEPT_S)
        except StoreUnavailable as error:
            self._log.warning("not announced", reason=error.reason, id=outcome.command_id)

    async def _too_soon(self, command: Command, heard_at: float) -> float | None:
        """Seconds until the flag may change again; ``None`` if it may now, which it then has."""
        wait_s = self._overslept(command, heard_at)
        if wait_s is not None:
            return wait_s
        key, mark = keys.debounce(command.flag), _mark(command)
        try:
            holder, left_ms = await self._hold([key], [mark, int(DEBOUNCE_S * 1000)])
        except StoreUnavailable:
            return await self._too_soon_here(command, heard_at)
        # The same command once more is let through: the ledger knows what became of it.
        if holder == mark.encode():
            self._changed_at[command.flag] = (self._clock.monotonic(), mark)
            return None
        return max(0.001, float(left_ms) / 1000)

    async def _too_soon_here(self, command: Command, heard_at: float) -> float | None:
        """The same from memory, while Redis is away."""
        now, mark = self._clock.monotonic(), _mark(command)
        at, holder = self._changed_at.get(command.flag, (-math.inf, ""))
        if holder != mark and heard_at < at + DEBOUNCE_S:
            return max(0.001, at + DEBOUNCE_S - now)
        self._changed_at[command.flag] = (now, mark)
        return None

    def _overslept(self, command: Command, heard_at: float) -> float | None:
        """Seconds to wait where it was too soon when it was heard, and only its queueing made it
        late enough: of many that come at once one is carried out, however long the others queue,
        and whichever instance they queue at."""
        at, holder = self._changed_at.get(command.flag, (-math.inf, ""))
        if holder == _mark(command):
            return None
        at = max(at, self._seen_at.get(command.flag, -math.inf))
        over_at, now = at + DEBOUNCE_S, self._clock.monotonic()
        waited_it_out = heard_at < over_at <= now and now - heard_at > QUEUED_S
        return max(0.001, over_at - now) if heard_at < at or waited_it_out else None

    def _see(self, before: Document, after: Document) -> None:
        now = self._clock.monotonic()
        for name, flag in after.flags.items():
            known = before.flags.get(name)
            if known is not None and known.changed_at != flag.changed_at:
                self._seen_at[name] = now

    async def _allow(self, command: Command, *, offline: bool) -> None:
        """The command changed nothing, so the next one need not wait."""
        if self._changed_at.get(command.flag, (0.0, ""))[1] == _mark(command):
            del self._changed_at[command.flag]
        if offline:
            return
        with contextlib.suppress(StoreUnavailable):  # it runs out by itself
            await self._release([keys.debounce(command.flag)], [_mark(command)])


def _mark(command: Command) -> str:
    """Names a command and what it asks for."""
    return f"{command.id}:{command.digest()[:8].hex()}"
