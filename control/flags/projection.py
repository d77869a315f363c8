"""The flags in Redis: what the scripts of the job engine and readers beside Drawbridge see."""

import asyncio
import functools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from importlib.resources import files
from typing import Any

import msgspec
from redis.asyncio import Redis
from redis.exceptions import ResponseError

from control import keys, logs
from control.clock import Clock
from control.errors import StoreUnavailable
from control.flags import document as documents
from control.flags import events
from control.flags.document import Document, Position
from control.job_keys import JobKeys
from control.stores.redis import guard, outage
from control.stores.scripts import Script
from control.stores.servers import Spread
from control.stores.wire import Wire


@functools.cache
def texts() -> Mapping[str, str]:
    """The Lua scripts of the control plane by name."""
    folder = files(__package__).joinpath("lua")
    return {item.name.removesuffix(".lua"): item.read_text() for item in folder.iterdir()}


@dataclass(frozen=True)
class _Copy:
    """A hash that holds flags, and the strings that are written with it in one step."""

    project: Script
    key: str
    flags: tuple[str, ...]
    statuses: tuple[str, ...] = ()


@dataclass(frozen=True)
class _Told:
    """What is to be written, and what is to be published with it, if anything."""

    document: Document
    encoded: bytes
    answer: bytes
    repeated: bytes


class Projection:
    """Writes the projection and reads it. Raises :class:`control.errors.StoreUnavailable`.

    On one server all of it is one hash with the strings beside it, written and published in one
    step. On a Cluster (``spread``) each of these lies elsewhere. Every copy is written by the same
    script, so that none ever goes back; the last of them, where instances listen, publishes, so
    that what is published has been projected wherever jobs are (``shards``). What fails in between
    is the beacon's to mend.
    """

    def __init__(
        self,
        redis: Redis,
        clock: Clock,
        *,
        wire: Wire | None = None,
        spread: Spread | None = None,
        shards: Sequence[JobKeys] = (JobKeys(),),
    ) -> None:
        self._redis: Any = redis
        self._clock = clock
        self._project = Script(wire or redis, texts()["project"])
        self._apart = None if spread is None else Script(spread, texts()["project"])
        self._shards = shards
        self._key = keys.FLAGS if spread is None else keys.HOME_FLAGS
        self._log = logs.get(__name__)

    async def read(self) -> Document | None:
        """The document in Redis; ``None`` where there is none that can be read."""
        return (await self.snapshot())[0]

    async def snapshot(self) -> tuple[Document | None, str]:
        """The same, and which run of a server it came from; ``""`` where that is not told."""
        pipeline = self._redis.pipeline(transaction=False).hget(self._key, "document")
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
        told = _Told(
            document, documents.encode(document), answer,
            events.of_document(document, self._clock.now()),
        )  # fmt: skip
        names = tuple(sorted(document.flags))
        if self._apart is None:
            return await self._write(_Copy(self._project, keys.FLAGS, names, names), told)
        silent = replace(told, answer=b"", repeated=b"")
        ahead = await asyncio.gather(
            *(self._write(_Copy(self._apart, each.flags, names), silent) for each in self._shards)
        )
        await self._write_statuses(names, silent)
        ahead.append(await self._write(_Copy(self._project, keys.HOME_FLAGS, names), told))
        return max((position for position in ahead if position is not None), default=None)

    async def _write_statuses(self, names: Sequence[str], told: "_Told") -> None:
        """Each beside a copy of its own. One that cannot be written is nobody's hindrance."""
        assert self._apart is not None  # noqa: S101 - where there is one server nobody asks
        copies = [_Copy(self._apart, keys.status_copy(name), (name,), (name,)) for name in names]
        told = replace(told, encoded=b"")
        ends = await asyncio.gather(
            *(self._write(copy, told) for copy in copies), return_exceptions=True
        )
        for name, end in zip(names, ends, strict=True):
            if isinstance(end, StoreUnavailable):
                self._log.warning("status not projected", flag=name, reason=end.reason)
            elif isinstance(end, BaseException):
                raise end

    async def _write(self, copy: _Copy, told: "_Told") -> Position | None:
        """The position of a copy that is newer, else ``None``."""
        document = told.document
        words = {name: str(document.is_active(name)).lower() for name in copy.flags}
        verdict, epoch, version = await copy.project(
            [copy.key, *map(keys.status, copy.statuses)],
            [
                document.epoch,
                document.version,
                told.encoded,
                keys.EVENTS_CHANNEL,
                told.answer,
                told.repeated,
                *(part for word in words.items() for part in word),
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
