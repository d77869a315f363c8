"""What a snapshot says as a whole: each check as people and programs read it, and the verdict.

Two readers: whoever comes sees states alone; who may see more gets classes of errors, latencies
and what the probes learnt. Neither sees the text of an error.
"""

from collections.abc import Iterable
from datetime import datetime
from enum import StrEnum
from typing import Any, Literal

import msgspec
from msgspec import UNSET, UnsetType

from control.health.check import WARNING, Importance, Result, State

EXTERNAL = "external"
"""The tag of the checks of services that others run."""


class Status(StrEnum):
    """How something is, in the word of the health routes."""

    HEALTHY = "healthy"
    DEGRADED = "degraded"
    UNHEALTHY = "unhealthy"
    STARTING = "starting"
    UNKNOWN = "unknown"


Verdict = Literal["healthy", "degraded", "unhealthy"]
"""How the whole is."""


class Pool(msgspec.Struct, frozen=True):
    """Connections that this process holds, from memory."""

    in_use: int
    open: int
    max: int


class Memory(msgspec.Struct, frozen=True):
    """``max_bytes`` 0: no limit was set, and ``percent`` is null."""

    used_bytes: int
    max_bytes: int
    percent: float | None


class CheckReport(msgspec.Struct, frozen=True, kw_only=True):
    """One thing that is checked. Only ``status`` is for everybody.

    ``response_time_ms`` is how long the newest probe took; ``error`` the class of its failure.
    """

    status: Literal["healthy", "degraded", "unhealthy", "starting", "unknown"]
    response_time_ms: float | None = None
    required: bool
    error: str | UnsetType = UNSET
    warning: str | UnsetType = UNSET
    since: datetime | UnsetType = UNSET
    checked_at: datetime | UnsetType = UNSET
    pool: Pool | UnsetType = UNSET
    memory: Memory | UnsetType = UNSET
    round_trip_ms: float | UnsetType = UNSET
    details: dict[str, Any] | UnsetType = UNSET


TOOK_MS = "response_time_ms"
"""The detail that says how long the thing itself took, where another instance asked it."""

_OWN = frozenset({WARNING, "pool", "memory", "round_trip_ms"})
"""Details that have a member of their own."""


def status(result: Result, monotonic: float) -> Status:
    """How one thing is, as one may still believe it."""
    match result.state_at(monotonic):
        case State.OK:
            return Status.DEGRADED if result.warning else Status.HEALTHY
        case State.DOWN:
            return Status.UNHEALTHY
        case State.STARTING:
            return Status.STARTING
        case _:
            return Status.UNKNOWN


def overall(results: Iterable[Result], monotonic: float) -> Verdict:
    """Unhealthy where something required is not well, degraded where something else is not.

    What is merely informational never counts, nor does what was not checked yet, unless it is
    required.
    """
    verdict: Verdict = "healthy"
    for result in results:
        found = status(result, monotonic)
        if result.importance is Importance.INFORMATIONAL or found is Status.HEALTHY:
            continue
        if result.importance is Importance.REQUIRED and found is not Status.DEGRADED:
            return "unhealthy"
        if found is not Status.STARTING:
            verdict = "degraded"
    return verdict


def report(result: Result, monotonic: float, *, full: bool) -> CheckReport:
    """One check, for everybody or in ``full``."""
    found, required = str(status(result, monotonic)), result.importance is Importance.REQUIRED
    if not full or result.at is None:
        return CheckReport(status=found, required=required)  # type: ignore[arg-type]
    own = {name: result.details[name] for name in _OWN & result.details.keys()}
    others = {name: value for name, value in result.details.items() if name not in {*_OWN, TOOK_MS}}
    return CheckReport(
        status=found,  # type: ignore[arg-type]
        response_time_ms=_took_ms(result),
        required=required,
        error=result.reason or UNSET,
        since=result.since or UNSET,
        checked_at=result.at,
        details=others or UNSET,
        **own,  # type: ignore[arg-type]
    )


def slowest_ms(results: Iterable[Result]) -> float:
    """How long the slowest of the newest probes took."""
    return max(map(_took_ms, results), default=0.0)


def _took_ms(result: Result) -> float:
    found = result.details.get(TOOK_MS)
    return found if isinstance(found, float) else milliseconds(result.duration_s)


def milliseconds(seconds: float) -> float:
    """As bodies have it: to the microsecond."""
    return round(seconds * 1000, 3)
