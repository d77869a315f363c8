"""What a worker does in one shard of the jobs, beside running them: mostly there is one shard."""

from collections.abc import Callable, Coroutine, Iterator, Mapping
from typing import Any

from control.clock import Clock
from control.config import Config
from control.job_keys import shard_of_kind
from control.subscriber import Listener, Subscriber
from worker.alarm import Alarm
from worker.archivist import Archivist
from worker.consumer import Asked, Consumer
from worker.drain import Drain
from worker.executor import Executor
from worker.jobs.archive import Archive
from worker.jobs.kinds import Kinds
from worker.jobs.manager import JobStateManager
from worker.leases import Lease
from worker.periodic import PeriodicRuns
from worker.rescuer import Rescuer
from worker.scheduler import Scheduler

Work = Iterator[tuple[str, Coroutine[Any, Any, None]]]


class Station:
    """The ``shard``-th. ``asked`` has each lane in which there are slots."""

    def __init__(
        self,
        shard: int,
        worker: str,
        config: Config,
        *,
        jobs: JobStateManager,
        kinds: Kinds,
        executor: Executor,
        drain: Drain,
        archive: Archive,
        asked: Mapping[str, Asked],
        clock: Clock,
    ) -> None:
        self._shard = shard
        self._of = f" {shard}" if len(jobs.shards) > 1 else ""
        self._jobs = jobs
        due, lost = Alarm(clock), Alarm(clock)
        self.lease = Lease(
            worker, lease_s=config.jobs.lease_s, jobs=jobs, executor=executor, clock=clock,
            due=due, lost=lost, shard=shard,
        )  # fmt: skip
        self._scheduler = Scheduler(jobs, due, shard)
        self._rescuer = Rescuer(lost, self.lease)
        mine = jobs.shards[shard]
        self._periodic = PeriodicRuns(
            mine.timetable, [kind for kind in kinds if self._has(kind.name)], opened=drain.open,
            clock=clock,
        )  # fmt: skip
        self._archivist = Archivist(
            worker, mine.ended, archive, days=config.archive.days, clock=clock
        )
        slots = {"cpu": config.worker.cpu_slots, "io": config.worker.io_slots}
        self._consumers = {
            lane: Consumer(
                lane, slots[lane], limits=kinds.limits(lane), worker=worker, jobs=jobs,
                executor=executor, lease=self.lease, drain=drain, clock=clock, shard=shard,
                asked=shared,
            )
            for lane, shared in asked.items()
        }  # fmt: skip

    async def listen(self, subscriber: Subscriber, stop: Callable[[bytes], None]) -> None:
        """Hear of jobs that are to be stopped, became due, or are brought."""
        channel = self._jobs.shards[self._shard].keys.cancel_channel
        await subscriber.add(channel, Listener(stop, self.lease.beat_now), wait_s=0)
        await self._scheduler.listen(subscriber)
        for consumer in self._consumers.values():
            await consumer.listen(subscriber)

    def work(self) -> Work:
        """What is to be supervised, by name."""
        for name, work in (
            ("scheduler", self._scheduler.run()),
            ("rescuer", self._rescuer.run()),
            ("periodic runs", self._periodic.run()),
            ("archivist", self._archivist.run()),
            *((f"consumer of {lane}", each.run()) for lane, each in self._consumers.items()),
        ):
            yield name + self._of, work

    def heartbeat(self) -> tuple[str, Coroutine[Any, Any, None]]:
        """What keeps the lease, by name."""
        return f"heartbeat{self._of}", self.lease.beat()

    def _has(self, kind: str) -> bool:
        return shard_of_kind(kind, len(self._jobs.shards)) == self._shard
