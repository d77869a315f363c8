"""One connection to Redis that many callers share: commands go out as they come, answers come back
in order, and nobody waits for somebody else's round trip.

redis-py makes the connection (address, TLS, login, sentinel) and this takes its transport over,
because a command through redis-py costs its process several times what it costs Redis. The
connection still belongs to the client's pool: who closes the client closes it.
"""

import asyncio
import itertools
from collections import deque
from typing import Any

import hiredis
from redis.asyncio import Redis
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import RedisError, ResponseError
from redis.exceptions import TimeoutError as RedisTimeoutError

from control.errors import StoreUnavailable
from control.stores.redis import outage

Argument = str | bytes | int | float
_AGAIN_S = 0.05


class Wire:
    """Commands on one connection of ``redis``'s pool, made when it is first needed."""

    def __init__(self, redis: Redis, *, timeout_s: float | None = None) -> None:
        self._pool: Any = redis.connection_pool
        self._timeout_s = timeout_s
        self._connection: Any = None
        self._link: _Link | None = None
        self._connecting = asyncio.Lock()

    async def __call__(self, *command: Argument, again: bool = True) -> Any:
        """Redis's answer: bytes, whole numbers, lists and ``None``.

        A connection that broke is made anew, and a command that was lost with it is sent
        ``again``: false for what must not happen twice. Raises :class:`StoreUnavailable`, and
        redis-py's :class:`ResponseError` for what Redis finds wrong with the command itself.
        """
        try:
            try:
                link = self._link if self._link and self._link.up else await self._connect()
                return await link.send(command)
            except RedisConnectionError:
                if not again:
                    raise
                return await (await self._connect()).send(command)
        except (RedisError, OSError) as error:
            reason = outage(error)
            if reason is None:
                raise
            raise StoreUnavailable("redis", reason) from error

    def drop(self) -> None:
        """Break the connection off, and with it what is under way; the next command makes a new
        one."""
        if self._link is not None:
            self._link.abort()

    async def close(self) -> None:
        """Close the connection."""
        if self._connection is not None:
            await self._connection.disconnect(nowait=True)

    async def _connect(self) -> "_Link":
        async with self._connecting:
            if self._link is not None and self._link.up:
                return self._link
            if self._connection is None:
                self._connection = await self._pool.get_connection()
            else:
                await self._connection.disconnect(nowait=True)
                await self._connection.connect()
            timeout_s = self._timeout_s or self._connection.socket_timeout
            self._link = _Link(self._connection._writer.transport, timeout_s)
            return self._link


class _Link(asyncio.Protocol):
    """The connection while it lasts. Nothing heard for ``timeout_s`` while an answer is due ends
    it, ``None`` never."""

    def __init__(self, transport: Any, timeout_s: float | None) -> None:
        self._loop = asyncio.get_running_loop()
        self._transport = transport
        self._timeout_s = timeout_s
        self._before: asyncio.Protocol = transport.get_protocol()
        self._due: deque[tuple[float, asyncio.Future[Any]]] = deque()
        self._heard_at = 0.0
        self._suspect = False
        self._watch: asyncio.TimerHandle | None = None
        self._error: RedisError = RedisConnectionError("the connection was lost")
        self._reader = hiredis.Reader(replyError=ResponseError, notEnoughData=Ellipsis)
        transport.set_protocol(self)

    @property
    def up(self) -> bool:
        """Whether commands can be sent."""
        return not self._transport.is_closing()

    def abort(self) -> None:
        """Break it off."""
        self._transport.abort()

    def send(self, command: tuple[Argument, ...]) -> asyncio.Future[Any]:
        """Its answer; or what broke the connection."""
        packed = hiredis.pack_command(command)  # type: ignore[arg-type]
        answer: asyncio.Future[Any] = self._loop.create_future()
        self._due.append((self._loop.time(), answer))
        if self._watch is None and self._timeout_s is not None:
            self._watch = self._loop.call_later(self._timeout_s, self._look)
        self._transport.write(packed)
        return answer

    def data_received(self, data: bytes) -> None:
        self._heard_at = self._loop.time()
        self._suspect = False
        self._reader.feed(data)
        while (told := self._reader.gets()) is not Ellipsis:
            if isinstance(told, hiredis.PushNotification):
                continue
            _, answer = self._due.popleft()
            if answer.done():  # its caller has gone
                continue
            if isinstance(told, ResponseError):
                answer.set_exception(told)
            else:
                answer.set_result(told)

    def connection_lost(self, exc: Exception | None) -> None:
        if self._watch is not None:
            self._watch.cancel()
        for _, answer in self._due:
            if not answer.done():
                answer.set_exception(self._error)
        self._due.clear()
        self._before.connection_lost(exc)

    def pause_writing(self) -> None:
        self._before.pause_writing()

    def resume_writing(self) -> None:
        self._before.resume_writing()

    def _look(self) -> None:
        """End the connection where an answer is overdue."""
        self._watch = None
        owed = next(itertools.dropwhile(lambda due: due[1].done(), self._due), None)
        if owed is None:
            return
        assert self._timeout_s is not None  # noqa: S101 - nobody watches without
        left_s = max(owed[0], self._heard_at) + self._timeout_s - self._loop.time()
        if left_s <= 0 and self._suspect:
            self._error = RedisTimeoutError("no answer in time")
            self._transport.abort()
            return
        if left_s <= 0:
            # A process that was held has its timers before its answers: read those first.
            self._suspect, left_s = True, _AGAIN_S
        self._watch = self._loop.call_later(left_s, self._look)
