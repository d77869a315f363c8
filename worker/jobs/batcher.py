"""Many small requests that come at the same time become one command."""

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable
from typing import Generic, TypeVar

Item = TypeVar("Item")
Answer = TypeVar("Answer")
_UNDER_WAY = 2


class Batcher(Generic[Item, Answer]):
    """Collects what is asked for while commands are under way, then sends all of it.

    ``send`` gets up to ``most`` items, whose ``weight`` together stays below ``heaviest`` (a single
    item may exceed it), and answers for each, in order. Nothing waits on a timer: what comes first
    leaves at once, in its caller's own task. Two commands may be under way, so that the next one
    is made while Redis works on the one before.
    """

    def __init__(
        self,
        send: Callable[[list[Item]], Awaitable[list[Answer]]],
        *,
        most: int = 256,
        weight: Callable[[Item], int] = lambda _item: 0,
        heaviest: int = 8 << 20,
    ) -> None:
        self._send = send
        self._most = most
        self._weight = weight
        self._heaviest = heaviest
        self._waiting: deque[tuple[Item, asyncio.Future[Answer]]] = deque()
        self._under_way = 0
        self._senders: set[asyncio.Task[None]] = set()

    async def __call__(self, item: Item) -> Answer:
        """Send ``item`` with the next batch; its answer, or the error of the whole batch."""
        if self._under_way == 0:
            self._under_way = 1
            try:
                [only] = await self._send([item])
                return only
            finally:
                self._done()
        answer: asyncio.Future[Answer] = asyncio.get_running_loop().create_future()
        self._waiting.append((item, answer))
        if self._under_way < _UNDER_WAY:
            self._under_way += 1
            self._start()
        return await answer

    def _done(self) -> None:
        """One command fewer is under way: send what waits in its place."""
        if self._waiting:
            self._start()
        else:
            self._under_way -= 1

    def _start(self) -> None:
        sender = asyncio.create_task(self._send_all())
        self._senders.add(sender)
        sender.add_done_callback(self._senders.discard)

    async def _send_all(self) -> None:
        try:
            while batch := self._next():
                try:
                    answers = await self._send([item for item, _ in batch])
                except Exception as error:
                    for _, future in batch:
                        if not future.done():
                            future.set_exception(error)
                else:
                    for (_, future), answer in zip(batch, answers, strict=True):
                        if not future.done():
                            future.set_result(answer)
        finally:
            self._under_way -= 1

    def _next(self) -> list[tuple[Item, asyncio.Future[Answer]]]:
        """The next batch; without the items whose callers have given up waiting."""
        batch: list[tuple[Item, asyncio.Future[Answer]]] = []
        load = 0
        while self._waiting and len(batch) < self._most:
            item, answer = self._waiting[0]
            load += 0 if answer.done() else self._weight(item)
            if batch and load > self._heaviest:
                break
            self._waiting.popleft()
            if not answer.done():
                batch.append((item, answer))
        return batch
