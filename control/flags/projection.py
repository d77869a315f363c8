"""The flags in Redis: what the scripts of the job engine and readers beside Drawbridge see."""

import functools
from collections.abc import Mapping
from importlib.resources import files
from typing import Any

import msgspec
from redis.asyncio import Redis
from redis.exceptions import ResponseError

from control import keys, logs
from control.clock import Clock
from control.flags import document as documents
from control.flags import events
from control.flags.document import Document, Position
from control.stores.redis import guard, outage
from control.stores.scripts import Script
from control.stores.wire import Wire


@functools.cache
def texts() -> Mapping[str, str]:
    """The Lua scripts of the control plane by name."""
    folder = files(__package__).joinpath("lua")
    return {item.name.removesuffix(".lua"): item.read_text() for item in folder.iterdir()}


class Projection:
    """Writes the projection and reads it. Raises :class:`control.errors.StoreUnavailable`."""

    def __init__(self, redis: Redis, clock: Clock, *, wire: Wire | None = None) -> None:
        self._redis: Any = redis
        self._clock = clock
        self._project = Script(wire or redis, texts()["project"])
        self._log = logs.get(__name__)

    async def read(self) -> Document | None:
        """The document in Redis; ``None`` where there is none that can be read."""
        return (await self.snapshot())[0]

    async def snapshot(self) -> tuple[Document | None, str]:
        """The same, and which run of a server it came from; ``""`` where that is not told."""
        pipeline = self._redis.pipeline(transaction=False).hget(keys.FLAGS, "document")
        with guard():
            stored, server = await pipeline.info("server").execute(raise_on_error=False)
            for failure in (stored, server):
                if isinstance(failure, Exception) and _grave(failure):
                    raise failure
        try:
            found = documents.decode(stored) if isinstance(stored, bytes) else None
        except msgspec.DecodeError:
            self._log.warning("the projection cannot be read")
            found = None
        return found, server.get("run_id", "") if isinstance(server, dict) else ""

    async def write(self, document: Document, answer: bytes = b"") -> Position | None:
        """Project ``document`` where Redis lacks it, and publish.

        ``answer`` is the event that somebody waits for; without one the document itself is
        published, if anything had to be written. Returns the position of a projection that is
        newer than ``document``, else ``None``.
        """
        named = sorted(document.flags.items())
        repeated = events.of_document(document, self._clock.now())
        verdict, epoch, version = await self._project(
            [keys.FLAGS, *(keys.status(name) for name, _ in named)],
            [
                document.epoch,
                document.version,
                documents.encode(document),
                keys.EVENTS_CHANNEL,
                answer,
                repeated,
                *(part for name, flag in named for part in (name, str(flag.is_active).lower())),
            ],
        )
        return Position(int(epoch), int(version)) if verdict == b"newer" else None

    async def say(self, event: bytes) -> None:
        """Publish an event."""
        with guard():
            await self._redis.publish(keys.EVENTS_CHANNEL, event)


def _grave(error: Exception) -> bool:
    """Whether ``error`` is more than a key of another type or a command that is not allowed."""
    return outage(error) is not None or not isinstance(error, ResponseError)
