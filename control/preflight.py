"""Looks once at each store, as soon as it answers, and refuses those that are not safe.

A process starts whether or not its stores are there. So these are tasks that live as long as the
process; they end it, by :class:`ConfigError`, where a store can never do.
"""

import asyncio
from collections.abc import Awaitable, Callable, Coroutine, Iterator
from typing import Any

from redis.asyncio import Redis
from redis.exceptions import RedisError, ResponseError

from control import keys, logs, migrations
from control.backoff import Backoff
from control.config import Config, PostgresSection
from control.errors import ConfigError, StoreUnavailable
from control.stores import postgres, redis
from control.stores.cluster import SLOTS, Cluster, is_cluster
from control.stores.servers import Servers

OLDEST_REDIS = (7, 0)
ANSWER_S = 2.0
PAUSE_S = 5.0


def checks(config: Config) -> Iterator[tuple[str, Coroutine[Any, Any, None]]]:
    """What is to be supervised, by name."""
    yield "preflight of redis", _once(lambda: check_redis(config.redis.url, config.jobs.shards))
    yield "preflight of database", _once(lambda: check_database(config.postgres))


async def check_redis(url: str, job_shards: int = 1) -> None:
    """Raises :class:`ConfigError` for a Redis that cannot do, :class:`StoreUnavailable`."""
    if job_shards > 1 and not is_cluster(url):
        raise ConfigError("DRAWBRIDGE_JOB_SHARDS needs a Redis Cluster (redis+cluster://)")
    if is_cluster(url):
        await _check_cluster(Cluster(url))
    servers = Servers(url, timeout_s=ANSWER_S, retries=0)
    try:
        with redis.guard():
            if servers.divided:
                await _check_shards(servers.commands(keys.CONTROL), job_shards)
            info = await servers.commands(keys.CONTROL).info("server", "cluster")
    except RedisError:
        return  # INFO is not allowed to this user
    finally:
        await servers.aclose()
    if info.get("cluster_enabled") and not is_cluster(url):
        raise ConfigError(
            "REDIS_URL leads to a Redis Cluster, whose keys lie on several servers: say so, and "
            "name some of them: redis+cluster://host:port,host:port"
        )
    version = str(info.get("redis_version", ""))
    if version and tuple(int(part) for part in version.split(".")[:2]) < OLDEST_REDIS:
        raise ConfigError(f"REDIS_URL leads to a Redis {version}; 7.0 or newer is needed")


async def _check_shards(control: Redis, wanted: int) -> None:
    """Raises :class:`ConfigError` where the jobs were divided otherwise, and redis-py's errors.
    Whoever comes first says how they are."""
    await control.set(keys.SHARDS, wanted, nx=True)
    stands = int(await control.get(keys.SHARDS) or wanted)
    if stands != wanted:
        raise ConfigError(
            f"DRAWBRIDGE_JOB_SHARDS is {wanted}, but the jobs in this Redis are divided into "
            f"{stands}: see the runbook for how to divide them anew"
        )


async def _check_cluster(cluster: Cluster) -> None:
    """Raises :class:`ConfigError` and :class:`StoreUnavailable`."""
    try:
        with redis.guard():
            view = await cluster.look()
    except ResponseError as error:
        if "cluster support disabled" in str(error):
            raise ConfigError(
                "REDIS_URL leads to a Redis that is no Cluster: write redis:// or rediss://"
            ) from None
        raise ConfigError(
            f"REDIS_URL: a node of the Cluster refuses CLUSTER INFO or SLOTS: {error}"
        ) from None
    if view.assigned < SLOTS:
        raise ConfigError(
            f"REDIS_URL leads to a Redis Cluster in which {SLOTS - view.assigned} of {SLOTS} slots "
            "belong to no master: complete it (redis-cli --cluster fix)"
        )


async def check_database(section: PostgresSection) -> None:
    """Raises :class:`ConfigError` for an address behind a pooler, or a schema, that cannot do;
    :class:`StoreUnavailable`."""
    if await postgres.pools_transactions(section.direct, answer_s=ANSWER_S):
        name = "DRAWBRIDGE_DATABASE_DIRECT_URL" if section.pooled else "DATABASE_URL"
        raise ConfigError(
            f"{name} leads to a pooler of transactions (PgBouncer), through which neither LISTEN "
            "nor locks work: give the address past it as DRAWBRIDGE_DATABASE_DIRECT_URL"
        )
    async with postgres.connection(
        section.direct, connect_s=ANSWER_S, query_s=ANSWER_S
    ) as connection:
        try:
            await migrations.plan(connection, migrations.shipped())
        except migrations.ReleaseTooOld as error:
            raise ConfigError(str(error)) from None
        except migrations.MigrationError as error:
            logs.get(__name__).warning("the schema is not as shipped", reason=str(error))


async def _once(check: Callable[[], Awaitable[None]]) -> None:
    """Until ``check`` could look; then for ever."""
    pause = Backoff(0.1, PAUSE_S)
    while True:
        try:
            await check()
        except StoreUnavailable:
            await pause.wait()
        else:
            await asyncio.Event().wait()
