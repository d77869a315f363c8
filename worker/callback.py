"""The ``callback`` kind: posts to the URL that a job named what became of it.

Such a job is made where the other one ends (``conclude`` in ``records.lua``), and is one like any
other: leased, fenced, retried, drained, listed. Its ``parent`` is the job that it tells of, its run
id the id of the message.
"""

from __future__ import annotations

from datetime import datetime
from typing import TYPE_CHECKING, Any

import msgspec

from control.errors import DrawbridgeError, InvalidInput
from worker.jobs import stored
from worker.jobs.job import JobRecord
from worker.jobs.kinds import job

if TYPE_CHECKING:
    from worker.context import JobContext

KIND = "callback"


class Ending(msgspec.Struct, frozen=True):
    """The job that ended: where to tell of it, and the fields of its hash in Redis."""

    run_id: str
    url: str
    fields: dict[str, str]

    def record(self) -> JobRecord:
        """Its record as it was at its end. Raises :class:`InvalidInput` where it is spoilt."""
        values = [self.fields.get(name) for name in stored.FIELDS]
        found = stored.record(self.run_id, [value.encode() if value else None for value in values])
        if found is None:
            raise InvalidInput("the record of the job cannot be read")
        return found


class Event(msgspec.Struct, frozen=True):
    """The message: ``type`` is job.completed, job.failed or job.cancelled; ``data`` the record."""

    type: str
    timestamp: datetime | None
    data: JobRecord


class NotDelivered(DrawbridgeError):
    """The receiver did not take it. Another attempt follows after ``retry_in_s``."""

    def __init__(self, why: str, retry_in_s: float) -> None:
        super().__init__(why)
        self.retry_in_s = retry_in_s


class Undeliverable(DrawbridgeError):
    """The receiver will not take it, or must not get it, however often it is tried."""


@job(KIND, payload=Ending, retry_on=(NotDelivered,), max_attempts=10, internal=True)
async def callback(context: JobContext, payload: Ending) -> dict[str, Any]:
    """Post the record once. Raises :class:`NotDelivered` and :class:`Undeliverable`."""
    # Not at the top: it would slow down the start of every CPU-bound job's process.
    from control.webhooks.sender import GONE, NotAnswered, Sender, wait_s  # noqa: PLC0415

    record = payload.record()
    event = Event(f"job.{record.status}", record.finished_at, record)
    try:
        answer = await context.resource(Sender).post(
            payload.url, context.run_id, msgspec.json.encode(event)
        )
    except NotAnswered as error:
        if error.final:
            raise Undeliverable(str(error)) from None
        raise NotDelivered(str(error), wait_s(context.attempt)) from None
    if answer.status == GONE:
        raise Undeliverable("answered 410: gone")
    if not answer.taken:
        later_s = wait_s(context.attempt, answer.retry_after_s)
        raise NotDelivered(f"answered {answer.status}", later_s)
    return {"status": answer.status}
