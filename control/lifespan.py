"""The life of a process: ordered start, supervised tasks, signals, ordered stop.

    async with Lifespan() as life:
        store = await life.enter(open_store(...))
        life.supervise("heartbeats", heart.beat())
        await life.stopping()

Leaving the block ends the supervised tasks, the newest first, each entered resource in its turn.
"""

import asyncio
import signal
from collections.abc import Coroutine
from contextlib import AbstractAsyncContextManager, AsyncExitStack
from types import TracebackType
from typing import Any, Self, TypeVar

from control import cancelling, logs
from control.errors import ConfigError, DrawbridgeError

T = TypeVar("T")
_SIGNALS = (signal.SIGTERM, signal.SIGINT)


def new_loop() -> asyncio.AbstractEventLoop:
    """uvloop's loop where it is installed, else Python's own."""
    try:
        import uvloop  # noqa: PLC0415 - optional
    except ImportError:
        return asyncio.new_event_loop()
    loop: asyncio.AbstractEventLoop = uvloop.new_event_loop()
    return loop


class TaskDied(DrawbridgeError):
    """A background task that should run as long as the process ended; so must the process."""


class Lifespan:
    """Owns everything that a process starts. ``signals`` can be false inside another's loop."""

    def __init__(self, *, signals: bool = True) -> None:
        self.urgent = asyncio.Event()
        """Set at the second signal: do not wait any longer for what still runs."""
        self.signal: signal.Signals | None = None
        """The first signal that came."""
        self._signals = signals
        self._stack = AsyncExitStack()
        self._stop: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._log = logs.get(__name__)

    async def __aenter__(self) -> Self:
        if self._signals:
            loop = asyncio.get_running_loop()
            for number in _SIGNALS:
                loop.add_signal_handler(number, self.request_stop, number)
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        try:
            await self._stack.__aexit__(kind, error, trace)
        finally:
            if self._signals:
                for number in _SIGNALS:
                    asyncio.get_running_loop().remove_signal_handler(number)
            if self._stop.done() and not self._stop.cancelled():
                self._stop.exception()  # seen: the caller may have left before it waited

    async def enter(self, resource: AbstractAsyncContextManager[T]) -> T:
        """Open ``resource`` now; it is closed in reverse order at the end."""
        return await self._stack.enter_async_context(resource)

    def supervise(self, name: str, work: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
        """Run ``work`` until the end. Should it end by itself, :meth:`stopping` raises."""
        task = asyncio.create_task(work, name=name)
        task.add_done_callback(self._task_ended)
        self._stack.push_async_callback(self.end, task)
        return task

    async def end(self, task: asyncio.Task[None]) -> None:
        """End a supervised task before its turn."""
        await cancelling.end(task)

    async def stopping(self) -> None:
        """Wait for a signal or :meth:`request_stop`. Raises :class:`TaskDied`, and the
        :class:`ConfigError` that a task ended with."""
        await asyncio.shield(self._stop)

    def request_stop(self, number: int | None = None) -> None:
        """Begin to stop; called a second time, stop at once."""
        if self._stop.done():
            self.urgent.set()
            return
        self.signal = signal.Signals(number) if number is not None else None
        self._log.info("stopping", signal=self.signal.name if self.signal else None)
        self._stop.set_result(None)

    def _task_ended(self, task: asyncio.Task[None]) -> None:
        if task.cancelled():
            return
        error = task.exception()
        if not isinstance(error, ConfigError):
            self._log.error("background task died", task=task.get_name(), exc_info=error)
        if self._stop.done():
            return
        if isinstance(error, ConfigError):
            self._stop.set_exception(error)
        else:
            died = TaskDied(f"the background task {task.get_name()!r} ended")
            died.__cause__ = error
            self._stop.set_exception(died)
