"""Who is there to run jobs, and what waits for them: the check ``workers``, asked by services.

Over a connection of its own, like every check of a store.
"""

import contextlib
from collections.abc import AsyncIterator, Mapping, Sequence
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
    """The check ``workers``: live ones, and how many jobs wait how long, by lane.

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
        moment, leases, scheduled, *queues = await self._state()
        now_ms = moment[0] * 1000 + moment[1] // 1000
        live = sum(ends_ms > now_ms for _, ends_ms in leases)
        waiting, running = dict.fromkeys(keys.LANES, 0), dict.fromkeys(keys.LANES, 0)
        unread: list[tuple[str, bytes]] = []
        for (lane, name), length, groups in zip(_STREAMS, queues[::2], queues[1::2], strict=True):
            held, last = _delivered(groups)
            running[lane] += held
            if (depth := length - held) > 0:
                waiting[lane] += depth
                unread.append((keys.queue(lane, name), last))
        told: dict[str, object] = {
            "live": live,
            "waiting": waiting,
            "running": running,
            "scheduled": scheduled,
            "oldest_waiting_s": await self._oldest_s(unread, now_ms),
        }
        if not live:
            raise NoWorkers(told)
        return told

    async def _state(self) -> list[Any]:
        pipe = self._redis.pipeline(transaction=False)
        pipe.time()
        pipe.zrange(keys.WORKERS, 0, -1, withscores=True)
        pipe.zcard(keys.DUE)
        for lane, name in _STREAMS:
            pipe.xlen(keys.queue(lane, name))
            pipe.xinfo_groups(keys.queue(lane, name))  # an error where there is no such queue yet
        answers: list[Any] = await pipe.execute(raise_on_error=False)
        for answer in (*answers[:3], *answers[3::2]):
            if isinstance(answer, Exception):
                raise answer
        return answers

    async def _oldest_s(self, unread: Sequence[tuple[str, bytes]], now_ms: int) -> float | None:
        """How long the job waits that was queued first; the id of an entry says when."""
        pipe = self._redis.pipeline(transaction=False)
        for stream, last in unread:
            pipe.xrange(stream, b"(" + last, "+", 1)
        found = [entries[0][0] for entries in await pipe.execute() if entries]
        queued_ms = min((int(entry.partition(b"-")[0]) for entry in found), default=None)
        return None if queued_ms is None else round(max(0, now_ms - queued_ms) / 1000, 3)


def _delivered(groups: Any) -> tuple[int, bytes]:
    """How many entries workers hold, and the last one that was handed out."""
    if isinstance(groups, Exception) or not groups:
        return 0, b"0-0"
    return int(groups[0]["pending"]), groups[0]["last-delivered-id"]
