"""Control planes inside the test's own loop, on the test's own database."""

import contextlib
from collections.abc import AsyncIterator
from contextlib import aclosing
from dataclasses import dataclass, replace

from control import ids
from control.clock import SystemClock
from control.config import Config, PostgresSection, RedisSection
from control.flags.plane import ControlPlane, open_plane
from control.flags.presence import Kind
from control.lifespan import Lifespan
from control.stores import redis as redis_store
from control.stores.postgres import Database
from control.subscriber import Subscriber
from tests.stack import wait_until


def on(config: Config, *, database_url: str = "", redis_url: str = "") -> Config:
    """``config`` with other stores."""
    return replace(
        config,
        postgres=PostgresSection(database_url) if database_url else config.postgres,
        redis=RedisSection(redis_url) if redis_url else config.redis,
    )


@dataclass
class Planes:
    """Opens planes that live as long as the ``async with`` they were opened in."""

    config: Config
    life: Lifespan

    async def open(
        self, kind: Kind = "service", *, config: Config | None = None, known: bool = True
    ) -> ControlPlane:
        """One more instance; ``known``: wait until it has the flags and may act on them."""
        config = config or self.config
        clock = SystemClock()
        commands = await self.life.enter(aclosing(redis_store.client(config.redis.url)))
        listening = await self.life.enter(aclosing(redis_store.client(config.redis.url, retries=0)))
        database = await self.life.enter(Database(config.postgres, connect_s=1.4, query_s=1.4))
        subscriber = Subscriber(listening, clock)
        plane = await open_plane(
            self.life, config, kind=kind, instance=ids.new_id(), redis=commands,
            subscriber=subscriber, database=database, clock=clock,
        )  # fmt: skip
        self.life.supervise("subscriber", subscriber.run())
        if known:
            await wait_until(plane.replica.admits)
        return plane


@contextlib.asynccontextmanager
async def planes(config: Config) -> AsyncIterator[Planes]:
    """Planes for the block, on the stores of ``config``."""
    async with Lifespan(signals=False) as life:
        yield Planes(config, life)
