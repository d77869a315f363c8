"""One fault after the other, under load: after `wait=applied` returned, nobody admits anything."""

import asyncio
import itertools
import signal
import time
from collections.abc import Awaitable, Callable

import pytest

from control.flags.document import MAINTENANCE
from tests.faults.fleet import Fleet, Instance
from tests.faults.witness import Observer, observed
from tests.stack import wait_until

pytestmark = [pytest.mark.soak, pytest.mark.timeout(1_800)]
REQUESTS = 100_000


async def subscribers_killed(fleet: Fleet, _: Instance) -> None:
    await fleet.redis.client_kill_filter(_type="pubsub")


async def emptied(fleet: Fleet, _: Instance) -> None:
    await fleet.redis.flushall()


async def restarted_empty(fleet: Fleet, _: Instance) -> None:
    await fleet.server.kill()
    fleet.server.forget()
    await fleet.server.start()


async def redis_frozen(fleet: Fleet, _: Instance) -> None:
    fleet.server.freeze()


async def redis_away(fleet: Fleet, _: Instance) -> None:
    await fleet.server.kill()


async def swallowing(_: Fleet, victim: Instance) -> None:
    victim.redis.swallow()


async def without_redis(_: Fleet, victim: Instance) -> None:
    victim.redis.cut()


async def without_postgresql(_: Fleet, victim: Instance) -> None:
    victim.database.cut()


async def without_both(_: Fleet, victim: Instance) -> None:
    victim.cut_off()


async def slow(_: Fleet, victim: Instance) -> None:
    victim.redis.slow(0.1)
    victim.redis.kill()


async def held(_: Fleet, victim: Instance) -> None:
    victim.replica.send(signal.SIGSTOP)


async def beacon_held(fleet: Fleet, victim: Instance) -> None:
    beacon = fleet.in_office() or victim
    fleet.services.sort(key=lambda one: one is beacon)
    beacon.replica.send(signal.SIGSTOP)


FAULTS: tuple[Callable[[Fleet, Instance], Awaitable[None]], ...] = (
    subscribers_killed, emptied, restarted_empty, redis_frozen, redis_away, swallowing,
    without_redis, without_postgresql, without_both, slow, held, beacon_held,
)  # fmt: skip


async def test_no_stale_admission_in_100000_requests(fleet: Fleet) -> None:
    urls = [one.url for one in fleet.services]
    async with observed(urls, connections=4, pace_s=0) as observer:
        for number in itertools.count():
            if number >= 2 * len(FAULTS) and len(observer.answers) >= REQUESTS:
                break
            victim = fleet.services[number // len(FAULTS) % 2]
            # Asked is the other one.
            fleet.services.sort(key=lambda one, victim=victim: one is victim)
            await across(fleet, victim, FAULTS[number % len(FAULTS)], observer)
            fleet.services.sort(key=lambda one: urls.index(one.url))


async def across(
    fleet: Fleet,
    victim: Instance,
    fault: Callable[[Fleet, Instance], Awaitable[None]],
    observer: Observer,
) -> None:
    """Raise the bridge while ``fault`` lasts; then all is put right, and the bridge lowered."""
    await fault(fleet, victim)
    try:

        async def raised() -> bool:
            status, _ = await fleet.put(MAINTENANCE, True, wait="applied", timeout_s=20)
            return status == 200  # 503 and 504 promise nothing

        await wait_until(raised)
        returned = time.monotonic()
        await asyncio.sleep(0.2)  # seconds of load, no wait for anything
    finally:
        if fault is redis_frozen:
            fleet.server.thaw()
        for one in fleet.all:
            one.replica.send(signal.SIGCONT)
            one.heal()
        await fleet.server.ensure()
    await observer.all_say(refused=True, since=time.monotonic())
    await wait_until(lambda: fleet.projected(fleet.redis))
    stale = observer.admitted_after(returned)
    assert stale == [], f"{fault.__name__}: {len(stale)} of {len(observer.answers)}"
    await fleet.mend()
    await observer.all_say(refused=False, since=time.monotonic())
