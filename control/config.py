"""Every setting of Drawbridge, in frozen sections parsed from a mapping.

Only entry points read ``os.environ``; they call :func:`load` and pass sections on.
"""

import os
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any

from control.delivery_settings import ArchiveSection, CallbacksSection, NotifySection
from control.entrance_settings import EntranceSection
from control.errors import ConfigError
from control.health_settings import HealthSection
from control.identity_settings import IdentitySection
from control.job_keys import MOST_SHARDS
from control.settings import (
    Setting,
    bearer,
    bearers,
    flag,
    http_url,
    masked,
    names,
    networks,
    number,
    one_of,
    path,
    setting,
    shares,
    size,
    tokens,
    url,
    whole,
    words,
)
from control.status_settings import StatusPageSection, StatusSection

PREFIX = "DRAWBRIDGE_"
_POSTGRES_URL = url("postgresql", "postgres")


def default_data_dir(environ: Mapping[str, str]) -> Path:
    """The user's data folder for Drawbridge (XDG on Linux, Application Support on macOS)."""
    home = Path(environ.get("HOME") or Path.home())
    if sys.platform == "darwin":
        return home / "Library" / "Application Support" / "drawbridge"
    return Path(environ.get("XDG_DATA_HOME") or home / ".local" / "share") / "drawbridge"


@dataclass(frozen=True)
class RedisSection:
    """Where Redis is."""

    url: str = setting(
        "REDIS_URL",
        "redis://127.0.0.1:6379/0",
        "Redis: redis://, rediss://, unix://, redis+sentinel://host:port,host:port/master/db, or a "
        "Cluster's redis+cluster://host:port,host:port (rediss+cluster:// by TLS)",
        url("redis", "rediss", "unix", "redis+sentinel", "redis+cluster", "rediss+cluster"),
    )


@dataclass(frozen=True)
class PostgresSection:
    """Where PostgreSQL is."""

    url: str = setting(
        "DATABASE_URL",
        "postgresql://127.0.0.1:5432/drawbridge",
        "PostgreSQL, as libpq and asyncpg understand it",
        _POSTGRES_URL,
    )
    direct_url: str = setting(
        "DRAWBRIDGE_DATABASE_DIRECT_URL",
        "",
        "the same database past the pooler, where DATABASE_URL leads to a PgBouncer that pools "
        "transactions; for LISTEN, locks and migrations",
        _POSTGRES_URL,
    )
    pool_size: int = setting(
        "DRAWBRIDGE_DATABASE_POOL", 5, "connections a process may hold", whole(1, 100)
    )

    @property
    def direct(self) -> str:
        """An address on which a session lasts: for LISTEN, locks and migrations."""
        return self.direct_url or self.url

    @property
    def pooled(self) -> bool:
        """Whether :attr:`url` leads to a pooler, where nothing of a session outlives a
        transaction."""
        return self.direct_url != ""


@dataclass(frozen=True)
class GraphSection:
    """Where Neo4j is."""

    uri: str = setting(
        "NEO4J_URI",
        "bolt://127.0.0.1:7687",
        "Neo4j over Bolt",
        url("bolt", "bolt+s", "bolt+ssc", "neo4j", "neo4j+s", "neo4j+ssc"),
    )
    user: str = setting("NEO4J_USER", "neo4j", "user of Neo4j")
    password: str = setting("NEO4J_PASSWORD", "", "password of that user", secret=True)
    database: str = setting("DRAWBRIDGE_NEO4J_DATABASE", "neo4j", "database of that server")


@dataclass(frozen=True)
class ServiceSection:
    """The HTTP API."""

    host: str = setting("DRAWBRIDGE_HOST", "127.0.0.1", "address the service listens on")
    port: int = setting("DRAWBRIDGE_PORT", 8080, "port of the service; 0 = any", whole(0, 65535))
    max_body: int = setting(
        "DRAWBRIDGE_MAX_BODY", 32 << 20, "largest body, also after decompression", size
    )
    max_upload: int = setting(
        "DRAWBRIDGE_MAX_UPLOAD",
        1 << 30,
        "largest upload of a network, after decompression; it is stored as it comes in",
        size,
    )
    drain_delay_s: float = setting(
        "DRAWBRIDGE_DRAIN_DELAY_S",
        3.0,
        "seconds between the first 503 of /ready and the closing of the listener on SIGTERM",
        number(0, 300, "seconds"),
    )
    anonymous: str = setting(
        "DRAWBRIDGE_ANONYMOUS",
        "jobs",
        "what callers without a token may do: jobs (submit, read, cancel such jobs) or none",
        one_of("jobs", "none"),
    )
    app_status_base: str = setting(
        "DRAWBRIDGE_APP_STATUS_BASE",
        "/base-pricing/api/v1",
        "path under which the six app-status routes are served",
        path,
    )
    proxies: tuple[str, ...] = setting(
        "DRAWBRIDGE_PROXIES",
        (),
        "networks of proxies before the service, whose X-Forwarded-For is believed: 10.0.0.0/8",
        networks,
    )
    admin_token: str = setting(
        "DRAWBRIDGE_ADMIN_TOKEN",
        "",
        "a bearer token with the role administrator, 16 characters or more; `new old` changes it",
        bearers(16),
        secret=True,
    )


@dataclass(frozen=True)
class WorkerSection:
    """The worker."""

    host: str = setting("DRAWBRIDGE_WORKER_HOST", "127.0.0.1", "address of the worker's probes")
    port: int = setting(
        "DRAWBRIDGE_WORKER_PORT", 8090, "port of the worker's probes; 0 = any", whole(0, 65535)
    )
    cpu_slots: int = setting(
        "DRAWBRIDGE_CPU_SLOTS",
        os.cpu_count() or 1,
        "CPU-bound jobs a worker runs at once (default: the processors)",
        whole(0, 1024),
    )
    io_slots: int = setting(
        "DRAWBRIDGE_IO_SLOTS", 100, "asynchronous jobs a worker runs at once", whole(0, 10_000)
    )
    drain_soft_s: float = setting(
        "DRAWBRIDGE_DRAIN_SOFT_S",
        30.0,
        "seconds that running jobs are given to finish before they are asked to stop",
        number(0, 86_400, "seconds"),
    )
    drain_hard_s: float = setting(
        "DRAWBRIDGE_DRAIN_HARD_S",
        10.0,
        "further seconds before what still runs is handed back",
        number(0, 3_600, "seconds"),
    )
    memory: int = setting(
        "DRAWBRIDGE_JOB_MEMORY", 4 << 30, "address space of one CPU-bound job's process", size
    )


@dataclass(frozen=True)
class JobsSection:
    """Jobs and their state."""

    modules: tuple[str, ...] = setting(
        "DRAWBRIDGE_JOBS", (), "modules that declare job kinds, by name", words
    )
    concurrency: tuple[str, ...] = setting(
        "DRAWBRIDGE_CONCURRENCY",
        (),
        "how many jobs of a kind the whole fleet runs at once: optimize=2,report=1; the same for "
        "every worker",
        shares,
    )
    lease_s: float = setting(
        "DRAWBRIDGE_LEASE_S",
        15.0,
        "seconds after its last heartbeat until a worker counts as lost",
        number(1, 3_600, "seconds"),
    )
    shards: int = setting(
        "DRAWBRIDGE_JOB_SHARDS",
        1,
        "how many parts the jobs are divided into by their kinds, on a Redis Cluster: as many as "
        "masters, at most; the same in every instance, and for good",
        whole(1, MOST_SHARDS),
    )
    wait_replicas: int = setting(
        "DRAWBRIDGE_WAIT_REPLICAS",
        0,
        "replicas of Redis that must have a job before it counts as accepted",
        whole(0, 100),
    )
    wait_timeout_s: float = setting(
        "DRAWBRIDGE_WAIT_TIMEOUT_S",
        1.0,
        "seconds that these are waited for; then a submission answers 503",
        number(0.01, 2, "seconds"),
    )
    result_ttl_s: int = setting(
        "DRAWBRIDGE_RESULT_TTL",
        86_400,
        "seconds that a finished job and its result stay in Redis",
        whole(1, 31_536_000),
    )


@dataclass(frozen=True)
class ControlSection:
    """The control plane."""

    flags: tuple[str, ...] = setting(
        "DRAWBRIDGE_FLAGS",
        (),
        "flags beside app_maintenance and app_data_ingestion, by name; the same for every instance",
        names,
    )
    secret: str = setting(
        "DRAWBRIDGE_SECRET",
        "",
        "signs the tokens that let operators pass a raised bridge (32 characters or more), or "
        "`new old` to change it; empty: there are none",
        tokens(32),
        secret=True,
    )


@dataclass(frozen=True)
class LogSection:
    """Logs and traces."""

    level: str = setting(
        "DRAWBRIDGE_LOG_LEVEL",
        "info",
        "debug, info, warning or error",
        one_of("debug", "info", "warning", "error"),
    )
    format: str = setting(
        "DRAWBRIDGE_LOG_FORMAT",
        "auto",
        "json, console, or auto: console on a terminal",
        one_of("auto", "json", "console"),
    )
    otlp_url: str = setting(
        "DRAWBRIDGE_OTLP_URL",
        "",
        "where spans are sent, as http://collector:4318/v1/traces; needs drawbridge[otel]",
        url("http", "https"),
    )


@dataclass(frozen=True)
class ClientSection:
    """What the command line needs to reach a running Drawbridge."""

    api: str = setting("DRAWBRIDGE_API", "http://127.0.0.1:8080", "URL of the API", http_url)
    token: str = setting("DRAWBRIDGE_TOKEN", "", "bearer token for the API", bearer, secret=True)
    data_dir: str = setting(
        "DRAWBRIDGE_DATA_DIR", "", "folder of the embedded stack (default: the user's data folder)"
    )
    environment: str = setting(
        "DRAWBRIDGE_ENVIRONMENT", "development", "name of this installation, shown in its status"
    )
    sample: bool = setting(
        "DRAWBRIDGE_SAMPLE", False, "whether `up` solves the sample model once it is ready", flag
    )


@dataclass(frozen=True)
class Config:
    """All sections. ``sources`` maps an environment variable to where its value came from."""

    redis: RedisSection = field(default_factory=RedisSection)
    postgres: PostgresSection = field(default_factory=PostgresSection)
    graph: GraphSection = field(default_factory=GraphSection)
    service: ServiceSection = field(default_factory=ServiceSection)
    entrance: EntranceSection = field(default_factory=EntranceSection)
    worker: WorkerSection = field(default_factory=WorkerSection)
    jobs: JobsSection = field(default_factory=JobsSection)
    callbacks: CallbacksSection = field(default_factory=CallbacksSection)
    notify: NotifySection = field(default_factory=NotifySection)
    archive: ArchiveSection = field(default_factory=ArchiveSection)
    control: ControlSection = field(default_factory=ControlSection)
    identity: IdentitySection = field(default_factory=IdentitySection)
    health: HealthSection = field(default_factory=HealthSection)
    status: StatusSection = field(default_factory=StatusSection)
    status_page: StatusPageSection = field(default_factory=StatusPageSection)
    log: LogSection = field(default_factory=LogSection)
    client: ClientSection = field(default_factory=ClientSection)
    sources: Mapping[str, str] = field(default_factory=dict)

    def rows(self) -> Iterator[tuple[str, str, str, str, str]]:
        """``(variable, value, default, source, help)`` for each setting, secrets masked."""
        for name, attribute, declared, default in _declared():
            value = getattr(getattr(self, name), attribute)
            yield (
                declared.env,
                masked(_text(value), secret=declared.secret),
                masked(_text(default), secret=declared.secret),
                self.sources.get(declared.env, "default"),
                declared.help,
            )


def load(*layers: tuple[str, Mapping[str, str]]) -> Config:
    """A :class:`Config` from named layers of variables, the strongest first.

    ``load(("environment", os.environ), ("running stack", {...}))``. An empty text counts as unset.

    Raises :class:`ConfigError` for an unknown ``DRAWBRIDGE_`` variable and for a bad value.
    """
    known = {declared.env for _, _, declared, _ in _declared()}
    for origin, variables in layers:
        for variable in sorted(variables):
            if variable.startswith(PREFIX) and variable not in known:
                raise ConfigError(_unknown(variable, origin, known))
    sections: dict[str, dict[str, Any]] = {}
    sources: dict[str, str] = {}
    for name, attribute, declared, _ in _declared():
        values = sections.setdefault(name, {})
        for origin, variables in layers:
            if text := variables.get(declared.env, "").strip():
                try:
                    values[attribute] = declared.parse(text)
                except ValueError as error:
                    raise ConfigError(f"{declared.env} (from {origin}) {error}") from None
                sources[declared.env] = origin
                break
    direct = sources.get("DRAWBRIDGE_DATABASE_DIRECT_URL")
    if direct is not None and direct != sources.get("DATABASE_URL"):
        raise ConfigError("DRAWBRIDGE_DATABASE_DIRECT_URL needs a DATABASE_URL beside it")
    types = {f.name: f.default_factory for f in fields(Config)}
    built = {name: types[name](**values) for name, values in sections.items()}  # type: ignore[operator]
    return Config(**built, sources=sources)


def _declared() -> Iterator[tuple[str, str, Setting, Any]]:
    """Each setting as ``(section, attribute, declaration, default)``, in the order of this page."""
    for section in fields(Config):
        if section.name == "sources":
            continue
        for attribute in fields(section.default_factory):  # type: ignore[arg-type]
            yield section.name, attribute.name, attribute.metadata["setting"], attribute.default


def _text(value: Any) -> str:
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, tuple):
        return ",".join(value)
    return f"{value:g}" if isinstance(value, float) else str(value)


def _unknown(variable: str, origin: str, known: set[str]) -> str:
    import difflib  # noqa: PLC0415 - for who misspelt something

    # The prefix is left out of the comparison, else it makes everything look alike.
    short = {name.removeprefix(PREFIX): name for name in known}
    close = difflib.get_close_matches(variable.removeprefix(PREFIX), short, n=1)
    hint = (
        f"; did you mean {short[close[0]]}?"
        if close
        else "; `drawbridge config` lists every setting"
    )
    return f"{variable} (from {origin}) is not a setting of Drawbridge{hint}"
