"""What a component is taken to be, as one look follows another: a pure rule.

One bad look is none: it is repeated 10 s and 20 s later, and only three in a row confirm it. Two
good ones in a row recover. Either is dated back to the first of its row. A look that an
administrator asked for is enough by itself. Whoever did not look for more than 2.5 intervals knows
nothing any more.
"""

from datetime import datetime, timedelta

import msgspec

from control.status.states import Status, worst

INTERVAL_S = 60.0
GAP_S = 2.5 * INTERVAL_S
AGAIN_S = (10.0, 20.0)
"""When after the first of a row it is looked again."""

FALL, RISE = 3, 2
_EARLY_S = 0.5
"""By so much a look may come too early and still count."""


class Judged(msgspec.Struct, frozen=True):
    """What is held of a component. ``status`` ``None``: unknown. ``pending``: what the looks of an
    unfinished row agree on."""

    status: Status | None = None
    since: datetime | None = None
    checked_at: datetime | None = None
    pending: Status | None = None
    pending_since: datetime | None = None
    pending_count: int = 0

    def status_at(self, now: datetime) -> Status | None:
        """The status, as one may still believe it."""
        return self.status if is_fresh(self.checked_at, now) else None

    def due_at(self) -> datetime | None:
        """When it is to be looked at next; ``None``: now."""
        if self.checked_at is None:
            return None
        if self.pending_since is not None:
            return self.pending_since + timedelta(seconds=AGAIN_S[self.pending_count - 1])
        return self.checked_at + timedelta(seconds=INTERVAL_S)


def is_fresh(checked_at: datetime | None, now: datetime) -> bool:
    """Whether what was found then may still be believed."""
    return checked_at is not None and (now - checked_at).total_seconds() <= GAP_S


def step(before: Judged, found: Status, at: datetime, *, asked: bool = False) -> Judged:
    """What is held after ``found`` was seen, ``asked`` for or not. A look that is not later than
    the last is ignored."""
    if before.checked_at is not None and at <= before.checked_at:
        return before
    if not is_fresh(before.checked_at, at):
        before = Judged()
    held = msgspec.structs.replace(before, checked_at=at)
    if found is held.status:
        return _settled(held, held.status, held.since)
    if held.status is None and found is Status.OPERATIONAL:
        return _settled(held, found, at)
    return _row(held, found, at, asked)


def _row(held: Judged, found: Status, at: datetime, asked: bool) -> Judged:
    """One more look that contradicts what is held."""
    falls = _is_fall(held.status, found)
    since, pending = held.pending_since, held.pending
    begins = since is None or pending is None or _is_fall(held.status, pending) is not falls
    if asked:
        return _settled(held, found, at if begins else since)
    if since is None or pending is None or begins:
        return msgspec.structs.replace(held, pending=found, pending_since=at, pending_count=1)
    # What all of the row bear out: the mildest of failures, the worst of successes.
    agreed = min(pending, found, key=lambda s: s.rank) if falls else worst((pending, found))
    due = since + timedelta(seconds=AGAIN_S[held.pending_count - 1] - _EARLY_S)
    count = held.pending_count + (at >= due)
    if count >= (FALL if falls else RISE):
        return _settled(held, agreed, since)
    return msgspec.structs.replace(held, pending=agreed, pending_count=count)


def _is_fall(held: Status | None, found: Status) -> bool:
    return held is None or found.rank > held.rank


def _settled(held: Judged, status: Status | None, since: datetime | None) -> Judged:
    return Judged(status, since, held.checked_at)
