"""Queues scheduled jobs the moment they are due. It sleeps until the earliest; a job that becomes
the earliest is announced on a channel, so nothing is polled."""

from control import logs
from control.errors import StoreUnavailable
from control.subscriber import Listener, Subscriber
from worker.alarm import Alarm
from worker.jobs.manager import JobStateManager

_RETRY_S = 1.0
_BATCH = 256


class Scheduler:
    """Wakes by the alarm that announcements and heartbeats set, for one shard of the jobs."""

    def __init__(self, jobs: JobStateManager, due: Alarm, shard: int = 0) -> None:
        self._jobs = jobs
        self._due = due
        self._shard = shard
        self._log = logs.get(__name__)

    async def listen(self, subscriber: Subscriber) -> None:
        """Hear of jobs that became the earliest; after a gap, look."""
        channel = self._jobs.shards[self._shard].keys.due_channel
        listener = Listener(lambda _due: self._due.set(0.0), self._look)
        await subscriber.add(channel, listener, wait_s=0)

    async def run(self) -> None:
        """Promote for ever."""
        while True:
            await self._due.ring()
            try:
                count, next_s = await self._jobs.promote(_BATCH, shard=self._shard)
            except StoreUnavailable:
                self._due.set(_RETRY_S)
                continue
            self._due.set(next_s)
            if count:
                self._log.info("jobs due", count=count)

    async def _look(self) -> None:
        self._due.set(0.0)
