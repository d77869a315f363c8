"""Celery, with Redis as broker and result backend."""

import os
from typing import Any

import noop
import redis
from celery import Celery

URL = os.environ["REDIS_URL"]
_EDGE = 100

app = Celery("bench", broker=URL, backend=URL)
"""For `celery -A on_celery worker`."""

app.conf.update(
    task_serializer="json",
    worker_prefetch_multiplier=500,
    worker_disable_rate_limits=True,
    result_expires=3600,
    broker_connection_retry_on_startup=True,
    task_send_sent_event=False,
    worker_send_task_events=False,
)


@app.task(name="job")
def job(slot: int) -> int:
    """The job. Celery knows no asynchronous ones."""
    return noop.run(slot)


class Client:
    """Submits with ``apply_async`` on one producer. There is no call for many."""

    async def open(self) -> None:
        """Connect."""
        self._redis = redis.Redis.from_url(URL)
        self._producer = app.amqp.producer_pool.acquire(block=True)

    async def close(self) -> None:
        """Disconnect."""
        self._producer.release()
        self._redis.close()

    async def submit(self, slot: int) -> Any:
        """One job."""
        return job.apply_async((slot,), producer=self._producer)

    async def finished(self, handles: list[Any]) -> int:
        """Jobs end in about the order of their submission: look at both ends of the line."""
        first, last = handles[:_EDGE], handles[-_EDGE:]
        if self._stored(last) == len(last):
            return len(handles)
        return self._stored(first)

    async def result(self, handle: Any) -> int | None:
        """As it is stored."""
        return handle.result if handle.ready() else None

    def _stored(self, handles: list[Any]) -> int:
        return self._redis.exists(*(f"celery-task-meta-{handle.id}" for handle in handles))
