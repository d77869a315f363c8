"""What one instance holds of the status page: the view, in memory, and how old it is.

Whoever reads asks this alone. It is read anew when its revision in PostgreSQL has moved; a change
of the flag shows at once. While PostgreSQL is away the last known state stays, dated, and how the
components are is what this instance sees itself.
"""

import asyncio
import contextlib
from collections.abc import Callable, Iterable, Mapping

import asyncpg
import msgspec

from control import logs
from control.clock import Clock
from control.errors import StoreUnavailable
from control.flags.replica import Replica
from control.status import composing
from control.status.components import WORKER, Definition
from control.status.composing import Known
from control.status.judging import Judged
from control.status.reader import Revision, StatusReader, ToldPart
from control.status.view import StatusView

POLL_S = 2.0
FIRST_S, HURRIED_S = 10.0, 0.2
"""In its first seconds an instance reads oftener, as long as some component was never looked at."""

STALE_S = 15.0
"""From this age on what is told is called old."""

Local = Callable[[], Mapping[str, Judged] | None]
Tell = Callable[[StatusView], None]


class StatusBoard:
    """The view of one instance."""

    def __init__(
        self,
        reader: StatusReader,
        replica: Replica,
        definitions: Iterable[Definition],
        clock: Clock,
        *,
        local: Local = lambda: None,
    ) -> None:
        self._reader = reader
        self._replica = replica
        self._clock = clock
        self._local = local
        self._revision = Revision(-1, -1, None)
        now = clock.now()
        self._checks = composing.blank(definitions, now)
        self._told = ToldPart((), ())
        self._as_of = now
        self._proved_at: float | None = None
        self._reading = asyncio.Lock()
        self._hinted = asyncio.Event()
        self._began_at = clock.monotonic()
        self._tells: list[Tell] = []
        self._log = logs.get(__name__)
        self._made_of: tuple[object, ...] = ()
        self._good_until = now
        self._view: StatusView | None = None
        self.lost: Callable[[], None] = lambda: None
        """Called when PostgreSQL did not answer."""
        replica.on_change(lambda _before, _after: self._announce())

    @property
    def view(self) -> StatusView:
        """What is told now. Made anew only where something differs."""
        now, raised, local = self._clock.now(), self._replica.raised, self._local()
        made_of = (self._checks, self._told, raised, local)
        view = self._view
        if view is None or made_of_differs(self._made_of, made_of) or now >= self._good_until:
            known = Known(
                checks=self._checks, told=self._told, as_of=self._as_of, raised=raised, local=local
            )
            view, self._good_until = composing.compose(known, now)
            self._made_of = made_of
        elif view.as_of != self._as_of:
            view = msgspec.structs.replace(view, as_of=self._as_of)
        self._view = view
        return view

    @property
    def known(self) -> bool:
        """Whether PostgreSQL was ever read."""
        return self._proved_at is not None

    @property
    def looked_at(self) -> bool:
        """Whether every component was looked at once; that a worker lives may show later."""
        return all(
            each.last_checked or any(check.startswith(WORKER) for check in each.checks)
            for each in self.view.components
        )

    @property
    def age_s(self) -> float | None:
        """Seconds since PostgreSQL last proved it; ``None`` before the first time."""
        if self._proved_at is None:
            return None
        return max(0.0, self._clock.monotonic() - self._proved_at)

    @property
    def stale(self) -> bool:
        """Whether it was not proved for :data:`STALE_S`."""
        return self._proved_at is None or self._clock.monotonic() - self._proved_at > STALE_S

    def on_change(self, tell: Tell) -> Callable[[], None]:
        """Have ``tell(view)`` called when something was read or a flag has moved; how to end it."""
        self._tells.append(tell)
        return lambda: self._tells.remove(tell)

    def hint(self) -> None:
        """Read soon: something has changed."""
        self._hinted.set()

    async def refresh(self) -> StatusView:
        """Read what has changed; the view then. Raises :class:`StoreUnavailable`."""
        async with self._reading:
            asked_at, now = self._clock.monotonic(), self._clock.now()
            found = await self._reader.revision()
            before, changed = self._revision, False
            if found.checks != before.checks:
                part, changed = await self._reader.checks(now), True
                if part.components:  # else nobody has entered the configured ones yet
                    self._checks = part
            if found.told != before.told:
                self._told, changed = await self._reader.told(now), True
            self._revision, self._proved_at, self._as_of = found, asked_at, now
        if changed:
            self._announce()
        return self.view

    async def run(self) -> None:
        """Keep it fresh, for ever."""
        told = ""
        while True:
            try:
                await self.refresh()
                told = ""
            except (StoreUnavailable, asyncpg.PostgresError) as error:
                self.lost()
                if str(error) != told:
                    told = str(error)
                    self._log.warning("the status page is not read anew", reason=told)
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._hinted.wait(), self._pause_s)
            self._hinted.clear()

    @property
    def _pause_s(self) -> float:
        young = self._clock.monotonic() - self._began_at < FIRST_S
        return HURRIED_S if young and not self.looked_at else POLL_S

    def _announce(self) -> None:
        view = self.view
        for tell in tuple(self._tells):
            try:
                tell(view)
            except Exception:
                self._log.exception("a listener to the status page failed")


def made_of_differs(before: tuple[object, ...], after: tuple[object, ...]) -> bool:
    """Whether any part is another object: each is replaced, never changed."""
    return len(before) != len(after) or any(a is not b for a, b in zip(before, after, strict=True))
