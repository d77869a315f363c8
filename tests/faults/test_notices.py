"""Subscribers are told by real workers, whatever happens in between: nothing is lost, and who takes
each id once takes nothing twice."""

import os
import signal
import sys
from collections import Counter
from collections.abc import AsyncIterator

import pytest
from aiohttp import web
from redis.asyncio import Redis

from control import keys
from control.stores.postgres import Database
from control.subscribers.bell import Bell
from control.subscribers.channel import Channel
from control.webhooks.signature import new_secret
from tests.conftest import LiveStores
from tests.mailroom import SETTINGS, Room, room
from tests.processes import replica
from tests.stack import ROOT, wait_until
from tests.webhooks import Receiver, receiver

STEPS = ("claimed", "handed over", "begun", "sent", "settled")


@pytest.fixture
async def there() -> AsyncIterator[Receiver]:
    async with receiver() as made:
        made.secret = new_secret()
        yield made


@pytest.fixture
async def post(database: Database) -> AsyncIterator[Room]:
    async with room(database) as made:
        yield made


class Workers:
    """Starts workers on the test's own database."""

    def __init__(self, stores: LiveStores, database: Database) -> None:
        self._environment = {
            **stores.environment, "DATABASE_URL": database._section.url, **SETTINGS,
            "DRAWBRIDGE_LEASE_S": "2", "DRAWBRIDGE_LOG_LEVEL": "debug",
        }  # fmt: skip

    def start(self, **settings: str):
        return replica("worker", self._environment, **settings)

    async def killed_at(self, step: str) -> None:
        """One lives until a delivery has come so far."""
        path = os.pathsep.join((str(ROOT / "tests" / "models" / "killed"), *filter(None, sys.path)))
        async with self.start(KILL_AT=step, PYTHONPATH=path) as one:
            assert await one.ended() == -signal.SIGKILL


@pytest.fixture
def workers(stores: LiveStores, redis: Redis, database: Database) -> Workers:
    return Workers(stores, database)


async def forget_requests(post: Room) -> None:
    """So that only what is published waits."""
    await post.database.execute(
        "DELETE FROM drawbridge.notices WHERE kind = 'subscription.confirm'"
    )


async def test_a_kill_after_any_step_loses_nothing_and_repeats_only_one_id(
    workers: Workers, post: Room, there: Receiver
) -> None:
    await post.subscriber(there.url, Channel.WEBHOOK, secret=there.secret)
    await forget_requests(post)
    notices = {}
    for step in STEPS:
        notices[await post.publish()] = step
        await workers.killed_at(step)  # the others are held by claims of those that died before
    await post.make_due()  # as if a minute had passed
    async with workers.start():
        await wait_until(lambda: len({sent for sent, _ in there.got}) == len(STEPS))

        async def settled() -> bool:
            return {state for state, _ in await post.deliveries()} == {"sent"}

        await wait_until(settled)
    times = Counter(sent.partition("-")[0] for sent, _ in there.got)
    assert {notices[notice]: count for notice, count in times.items()} == {
        "claimed": 1, "handed over": 1, "begun": 1, "sent": 2, "settled": 1,
    }  # fmt: skip
    told = dict(there.got)
    assert all(told[sent] == event for sent, event in there.got)  # the same message again


async def test_it_is_told_at_once_and_again_when_it_is_due(
    workers: Workers, post: Room, there: Receiver, redis: Redis
) -> None:
    there.answers = [web.Response(status=503)]
    await post.subscriber(there.url, Channel.WEBHOOK, secret=there.secret)
    await forget_requests(post)
    async with workers.start() as one:
        await one.logged("working")
        await post.publish()
        await Bell(redis).ring()
        await one.logged("notice", outcome="postponed", attempt=1)
        await post.make_due()  # as it will be in five seconds
        await Bell(redis).ring()
        await one.logged("notice", outcome="sent", attempt=2)
        jobs = [line for line in one.lines if line.get("kind") == "notify"]
        assert len({line["run_id"] for line in jobs}) == 2
        lines = str(one.lines)
    assert there.url not in lines  # addresses are in no log
    assert there.secret not in lines


async def test_it_is_told_under_maintenance_and_while_redis_is_away(
    workers: Workers, post: Room, there: Receiver, redis: Redis, stores: LiveStores
) -> None:
    """Those are the hours in which people want to be told."""
    await post.subscriber(there.url, Channel.WEBHOOK, secret=there.secret)
    await forget_requests(post)
    await redis.hset(keys.FLAGS, "app_maintenance", "1")
    async with workers.start() as one:
        await one.logged("working")
        await post.publish()
        await Bell(redis).ring()
        await there.came(1)
        await stores.stop("redis")
        try:
            await post.publish()
            await there.came(2)
        finally:
            await stores.restart("redis")
