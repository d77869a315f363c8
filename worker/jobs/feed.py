"""The events of a job: what is stored, then what comes, without a gap or a repetition."""

import asyncio
import re
from collections.abc import AsyncGenerator

import msgspec

from control import keys
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
    """Follows jobs over one shared subscription."""

    def __init__(self, subscriber: Subscriber, jobs: JobStateManager) -> None:
        self._subscriber = subscriber
        self._jobs = jobs

    async def follow(
        self, run_id: str, last_id: str | None = None
    ) -> AsyncGenerator[JobEvent, None]:
        """Events after ``last_id``, until the job's end.

        A message is only a hint to go on: whenever one may have been missed, the stored stream is
        read again from the last event that was passed on. Raises :class:`UnknownJob`.
        """
        hints: asyncio.Queue[JobEvent | None] = asyncio.Queue(_BACKLOG)

        def hint(event: JobEvent | None) -> None:
            if hints.full():  # a slow reader: let it read the stored stream instead
                while not hints.empty():
                    hints.get_nowait()
                event = None
            hints.put_nowait(event)

        async def resync() -> None:
            hint(None)

        listener = Listener(lambda message: hint(JobEvent.parse(message)), resync)
        channel = keys.events_channel(run_id)
        seen = int(last_id or 0)
        hint(None)
        try:
            await self._subscriber.add(channel, listener)
            while True:
                event = await hints.get()
                coming, ended = [event] if event else [], False
                if event is None or event.number > seen + 1:
                    record = await self._jobs.get_job(run_id)
                    if record is None:
                        raise UnknownJob(run_id)
                    ended = record.status.finished
                    coming = await self._jobs.events_after(run_id, str(seen))
                for item in coming:
                    if item.number <= seen:
                        continue
                    seen = item.number
                    yield _dated(item)
                    if item.type == "end":
                        return
                if ended:
                    return
        finally:
            await self._subscriber.remove(channel, listener)


def _dated(event: JobEvent) -> JobEvent:
    """The scripts write milliseconds; people read ISO 8601."""
    if event.type == "progress":
        return event
    data = _AT.sub(lambda match: f'"at":"{iso(from_ms(int(match[1])))}"', event.data)
    return msgspec.structs.replace(event, data=data)
