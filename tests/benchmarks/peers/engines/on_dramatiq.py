"""dramatiq, with its Redis broker and result backend."""

import os
from typing import Any

import dramatiq
import noop
import redis
from dramatiq.brokers.redis import RedisBroker
from dramatiq.results import ResultMissing, Results
from dramatiq.results.backends import RedisBackend

URL = os.environ["REDIS_URL"]

broker = RedisBroker(url=URL)
broker.add_middleware(Results(backend=RedisBackend(url=URL), store_results=True))
dramatiq.set_broker(broker)


@dramatiq.actor
def job(slot: int) -> int:
    """The job."""
    return noop.run(slot)


class Client:
    """Submits with ``send``. There is no call for many."""

    async def open(self) -> None:
        """Connect."""
        self._redis = redis.Redis.from_url(URL)

    async def close(self) -> None:
        """Disconnect."""
        self._redis.close()

    async def submit(self, slot: int) -> Any:
        """One job."""
        return job.send(slot)

    async def finished(self, handles: list[Any]) -> int:
        """A message is deleted once its result is stored."""
        return len(handles) - self._redis.hlen("dramatiq:default.msgs")

    async def result(self, handle: Any) -> int | None:
        """As it is stored."""
        try:
            return handle.get_result()
        except ResultMissing:
            return None
