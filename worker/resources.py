"""What the functions of asynchronous kinds share in a worker: pools, clients, models in memory.

    @resource
    async def database():
        async with asyncpg.create_pool(DSN) as pool:
            yield pool

A worker opens each before it claims its first job and closes it after its last one; a job gets it
by ``context.resource(database)``. Services open none, nor do the processes of CPU-bound jobs.
"""

import asyncio
import inspect
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Iterable
from contextlib import AbstractAsyncContextManager, AsyncExitStack, asynccontextmanager
from typing import Any, Generic, TypeVar

from control import logs
from control.errors import ConfigError, DrawbridgeError
from worker.jobs.kinds import imported

T = TypeVar("T")


class NotOpened(DrawbridgeError):
    """A resource could not be opened, so the worker does not start; whoever runs it tries again."""


class Resource(Generic[T]):
    """Something that a worker opens once; made by :func:`resource`."""

    def __init__(self, function: Callable[[], AsyncIterator[T]]) -> None:
        self.name = function.__name__
        self.module = function.__module__
        self._function = function

    def open(self) -> AbstractAsyncContextManager[T]:
        """Opens it for the length of an ``async with``."""
        return asynccontextmanager(self._function)()

    def __str__(self) -> str:
        return f"the resource {self.name}"


def resource(function: Callable[[], AsyncIterator[T]]) -> Resource[T]:
    """Declare an async generator function that yields once as a resource of every worker.

    Raises :class:`ConfigError`.
    """
    if not inspect.isasyncgenfunction(function) or inspect.signature(function).parameters:
        name = getattr(function, "__name__", repr(function))
        raise ConfigError(f"resource {name}: must be an async function without parameters that "
                          "yields")  # fmt: skip
    return Resource(function)


@asynccontextmanager
async def opened(modules: Iterable[str]) -> AsyncGenerator[dict[Any, Any], None]:
    """What ``modules`` declare, open, by declaration; closed the other way round.

    Raises :class:`NotOpened`. What one raises when it closes is logged, and the others close too.
    """
    found: dict[Any, Any] = {}
    async with AsyncExitStack() as stack:
        for declared in _declared(modules):
            found[declared] = await stack.enter_async_context(_held(declared))
        yield found


def _declared(modules: Iterable[str]) -> list[Resource[Any]]:
    """In the order of their declaration, each once; also those that another module defined."""
    return list(
        dict.fromkeys(
            value
            for name in modules
            for value in vars(imported(name)).values()
            if isinstance(value, Resource)
        )
    )


@asynccontextmanager
async def _held(declared: Resource[T]) -> AsyncGenerator[T, None]:
    log = logs.get(__name__)
    opening = declared.open()
    try:
        value = await opening.__aenter__()
    except Exception as error:
        log.exception("resource did not open", resource=declared.name)
        raise NotOpened(f"{declared} did not open: {type(error).__name__}: {error}") from error
    log.info("resource open", resource=declared.name)
    try:
        yield value
    finally:
        try:
            await opening.__aexit__(None, None, None)
        except asyncio.CancelledError:
            raise
        except Exception:
            log.exception("resource did not close", resource=declared.name)
