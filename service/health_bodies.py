"""The bodies of the health routes, as they are encoded and as the API's description tells them."""

from datetime import datetime
from typing import Any, Generic, Literal, TypeVar

import msgspec
from msgspec import UNSET, UnsetType

from control.health.report import CheckReport, Verdict

T = TypeVar("T")


class Detailed(msgspec.Struct, frozen=True):
    """Every check, and the whole."""

    status: Verdict
    timestamp: datetime
    version: str
    uptime_seconds: float
    response_time_ms: float | None
    checks: dict[str, CheckReport]


class OneCheck(CheckReport, frozen=True, kw_only=True):
    """One thing that is checked."""

    timestamp: datetime


class External(msgspec.Struct, frozen=True):
    """The services that others run. One that is down degrades the whole; all of them are 503."""

    status: Verdict
    timestamp: datetime
    response_time_ms: float | None
    services: dict[str, CheckReport]


class Overview(msgspec.Struct, frozen=True):
    """The whole, and every check by name."""

    overall_status: Verdict
    response_time_ms: float | None
    services: dict[str, CheckReport]
    version: str | UnsetType = UNSET
    uptime_seconds: float | UnsetType = UNSET


class Simple(msgspec.Struct, frozen=True):
    """The whole in one word."""

    overall_status: Verdict


class Readiness(msgspec.Struct, frozen=True):
    """As ``/ready`` has it."""

    ready: bool
    dependencies: dict[str, str]


class Liveness(msgspec.Struct, frozen=True):
    """The process serves."""

    alive: bool
    uptime_seconds: float


class Startup(msgspec.Struct, frozen=True):
    """Whether every required dependency was asked once, whatever it answered."""

    started: bool


class Resources(CheckReport, frozen=True, kw_only=True):
    """What the machine gives this process, by psutil. Only ``status`` is for everybody."""

    cpu: dict[str, Any] | UnsetType = UNSET
    disk: dict[str, float] | UnsetType = UNSET
    process: dict[str, float] | UnsetType = UNSET
    swap_percent: float | UnsetType = UNSET


class Application(msgspec.Struct, frozen=True):
    """This instance."""

    name: str
    version: str
    environment: str
    uptime_seconds: float
    checks: dict[str, CheckReport]


class Envelope(msgspec.Struct, Generic[T], frozen=True):
    """What the routes of ``/api/system/health`` answer."""

    success: bool
    timestamp: datetime
    data: T


def enveloped(data: type) -> Any:
    """The type of the envelope around ``data``."""
    return Envelope[data]  # type: ignore[valid-type]


class Connected(msgspec.Struct, frozen=True):
    """The database, as ``/api/v1`` has it."""

    status: Literal["connected", "disconnected"]
    response_time_ms: float | None
    engine: Literal["postgresql"]
    error: str | UnsetType = UNSET


class Health(msgspec.Struct, frozen=True):
    """The whole, and the database."""

    status: Verdict
    timestamp: datetime
    database: Connected


class UsedMemory(msgspec.Struct, frozen=True):
    """What this process holds of the machine's memory."""

    used_mb: float | None
    percent: float | None


class ServiceStatus(msgspec.Struct, frozen=True):
    """The same, and what runs here."""

    status: Verdict
    timestamp: datetime
    database: Connected
    version: str
    api_version: str
    environment: str
    uptime_seconds: float
    memory: UsedMemory


class IsReady(msgspec.Struct, frozen=True):
    """As ``/ready``, in a word."""

    ready: bool
    timestamp: datetime


class IsAlive(msgspec.Struct, frozen=True):
    """The process serves."""

    alive: Literal[True]
    timestamp: datetime


class Component(msgspec.Struct, frozen=True, rename="camel", omit_defaults=True):
    """A check, as ``draft-inadarei-api-health-check`` has it."""

    component_id: str
    component_type: Literal["datastore", "component"]
    status: Literal["pass", "warn", "fail"]
    observed_value: float | UnsetType | None = UNSET
    observed_unit: Literal["ms"] | UnsetType = UNSET
    time: datetime | UnsetType = UNSET
    output: str | UnsetType = UNSET


class HealthJson(msgspec.Struct, frozen=True, rename="camel"):
    """``application/health+json``, as that draft has it."""

    status: Literal["pass", "warn", "fail"]
    version: str
    release_id: str
    service_id: str
    description: str
    checks: dict[str, list[Component]]
