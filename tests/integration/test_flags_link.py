"""Whom an instance believes that what it holds of the flags is the newest."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import aclosing

import msgspec
import pytest
from redis.asyncio import Redis

from control import keys
from control.clock import SystemClock
from control.errors import StoreUnavailable
from control.flags.answers import Answers
from control.flags.document import Document
from control.flags.events import BeaconEvent
from control.flags.link import Link
from control.flags.projection import Projection
from control.flags.replica import Replica
from control.lifespan import Lifespan
from control.stores import redis as redis_store
from control.subscriber import Subscriber
from tests.conftest import LiveStores
from tests.stack import wait_until

HELD = Document(1, 7, {})


class Cut:
    """An instance on Redis, without PostgreSQL."""

    def __init__(self, client: Redis, listening: Redis) -> None:
        self.clock = SystemClock()
        self.client = client
        self.subscriber = Subscriber(listening, self.clock)
        self.replica = Replica(self.clock)
        self.projection = Projection(client, self.clock)
        self.link = Link(
            self.subscriber, self.projection, self.replica, Answers(self.clock), self.clock,
            read_truth=self._no_truth,
        )  # fmt: skip

    async def beacon(self, epoch: int, version: int) -> None:
        """Say on the channel where the flags stand, as the beacon does; until it was heard."""
        before = self.link.beacon_at
        event = BeaconEvent(epoch=epoch, version=version, at=self.clock.now())
        await self.client.publish(keys.EVENTS_CHANNEL, msgspec.json.encode(event))
        await wait_until(lambda: self.link.beacon_at != before)

    async def _no_truth(self) -> Document:
        raise StoreUnavailable("database", "cut off")


@pytest.fixture
async def cut(stores: LiveStores, redis: Redis) -> AsyncIterator[Cut]:
    """It listens and is not in step: the projection is there, and nobody vouches for it."""
    url = stores.addresses.redis_url
    async with Lifespan(signals=False) as life:
        client, listening = [
            await life.enter(aclosing(redis_store.client(url, retries=n))) for n in (1, 0)
        ]
        one = Cut(client, listening)
        life.supervise("subscriber", one.subscriber.run())
        await one.projection.write(HELD)
        await one.link.open()
        await wait_until(lambda: one.replica.document == HELD)
        assert one.link.fresh_at is None
        yield one
        await one.link.close()


async def test_the_beacon_vouches_from_the_moment_that_the_connection_began(cut: Cut) -> None:
    since = cut.subscriber.since
    await cut.beacon(1, 7)
    await wait_until(lambda: cut.link.fresh_at is not None)
    assert cut.link.fresh_at is not None
    assert since is not None
    assert cut.link.fresh_at >= since


async def test_a_beacon_that_knows_more_does_not_vouch(cut: Cut) -> None:
    await cut.beacon(1, 8)
    with pytest.raises(StoreUnavailable, match="nobody vouches"):
        await cut.link._read_snapshot()
    assert cut.link.fresh_at is None


async def test_what_the_beacon_said_on_a_connection_that_is_lost_vouches_for_nothing(
    cut: Cut, redis: Redis
) -> None:
    """Redis was emptied meanwhile, and a change may have been made that nobody could tell us."""
    await cut.beacon(1, 7)
    await wait_until(lambda: cut.link.fresh_at is not None)
    lost = asyncio.Event()
    cut.subscriber.on_loss(lost.set)
    await redis.flushall()
    await redis.client_kill_filter(_type="pubsub", skipme=True)
    await asyncio.wait_for(lost.wait(), 60)
    with pytest.raises(StoreUnavailable, match="nobody vouches"):
        await cut.link._read_snapshot()
    assert not await redis.exists(keys.FLAGS)


async def test_an_empty_redis_is_filled_by_those_alone_who_have_asked_postgresql(
    cut: Cut, redis: Redis
) -> None:
    await cut.beacon(1, 7)
    await redis.delete(keys.FLAGS)
    await cut.link._read_snapshot()  # the beacon vouches: a proof, yet nothing is written
    assert not await redis.exists(keys.FLAGS)
