"""Who is there to run jobs, and what waits for them: the check ``workers``, asked by services.

Over a connection of its own, like every check of a store.
"""

import asyncio
from collections.abc import Mapping
from typing import Any

from redis.asyncio import Redis

from control import keys
from control.health.check import Check, Down, Importance
from control.job_keys import shards
from control.stores.servers import Servers
from worker.jobs.scripts import text_of

WORKERS = "workers"
INTERVAL_S = 2.0
"""How often a service asks."""

_DRIVER_LIMIT_S = 3.0


class NoWorkers(Down):
    """No worker has a lease: nobody would run a job. ``details`` tell what waits for one."""

    def __init__(self, details: Mapping[str, object]) -> None:
        super().__init__("NoWorkers", details)


def checks(servers: Servers, job_shards: int) -> tuple[Check, ...]:
    """The check ``workers``: live ones, and how many jobs wait how long, by lane; ``held`` ones do
    not wait for a worker but for a slot of their kind.

    A worker that is being replaced may leave a gap, so it falls at the second failure.
    """
    clients = (
        servers.client(each.prefix, timeout_s=_DRIVER_LIMIT_S, retries=0)
        for each in shards(job_shards)
    )
    ask = WorkforceProbe(*clients).ask
    return (Check(WORKERS, ask, importance=Importance.DEGRADING, interval_s=INTERVAL_S, fall=2),)


class WorkforceProbe:
    """Asks for leases and queues, each shard of the jobs in one command."""

    def __init__(self, *clients: Redis) -> None:
        self._waiting: list[tuple[Any, str]] = [
            (client.register_script(text_of("waiting")), each.prefix)
            for client, each in zip(clients, shards(len(clients)), strict=True)
        ]

    async def ask(self) -> Mapping[str, object]:
        """Raises :class:`NoWorkers`, and redis-py's errors."""
        rows = await asyncio.gather(*(ask([prefix], []) for ask, prefix in self._waiting))
        live = min(row[0] for row in rows)  # who lacks the lease of a shard takes no job of it
        oldest_ms = max(row[3] for row in rows)
        scheduled, held, _, *lanes = (sum(each) for each in list(zip(*rows, strict=True))[1:])
        told: dict[str, object] = {
            "live": live,
            "waiting": dict(zip(keys.LANES, lanes[::2], strict=True)),
            "held": held,
            "running": dict(zip(keys.LANES, lanes[1::2], strict=True)),
            "scheduled": scheduled,
            "oldest_waiting_s": None if oldest_ms < 0 else round(oldest_ms / 1000, 3),
        }
        if not live:
            raise NoWorkers(told)
        return told
