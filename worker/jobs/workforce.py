"""Who is there to run jobs, and what waits for them: the check ``workers``, asked by services.

Over a connection of its own, like every check of a store.
"""

import contextlib
from collections.abc import AsyncIterator, Iterable, Mapping, Sequence
from typing import Any

from redis.asyncio import Redis

from control import keys
from control.health.check import Check, Importance
from control.stores import redis

WORKERS = "workers"
_DRIVER_LIMIT_S = 3.0
_STREAMS = tuple((lane, name) for lane in keys.LANES for name in keys.QUEUES)


class NoWorkers(Exception):
    """No worker has a lease: nobody would run a job. ``details`` tell what waits for one."""

    def __init__(self, details: Mapping[str, object]) -> None:
        super().__init__("no worker is live")
        self.details = details


@contextlib.asynccontextmanager
async def checks(redis_url: str) -> AsyncIterator[Sequence[Check]]:
    """The check ``workers``: live ones, and how many jobs wait how long, by lane; ``held`` ones do
    not wait for a worker but for a slot of their kind.

    A worker that is being replaced may leave a gap, so it falls at the second failure.
    """
    client = redis.client(redis_url, timeout_s=_DRIVER_LIMIT_S, retries=0)
    try:
        probe = WorkforceProbe(client)
        yield (Check(WORKERS, probe.ask, importance=Importance.DEGRADING, interval_s=2.0, fall=2),)
    finally:
        await client.aclose()


class WorkforceProbe:
    """Asks for leases and queues."""

    def __init__(self, client: Redis) -> None:
        self._redis: Any = client

    async def ask(self) -> Mapping[str, object]:
        """Raises :class:`NoWorkers`, and redis-py's errors."""
        moment, leases, scheduled, kinds, *queues = await self._state()
        now_ms = moment[0] * 1000 + moment[1] // 1000
        live = sum(ends_ms > now_ms for _, ends_ms in leases)
        waiting, running = dict.fromkeys(keys.LANES, 0), dict.fromkeys(keys.LANES, 0)
        unread: list[tuple[str, bytes]] = []
        for (lane, name), length, groups in zip(_STREAMS, queues[::2], queues[1::2], strict=True):
            pending, last = _delivered(groups)
            running[lane] += pending
            if (depth := length - pending) > 0:
                waiting[lane] += depth
                unread.append((keys.queue(lane, name), last))
        held, oldest_ms = await self._look_into(unread, kinds)
        waits_s = None if oldest_ms is None else round(max(0, now_ms - oldest_ms) / 1000, 3)
        told: dict[str, object] = {
            "live": live,
            "waiting": waiting,
            "held": held,
            "running": running,
            "scheduled": scheduled,
            "oldest_waiting_s": waits_s,
        }
        if not live:
            raise NoWorkers(told)
        return told

    async def _state(self) -> list[Any]:
        pipe = self._redis.pipeline(transaction=False)
        pipe.time()
        pipe.zrange(keys.WORKERS, 0, -1, withscores=True)
        pipe.zcard(keys.DUE)
        pipe.smembers(keys.KINDS)
        for lane, name in _STREAMS:
            pipe.xlen(keys.queue(lane, name))
            pipe.xinfo_groups(keys.queue(lane, name))  # an error where there is no such queue yet
        answers: list[Any] = await pipe.execute(raise_on_error=False)
        for answer in (*answers[:4], *answers[4::2]):
            if isinstance(answer, Exception):
                raise answer
        return answers

    async def _look_into(
        self, unread: Sequence[tuple[str, bytes]], kinds: Iterable[bytes]
    ) -> tuple[int, int | None]:
        """How many jobs wait for a slot of their kind; and when that was queued which has waited
        longest for a worker: the id of an entry says it."""
        pipe = self._redis.pipeline(transaction=False)
        for stream, last in unread:
            pipe.xrange(stream, b"(" + last, "+", 1)
        for kind in kinds:
            pipe.zcard(keys.held(kind.decode()))
        answers = await pipe.execute()
        heads = [entries[0][0] for entries in answers[: len(unread)] if entries]
        queued_ms = (int(entry.partition(b"-")[0]) for entry in heads)
        return sum(answers[len(unread) :]), min(queued_ms, default=None)


def _delivered(groups: Any) -> tuple[int, bytes]:
    """How many entries workers hold, and the last one that was handed out."""
    if isinstance(groups, Exception) or not groups:
        return 0, b"0-0"
    return int(groups[0]["pending"]), groups[0]["last-delivered-id"]
