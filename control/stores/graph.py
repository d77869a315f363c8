"""Neo4j over Bolt through its official driver, and its faults as one error.

The name of the database goes with every session: other servers of the Bolt protocol ask for it.
Bolt may answer before the database does, so only a query proves anything.
"""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from types import TracebackType
from typing import Any, Self, TypeVar

from control.config import GraphSection
from control.errors import ConfigError, StoreUnavailable
from control.imports import deferred, without
from control.stores import driver_tables

# The driver loads these to take their values as parameters, which nobody here gives it; and half of
# it is a twin that knows no asyncio.
with (
    without("numpy", "pandas", "pyarrow"),
    deferred("neo4j._sync.driver", "neo4j._sync.work"),
):
    from neo4j import (
        AsyncDriver,
        AsyncGraphDatabase,
        AsyncManagedTransaction,
        AsyncSession,
        Record,
        RoutingControl,
    )
    from neo4j.exceptions import (
        AuthError,
        ConfigurationError,
        ConnectionAcquisitionTimeoutError,
        DriverError,
        Neo4jError,
        ServiceUnavailable,
        SessionExpired,
        TransientError,
    )

driver_tables.compute()

T = TypeVar("T")

ACQUIRE_S = 3.0
RETRY_S = 5.0
QUERY_S = 30.0


def driver(
    section: GraphSection,
    *,
    acquire_s: float = ACQUIRE_S,
    pool_size: int = 10,
    retry_s: float = RETRY_S,
) -> AsyncDriver:
    """A driver that connects lazily. Raises :class:`ConfigError` for an address it cannot use."""
    try:
        return AsyncGraphDatabase.driver(
            section.uri,
            auth=(section.user, section.password) if section.user else None,
            connection_timeout=acquire_s,
            connection_acquisition_timeout=acquire_s,
            max_transaction_retry_time=retry_s,
            max_connection_pool_size=pool_size,
            notifications_min_severity="OFF",
            telemetry_disabled=True,
            user_agent="drawbridge",
        )
    except (ConfigurationError, ValueError):
        raise ConfigError("NEO4J_URI cannot be read as the address of a Neo4j") from None


class Graph:
    """The application's access to Neo4j. Opens without the server; the first use connects.

    Every method raises :class:`StoreUnavailable` where Neo4j cannot be used right now, after
    ``query_s`` at the latest; transient faults are retried for ``retry_s``.
    """

    def __init__(
        self, section: GraphSection, *, query_s: float = QUERY_S, retry_s: float = RETRY_S
    ) -> None:
        self._section = section
        self._query_s = query_s
        self._retry_s = retry_s
        self._driver: AsyncDriver | None = None

    async def __aenter__(self) -> Self:
        self._driver = driver(self._section, retry_s=self._retry_s)
        return self

    async def __aexit__(
        self,
        _kind: type[BaseException] | None,
        _error: BaseException | None,
        _trace: TracebackType | None,
    ) -> None:
        opened, self._driver = self._driver, None
        if opened is not None:
            await close(opened)

    async def read(self, query: str, **parameters: Any) -> list[dict[str, Any]]:
        """The records of a reading query, as mappings."""
        return await self._execute(query, RoutingControl.READ, parameters)

    async def write(self, query: str, **parameters: Any) -> list[dict[str, Any]]:
        """The records of a writing query, in a transaction that may run more than once."""
        return await self._execute(query, RoutingControl.WRITE, parameters)

    async def rows(self, query: str, **parameters: Any) -> list[tuple[Any, ...]]:
        """The records of a reading query as tuples, for pages of many rows."""
        return [
            tuple(record) for record in await self._records(query, RoutingControl.READ, parameters)
        ]

    async def transact(self, work: Callable[[AsyncManagedTransaction], Awaitable[T]]) -> T:
        """What ``work`` returns, done in one transaction. It may be run more than once; what it
        raises undoes the transaction."""
        async with self.session() as session:
            return await session.execute_write(work)

    @contextlib.asynccontextmanager
    async def session(self) -> AsyncIterator[AsyncSession]:
        """A session for the block, the whole block within ``query_s``."""
        with guard():
            async with (
                asyncio.timeout(self._query_s),
                self._open().session(database=self._section.database) as session,
            ):
                yield session

    async def _execute(
        self, query: str, routing: RoutingControl, parameters: dict[str, Any]
    ) -> list[dict[str, Any]]:
        return [record.data() for record in await self._records(query, routing, parameters)]

    async def _records(
        self, query: str, routing: RoutingControl, parameters: dict[str, Any]
    ) -> list[Record]:
        with guard():
            async with asyncio.timeout(self._query_s):
                answer = await self._open().execute_query(
                    query,
                    parameters,
                    routing_=routing,
                    database_=self._section.database,
                )
        return answer.records

    def _open(self) -> AsyncDriver:
        if self._driver is None:
            raise RuntimeError("the graph is used outside its `async with`")
        return self._driver


async def close(opened: AsyncDriver, *, within_s: float = 1.0) -> None:
    """Close a driver; a server that does not answer its goodbye is left behind."""
    with contextlib.suppress(TimeoutError, OSError, DriverError):
        async with asyncio.timeout(within_s):
            await opened.close()


@contextlib.contextmanager
def guard() -> Iterator[None]:
    """Turn the errors of an unusable Neo4j into :class:`StoreUnavailable`.

    Errors that are our own fault (a wrong query, a violated constraint) pass unchanged.
    """
    try:
        yield
    except (Neo4jError, DriverError, OSError) as error:
        reason = outage(error)
        if reason is None:
            raise
        raise StoreUnavailable("neo4j", reason) from error


def outage(error: BaseException) -> str | None:
    """Why Neo4j is unusable, in a few safe words; ``None`` if ``error`` means something else."""
    match error:
        case TimeoutError() | ConnectionAcquisitionTimeoutError():
            return "timeout"
        case AuthError():
            return "authentication failed"
        case ServiceUnavailable() | SessionExpired() | OSError():
            return "connection failed"
        case TransientError():
            return "overloaded or not ready"
        case Neo4jError() if error.code == "Neo.ClientError.Database.DatabaseNotFound":
            return "the database does not exist"
    return None
