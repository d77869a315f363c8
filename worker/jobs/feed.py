"""The events of a job: what it is now, then what becomes of it, without a gap or a repetition."""

import asyncio
import re
from collections.abc import AsyncGenerator, Sequence

import msgspec

from control.clock import from_ms, iso
from control.subscriber import Listener, Subscriber
from worker.jobs.errors import UnknownJob
from worker.jobs.job import JobEvent
from worker.jobs.manager import JobStateManager

_ID = re.compile(r"\d{1,18}")
_AT = re.compile(r'"at_ms":(\d+)')
_BACKLOG = 256


def is_event_id(text: str) -> bool:
    """Whether ``text`` can be the id of an event."""
    return _ID.fullmatch(text) is not None


class EventFeed:
    """Follows jobs over shared subscriptions, one for each shard of the jobs."""

    def __init__(self, subscribers: Sequence[Subscriber], jobs: JobStateManager) -> None:
        self._subscribers = subscribers
        self._jobs = jobs

    async def follow(
        self, run_id: str, last_id: str | None = None
    ) -> AsyncGenerator[JobEvent, None]:
        """Events after ``last_id``, until the job's end.

        Whenever a message may have been missed, the record is read: what it says now stands for
        all that led there. Raises :class:`UnknownJob`.
        """
        news: asyncio.Queue[JobEvent | None] = asyncio.Queue(_BACKLOG)

        def hear(event: JobEvent | None) -> None:
            if news.full():  # a slow reader: let it read the record instead
                while not news.empty():
                    news.get_nowait()
                event = None
            news.put_nowait(event)

        async def resync() -> None:
            hear(None)

        listener = Listener(lambda message: hear(JobEvent.parse(message)), resync)
        shard = self._jobs.shard_of(run_id)
        channel = self._jobs.shards[shard].keys.events_channel(run_id)
        subscriber = self._subscribers[shard]
        seen = int(last_id or 0)
        hear(None)
        try:
            await subscriber.add(channel, listener)
            while True:
                event = await news.get()
                coming: list[JobEvent] | None = [event] if event else []
                if event is None or event.number > seen + 1:
                    coming = await self._jobs.follow(run_id)
                if coming is None:
                    raise UnknownJob(run_id)
                for item in coming:
                    if item.number > seen:
                        seen = item.number
                        yield _dated(item)
                    if item.type == "end":
                        return
        finally:
            await subscriber.remove(channel, listener)


def _dated(event: JobEvent) -> JobEvent:
    """The scripts write milliseconds; people read ISO 8601."""
    if event.type == "progress":
        return event
    data = _AT.sub(lambda match: f'"at":"{iso(from_ms(int(match[1])))}"', event.data)
    return msgspec.structs.replace(event, data=data)
