"""One connection to Redis that many callers share: commands go out as they come, answers come back
in order, and nobody waits for somebody else's round trip.
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
from control.stores.line import Argument, Line
from control.stores.redis import outage

_AGAIN_S = 0.05
_NOT_HERE = ("READONLY", "MASTERDOWN", "MOVED", "CLUSTERDOWN")


class Wire:
    """Commands on one connection of ``redis``'s pool, made when it is first needed."""

    def __init__(self, redis: Redis, *, timeout_s: float | None = None) -> None:
        self._pool: Any = redis.connection_pool
        self._timeout_s = timeout_s
        self._connection: Any = None
        self._link: _Link | None = None
        self._connecting = asyncio.Lock()
        self._drops = 0

    async def __call__(self, *command: Argument, again: bool = True) -> Any:
        """Redis's answer: bytes, whole numbers, lists and ``None``.

        A connection that broke is made anew, and a command that was lost with it is sent
        ``again``: false for what must not happen twice. Raises :class:`StoreUnavailable`, and
        redis-py's :class:`ResponseError` for what Redis finds wrong with the command itself.
        """
        try:
            try:
                link = self._link if self._link and self._link.up else await self._connect()
                return await self._ask(link, command)
            except RedisConnectionError:
                if not again:
                    raise
            except ResponseError as error:
                if not str(error).startswith("MOVED"):
                    raise
                # It was not carried out, and the next connection is to where its keys are now.
            return await self._ask(await self._connect(), command)
        except (RedisError, OSError) as error:
            reason = outage(error)
            if reason is None:
                raise
            raise StoreUnavailable("redis", reason) from error

    def drop(self) -> None:
        """Break the connection off, and with it what is under way; the next command makes a new
        one. What still waits for a connection is under way too."""
        self._drops += 1
        if self._link is not None:
            self._link.abort()

    async def aclose(self) -> None:
        """Close the connection."""
        if self._connection is not None:
            await self._connection.disconnect(nowait=True)

    async def _ask(self, link: "_Link", command: tuple[Argument, ...]) -> Any:
        return await link.ask(*command)

    async def _connect(self) -> "_Link":
        drops = self._drops
        async with self._connecting:
            if self._link is not None and self._link.up:
                return self._link
            if self._connection is None:
                self._connection = await self._pool.get_connection()
            else:
                await self._connection.disconnect(nowait=True)
                await self._connection.connect()
            timeout_s = self._timeout_s or self._connection.socket_timeout
            self._link = _Link(self._connection, timeout_s)
            if drops != self._drops:
                self._link.abort()
                raise self._link.error
            return self._link


class ReplicatedWire(Wire):
    """Each command is one that writes, and is answered once ``replicas`` have the write too.

    Where fewer have it after ``within_s``, the call raises :class:`StoreUnavailable`, and the write
    stands all the same. Nobody else's commands should be on this wire: they would wait as well.
    """

    def __init__(self, redis: Redis, *, replicas: int, within_s: float) -> None:
        super().__init__(redis)
        self._replicas = replicas
        self._within_ms = int(within_s * 1000)

    async def _ask(self, link: "_Link", command: tuple[Argument, ...]) -> Any:
        # On the same connection: Redis waits for what came over it.
        both = link.ask(*command), link.ask("WAIT", self._replicas, self._within_ms)
        answers: Any = await asyncio.gather(*both, return_exceptions=True)
        for error in answers:
            if isinstance(error, BaseException):
                raise error
        answer, reached = answers
        if reached < self._replicas:
            had = f"{reached} of {self._replicas} replicas have it in time"
            raise StoreUnavailable("redis", f"{had}; it may stand all the same")
        return answer


class _Link(Line):
    """The connection while it lasts. Nothing heard for ``timeout_s`` while an answer is due ends
    it, ``None`` never."""

    def __init__(self, connection: Any, timeout_s: float | None) -> None:
        super().__init__(connection)
        self._timeout_s = timeout_s
        self._due: deque[tuple[float, asyncio.Future[Any]]] = deque()
        self._suspected_at: float | None = None
        self._watch: asyncio.TimerHandle | None = None

    def ask(self, *command: Argument) -> asyncio.Future[Any]:
        """Its answer; or what broke the connection."""
        answer: asyncio.Future[Any] = self._loop.create_future()
        self._due.append((self._loop.time(), answer))
        if self._watch is None and self._timeout_s is not None:
            self._watch = self._loop.call_later(self._timeout_s, self._look)
        self.send(*command)
        return answer

    def told(self, said: Any) -> None:
        if isinstance(said, hiredis.PushNotification):
            return
        _, answer = self._due.popleft()
        if answer.done():  # its caller has gone
            return
        if isinstance(said, ResponseError):
            answer.set_exception(said)
            if str(said).startswith(_NOT_HERE):
                self.abort()  # the next connection is to whoever is the master by then
        else:
            answer.set_result(said)

    def gone(self) -> None:
        if self._watch is not None:
            self._watch.cancel()
        for _, answer in self._due:
            if not answer.done():
                answer.set_exception(self.error)
        self._due.clear()

    def _look(self) -> None:
        """End the connection where an answer is overdue."""
        self._watch = None
        owed = next(itertools.dropwhile(lambda due: due[1].done(), self._due), None)
        if owed is None:
            return
        assert self._timeout_s is not None  # noqa: S101 - nobody watches without
        now = self._loop.time()
        left_s = max(owed[0], self.heard_at) + self._timeout_s - now
        if left_s <= 0:
            if self._suspected_at is not None and self._suspected_at >= self.heard_at:
                self.abort(RedisTimeoutError("no answer in time"))
                return
            # A process that was held has its timers before its answers: read those first.
            self._suspected_at, left_s = now, _AGAIN_S
        self._watch = self._loop.call_later(left_s, self._look)
