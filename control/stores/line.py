"""A connection to Redis that redis-py makes and we read.

redis-py knows the address, TLS, login and sentinels; but a message through it costs its process
several times what it costs Redis. So its transport is taken over once it is logged in. The
connection still belongs to the client's pool: who closes the client closes it.
"""

import asyncio
from typing import Any

import hiredis
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import RedisError, ResponseError

Argument = str | bytes | int | float


class Line(asyncio.Protocol):
    """One connection of redis-py's while it lasts. What Redis says comes to :meth:`told`, in
    order and within the event loop's own callback; :meth:`gone` is called once, at the end."""

    def __init__(self, connection: Any) -> None:
        self._transport = connection._writer.transport
        self._before: asyncio.Protocol = self._transport.get_protocol()
        self._reader = hiredis.Reader(replyError=ResponseError, notEnoughData=Ellipsis)
        self._loop = asyncio.get_running_loop()
        self.heard_at = 0.0
        """When the last byte was read, on the loop's clock."""
        self.error: RedisError = RedisConnectionError("the connection was lost")
        """Why it ended, or will have."""
        self._transport.set_protocol(self)

    def told(self, said: Any) -> None:
        """Take one answer or message: bytes, numbers, lists, ``None`` or a ``ResponseError``."""
        raise NotImplementedError

    def gone(self) -> None:
        """The connection is no more."""
        raise NotImplementedError

    @property
    def up(self) -> bool:
        """Whether commands can be sent."""
        return not self._transport.is_closing()

    def send(self, *command: Argument) -> None:
        """Write a command; its answer comes to :meth:`told`."""
        self._transport.write(hiredis.pack_command(command))  # type: ignore[arg-type]

    def abort(self, error: RedisError | None = None) -> None:
        """Break it off."""
        self.error = error or self.error
        self._transport.abort()

    def data_received(self, data: bytes) -> None:
        self.heard_at = self._loop.time()
        self._reader.feed(data)
        while (said := self._reader.gets()) is not Ellipsis:
            self.told(said)

    def connection_lost(self, exc: Exception | None) -> None:
        self.gone()
        self._before.connection_lost(exc)

    def pause_writing(self) -> None:
        self._before.pause_writing()

    def resume_writing(self) -> None:
        self._before.resume_writing()
