"""Takes what waits in the outbox, and hands it to the job engine; every worker runs one.

Under maintenance the engine takes nothing, and while Redis is away it cannot; but those are the
hours in which people want to be told. So whoever cannot hand a delivery over makes the attempt
itself: what matters is in PostgreSQL either way.
"""

import asyncio
import random
from contextlib import suppress

import msgspec

from control import cancelling, logs
from control.backoff import Backoff
from control.errors import BridgeUp, ControlStateStale, StoreUnavailable
from control.subscribers.claim import Claim
from control.subscribers.outbox import Outbox
from worker.jobs.job import NewJob, Spec
from worker.jobs.manager import JobStateManager
from worker.notify.courier import AT_ONCE, Courier
from worker.notify.kind import KIND

IDLE_S = 5.0
"""How long until it looks by itself; mostly somebody rings before."""

ROOM = 2 * AT_ONCE
"""Deliveries that it takes at once, and has under way itself at most: the rest is for others."""

_FULL_S = 0.1
_BACKOFF_S = (0.5, 15.0)
_SPEC = Spec(
    kind=KIND, correlation_id="", lane="io", priority="high", max_attempts=1,
    submitted_by="drawbridge:outbox",  # whose jobs callers without a token cannot cancel
)  # fmt: skip


class Relay:
    """Not ``active``, because nobody can subscribe: does nothing."""

    def __init__(
        self, outbox: Outbox, courier: Courier, jobs: JobStateManager, *, active: bool
    ) -> None:
        self._outbox = outbox
        self._courier = courier
        self._jobs = jobs
        self._active = active
        self._rung = asyncio.Event()
        self._own: set[asyncio.Task[None]] = set()
        self._log = logs.get(__name__)

    def ring(self, _message: bytes = b"") -> None:
        """Something may wait."""
        self._rung.set()

    async def run(self) -> None:
        """For ever. What it still sends itself at the end is given up: others take it over."""
        if not self._active:
            await asyncio.Event().wait()
        pause, told = Backoff(*_BACKOFF_S), False
        try:
            while True:
                try:
                    wait_s = await self.turn()
                except StoreUnavailable as error:
                    if not told:
                        self._log.warning("outbox waits", reason=str(error))
                    told = True
                    await pause.wait()
                else:
                    pause.reset()
                    told = False
                    await self._idle(wait_s)
        finally:
            await cancelling.end(*self._own)

    async def turn(self) -> float:
        """Hand over what is due; seconds after which to look again. Raises StoreUnavailable."""
        self._rung.clear()
        while True:
            room = ROOM - len(self._own)
            if room <= 0:
                return _FULL_S
            claims = await self._outbox.claim(room)
            await asyncio.gather(*(self._hand_over(claim) for claim in claims))
            if len(claims) < room:
                due_s = await self._outbox.next_due_s()
                return IDLE_S if due_s is None else min(max(due_s, _FULL_S), IDLE_S)

    async def _hand_over(self, claim: Claim) -> None:
        """Make a job of it; or, where that cannot be, the attempt itself."""
        run_id = self._jobs.new_id(_SPEC.kind)
        spec = msgspec.structs.replace(_SPEC, correlation_id=claim.message_id)
        try:
            await self._jobs.create_job(
                NewJob(run_id=run_id, spec=spec, payload=msgspec.json.encode(claim))
            )
        except (BridgeUp, ControlStateStale, StoreUnavailable):
            task = asyncio.create_task(self._attempt(claim))
            self._own.add(task)
            task.add_done_callback(self._own.discard)

    async def _attempt(self, claim: Claim) -> None:
        try:
            await self._courier.deliver(claim)
        except StoreUnavailable:
            pass  # the claim ends by itself
        except Exception:
            self._log.exception("notice failed", message=claim.message_id)

    async def _idle(self, wait_s: float) -> None:
        with suppress(TimeoutError):
            async with asyncio.timeout(wait_s * random.uniform(0.6, 1.0)):  # noqa: S311 - spread
                await self._rung.wait()
