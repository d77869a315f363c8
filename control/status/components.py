"""What components there are, and what health checks mean for them.

``DRAWBRIDGE_STATUS_COMPONENTS`` adds some, changes the checks of others, or leaves them out.
"""

import re
from collections.abc import Iterable, Mapping
from enum import StrEnum
from typing import Any

import msgspec

from control import status_settings
from control.errors import ConfigError, InvalidInput
from control.health.check import Snapshot, State
from control.health.dependencies import DATABASE, NEO4J, REDIS
from control.health.instance import FILES
from control.status.states import Status, worst

SERVICE, WORKER = "fleet:service", "fleet:worker"
"""Stand among the checks for: an instance of that kind is live."""

WORKERS = "workers"
"""The check of services that says nearly the same as the latter; a worker has it from the fleet."""

MAX_NAME, MAX_DESCRIPTION, MAX_CHECKS = 100, 1000, 20

_CHECK = re.compile(r"([a-z][a-z0-9_:.-]{0,99})(?:@([a-z_]+))?")
_IMPACTS = (Status.DEGRADED, Status.PARTIAL_OUTAGE, Status.MAJOR_OUTAGE)


class Found(StrEnum):
    """What a health check says."""

    WELL = "well"
    WARNING = "warning"
    DOWN = "down"
    UNKNOWN = "unknown"


class CheckRef(msgspec.Struct, frozen=True):
    """A health check by name, and what the component is while it fails."""

    name: str
    impact: Status = Status.MAJOR_OUTAGE

    def __str__(self) -> str:
        return f"{self.name}@{self.impact}"

    @classmethod
    def parse(cls, text: str) -> "CheckRef":
        """From ``name`` or ``name@impact``. Raises :class:`InvalidInput`."""
        form = _CHECK.fullmatch(text)
        if form is None or (form[2] and form[2] not in _IMPACTS):
            known = ", ".join(_IMPACTS)
            raise InvalidInput(f"{text!r} is not a check such as redis@major_outage ({known})")
        return cls(form[1], Status(form[2]) if form[2] else Status.MAJOR_OUTAGE)


class Definition(msgspec.Struct, frozen=True, kw_only=True):
    """A component as it is declared. ``follows_flag``: while maintenance mode is on, it is under
    maintenance."""

    id: str
    name: str
    description: str = ""
    position: int = 1000
    checks: tuple[CheckRef, ...] = ()
    follows_flag: bool = False


class Observation(msgspec.Struct, frozen=True):
    """What one look found: the status, and the checks that are to blame, the worst first."""

    status: Status
    causes: tuple[str, ...] = ()


def observed(checks: Iterable[CheckRef], found: Mapping[str, Found]) -> Observation | None:
    """What the checks mean for a component; ``None`` where they do not tell.

    A failure that is known decides. Where none is, but not all are known, nothing is: never green.
    """
    failing: list[tuple[Status, str]] = []
    complete = True
    told = False
    for check in checks:
        match found.get(check.name, Found.UNKNOWN):
            case Found.DOWN:
                failing.append((check.impact, check.name))
            case Found.WARNING:
                failing.append((Status.DEGRADED, check.name))
            case Found.UNKNOWN:
                complete = False
                continue
        told = True
    if failing:
        failing.sort(key=lambda each: -each[0].rank)
        return Observation(worst(status for status, _ in failing), tuple(n for _, n in failing))
    return Observation(Status.OPERATIONAL) if complete and told else None


def of_snapshot(snapshot: Snapshot, monotonic: float) -> dict[str, Found]:
    """What the health engine knows."""
    words = {State.OK: Found.WELL, State.DOWN: Found.DOWN}
    found: dict[str, Found] = {}
    for name, result in snapshot.results.items():
        word = words.get(result.state_at(monotonic), Found.UNKNOWN)
        found[name] = Found.WARNING if word is Found.WELL and result.warning else word
    return found


def defaults(external: Iterable[str]) -> list[Definition]:
    """The components of every installation. ``external`` names the services of others that are
    looked at: file storage, mail and identity are checked as far as this installation has them."""
    others = frozenset(external)

    def at(name: str) -> tuple[CheckRef, ...]:
        return (CheckRef(f"external:{name}"),) if name in others else ()

    major, partial = CheckRef, Status.PARTIAL_OUTAGE
    rows: tuple[tuple[str, str, str, tuple[CheckRef, ...]], ...] = (
        ("api", "API", "Requests are taken and answered",
         (major(SERVICE), major(REDIS), CheckRef(NEO4J, partial),
          CheckRef(DATABASE, Status.DEGRADED))),
        ("database", "Database", "PostgreSQL answers queries", (major(DATABASE),)),
        ("file-storage", "File Storage", "Files are written and read back",
         at("s3") or (major(FILES),)),
        ("email-service", "Email Service", "Messages are queued and sent",
         (*at("resend"), CheckRef(DATABASE, partial), CheckRef(WORKER, partial))),
        ("authentication", "Authentication", "Callers are known by their tokens",
         (*at("clerk"), CheckRef(DATABASE, partial))),
        ("redis", "Redis", "Job state and the control plane", (major(REDIS),)),
        ("graph", "Graph", "Networks that jobs optimise over", (major(NEO4J),)),
        ("workers", "Workers", "Jobs are run", (major(WORKER), major(REDIS))),
    )  # fmt: skip
    return [
        Definition(
            id=id_, name=name, description=description, position=10 * (place + 1), checks=checks,
            follows_flag=id_ in ("api", "workers"),
        )
        for place, (id_, name, description, checks) in enumerate(rows)
    ]  # fmt: skip


def configured(setting: str, external: Iterable[str]) -> tuple[Definition, ...]:
    """The default components, changed by what the setting says.

    Raises :class:`ConfigError`.
    """
    found = {each.id: each for each in defaults(external)}
    for id_, name, tail in status_settings.entries(setting):
        before = found.get(id_)
        if tail == "-":
            found.pop(id_, None)
            continue
        try:
            checks = tuple(CheckRef.parse(each) for each in tail.replace(",", " ").split())
        except InvalidInput as error:
            raise ConfigError(f"DRAWBRIDGE_STATUS_COMPONENTS: {error}") from None
        if before is None:
            before = Definition(id=id_, name=name or _named(id_), position=100 + 10 * len(found))
        changes: dict[str, Any] = {"checks": checks} | ({"name": name} if name else {})
        found[id_] = msgspec.structs.replace(before, **changes)
    return tuple(found.values())


def require_known(definitions: Iterable[Definition], known: Iterable[str]) -> None:
    """Raises :class:`ConfigError` where a component names a check that is none."""
    names = {*known, SERVICE, WORKER, WORKERS}
    for each in definitions:
        for check in each.checks:
            if check.name not in names:
                raise ConfigError(
                    f"DRAWBRIDGE_STATUS_COMPONENTS: {each.id} is fed by {check.name}, which is no "
                    f"check here; there are {', '.join(sorted(names))}"
                )


def id_of(name: str) -> str:
    """The id of a component of that name."""
    return re.sub(r"[^a-z0-9]+", "-", name.lower()).strip("-")[:63]


def _named(id_: str) -> str:
    return id_.replace("-", " ").title()
