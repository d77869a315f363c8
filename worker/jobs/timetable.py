"""The periodic kinds as Redis keeps them: which there are, when each runs next, when it ran last.

A schedule belongs to the worker that started last among those that declare the kind; what none has
declared for a while is forgotten.
"""

import asyncio
from collections.abc import Sequence
from datetime import datetime
from hashlib import sha256

import msgspec

from control import ids
from control.clock import from_ms
from control.job_keys import JobKeys
from control.stores.line import Argument
from control.stores.wire import Wire
from worker.jobs.job import Spec
from worker.jobs.kinds import Kind
from worker.jobs.schedule import Schedule
from worker.jobs.scripts import Scripts, passed

FORGET_S = 300.0
"""How long a schedule stays that no worker declares any more."""

BY = "schedule"
"""Who has submitted a periodic run."""

_encode = msgspec.json.Encoder().encode


class Periodic(msgspec.Struct, frozen=True):
    """A periodic kind: ``every_s``, or ``cron`` in ``timezone``."""

    kind: str
    misfire: str
    next_run_at: datetime
    last_run_at: datetime | None = None
    last_run_id: str | None = None
    every_s: float | None = None
    cron: str | None = None
    timezone: str | None = None


class Declared(msgspec.Struct, frozen=True):
    """What a worker was told: Redis's clock, and the next time of each kind that is its to run."""

    now: int
    due: dict[str, int]


class Timetable:
    """That of the ``number``-th of ``count`` shards. Times are milliseconds since 1970, by Redis's
    clock. Methods raise :class:`control.errors.StoreUnavailable`."""

    def __init__(
        self, wire: Wire, scripts: Scripts, keys: JobKeys, number: int = 0, count: int = 1
    ) -> None:
        self._wire = wire
        self._run = scripts
        self._keys = keys
        self._number, self._count = number, count

    async def declare(self, periodic: Sequence[Kind], since: int | None) -> Declared:
        """Say which kinds this worker runs; ``since`` when (``None``: from now on)."""
        seconds, micros = await self._wire("TIME")
        now = int(seconds) * 1000 + int(micros) // 1000
        arguments: list[Argument] = ["" if since is None else since, int(FORGET_S * 1000)]
        for kind in periodic:
            schedule = _schedule(kind)
            arguments += [kind.name, schedule.definition, schedule.after(now)]
        at, *dues = await self._run("declare", arguments)
        named = zip(periodic, dues, strict=True)
        return Declared(at, {kind.name: int(float(due)) for kind, due in named if due})

    async def fire(self, kind: Kind, due: int, now: int) -> tuple[int, int | None]:
        """Make the runs for ``due`` and what was missed since, unless somebody else has: how many,
        and the next time; ``None`` where another definition stands.

        Raises :class:`control.errors.BridgeUp` and :class:`control.errors.ControlStateStale`.
        """
        schedule = _schedule(kind)
        times, following = schedule.until(due, now)
        wanted = schedule.runs(times, now)
        last = wanted[-1] if wanted else ""
        arguments: list[Argument] = [
            kind.name, schedule.definition, due, following, last, kind.unasked
        ]  # fmt: skip
        for at in wanted:
            run_id = ids.with_last_digit(_run_id(kind.name, at), self._number, self._count)
            arguments += [run_id, _encode(_spec(kind, run_id, at))]
        mine, then, _ = passed(await self._run("fire", arguments))
        return len(wanted) if mine else 0, int(float(then)) if then else None

    async def list(self) -> list[Periodic]:
        """All of them, the next one first."""
        kinds = await self._wire("ZRANGE", self._keys.schedules, 0, -1)
        rows = await asyncio.gather(*(self._told(kind.decode()) for kind in kinds))
        return [row for row in rows if row is not None]

    async def _told(self, kind: str) -> Periodic | None:
        fields = ("definition", "last", "last_run")
        due, (definition, last, last_run) = await asyncio.gather(
            self._wire("ZSCORE", self._keys.schedules, kind),
            self._wire("HMGET", self._keys.schedule(kind), *fields),
        )
        if due is None or definition is None:  # forgotten meanwhile
            return None
        return Periodic(
            kind,
            next_run_at=from_ms(int(float(due))),
            last_run_at=from_ms(int(last)) if last else None,
            last_run_id=last_run.decode() if last_run else None,
            **msgspec.json.decode(definition),
        )


def _schedule(kind: Kind) -> Schedule:
    assert kind.schedule is not None  # noqa: S101 - only periodic kinds come here
    return kind.schedule


def _spec(kind: Kind, run_id: str, at: int) -> Spec:
    return Spec(
        kind=kind.name, correlation_id=run_id, lane=kind.lane, max_attempts=kind.max_attempts,
        timeout_s=kind.timeout_s, run_at_ms=at, submitted_by=BY,
    )  # fmt: skip


def _run_id(kind: str, at: int) -> str:
    """The same for everybody who makes this run."""
    return ids.id_at(at, sha256(f"{kind} {at}".encode()).digest()[:10])
