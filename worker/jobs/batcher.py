"""Many small requests that come at the same time become one command."""

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable
from typing import Generic, TypeVar

Item = TypeVar("Item")
Answer = TypeVar("Answer")


class Batcher(Generic[Item, Answer]):
    """Collects what is asked for while the command before is under way, then sends all of it.

    ``send`` gets up to ``most`` items, whose ``weight`` together stays below ``heaviest`` (a single
    item may exceed it), and answers for each, in order. Nothing waits on a timer: the first item of
    a quiet batcher leaves on the next turn of the loop.
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
        self._sender: asyncio.Task[None] | None = None

    async def __call__(self, item: Item) -> Answer:
        """Send ``item`` with the next batch; its answer, or the error of the whole batch."""
        answer: asyncio.Future[Answer] = asyncio.get_running_loop().create_future()
        self._waiting.append((item, answer))
        if self._sender is None:
            self._sender = asyncio.create_task(self._send_all())
        return await answer

    async def _send_all(self) -> None:
        try:
            while self._waiting:
                if not (batch := self._next()):
                    return
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
            self._sender = None

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
