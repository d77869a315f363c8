"""PostgreSQL through asyncpg: the pool, single connections, and its faults as one error.

Every wait is bounded by asyncpg's own timeouts: around ``pool.acquire()`` an ``asyncio.timeout``
can hang for good when the server is frozen.

A pooler such as PgBouncer may hand each transaction to another server. Then a prepared statement
has no name and no statement stands alone: parsing and running it are two messages, and only a
transaction keeps them together.
"""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Iterator
from types import TracebackType
from typing import Any, Self

import asyncpg
from asyncpg import exceptions as pg
from asyncpg.pool import PoolConnectionProxy

from control.config import PostgresSection
from control.errors import ConfigError, StoreUnavailable

Connection = asyncpg.Connection | PoolConnectionProxy
"""What runs queries: a connection of its own, or one on loan from the pool."""

CONNECT_S = 3.0
QUERY_S = 10.0
_LOOKS = 4
_POOLED = "a pooler of transactions is in between (see DRAWBRIDGE_DATABASE_DIRECT_URL)"


class Database:
    """The application's connections. Opens without PostgreSQL; the first use connects.

    Every method raises :class:`StoreUnavailable` where PostgreSQL cannot be used right now:
    within ``connect_s`` if no connection is to be had, within ``query_s`` if it does not answer.
    """

    def __init__(
        self, section: PostgresSection, *, connect_s: float = CONNECT_S, query_s: float = QUERY_S
    ) -> None:
        self._section = section
        self._connect_s = connect_s
        self._query_s = query_s
        self._pool: asyncpg.Pool | None = None

    async def __aenter__(self) -> Self:
        with _readable():
            self._pool = await asyncpg.create_pool(
                self._section.url,
                min_size=0,
                max_size=self._section.pool_size,
                timeout=self._connect_s,
                command_timeout=self._query_s,
                reset=_as_it_is,
                **_options(pooled=self._section.pooled),
            )
        return self

    async def __aexit__(
        self,
        _kind: type[BaseException] | None,
        _error: BaseException | None,
        _trace: TracebackType | None,
    ) -> None:
        pool, self._pool = self._pool, None
        if pool is None:
            return
        try:
            async with asyncio.timeout(self._connect_s):
                await pool.close()
        except (TimeoutError, OSError, pg.PostgresError, pg.InterfaceError):
            pool.terminate()

    @contextlib.asynccontextmanager
    async def acquire(self, *, begins: bool = False) -> AsyncIterator[Connection]:
        """A connection of the pool for the block, for transactions and series of queries.

        Where a pooler is in between, the block is one transaction, unless it ``begins`` its own.
        """
        if self._pool is None:
            raise RuntimeError("the database is used outside its `async with`")
        with guard():
            loan = await self._pool.acquire(timeout=self._connect_s)
            try:
                if begins:
                    yield loan
                else:
                    async with together(loan, self._section):
                        yield loan
            except BaseException as error:
                if outage(error) is not None:
                    # Else the release waits for an answer that will not come. A connection that
                    # broke may have gone back to the pool by itself.
                    with contextlib.suppress(pg.InterfaceError):
                        loan.terminate()
                raise
            finally:
                await self._pool.release(loan, timeout=self._connect_s)

    @contextlib.asynccontextmanager
    async def session(self) -> AsyncIterator[Connection]:
        """A connection of its own past any pooler, for what a transaction alone does not hold."""
        async with connection(
            self._section.direct, connect_s=self._connect_s, query_s=self._query_s
        ) as opened:
            yield opened

    async def fetch(
        self, query: str, *arguments: object, timeout_s: float | None = None
    ) -> list[asyncpg.Record]:
        """All rows of one query; within ``timeout_s``, if that is less than usual."""
        async with self.acquire() as connection:
            return await connection.fetch(query, *arguments, timeout=timeout_s)

    async def fetchrow(self, query: str, *arguments: object) -> asyncpg.Record | None:
        """The first row of one query, if it has any."""
        async with self.acquire() as connection:
            return await connection.fetchrow(query, *arguments)

    async def execute(self, query: str, *arguments: object) -> str:
        """Run one statement; returns PostgreSQL's word on it, such as ``UPDATE 1``."""
        async with self.acquire() as connection:
            return await connection.execute(query, *arguments)

    @property
    def pooled(self) -> bool:
        """Whether a pooler is in between, so that no statement stands alone."""
        return self._section.pooled

    @property
    def occupancy(self) -> tuple[int, int, int]:
        """``(in use, open, most allowed)`` connections, from memory."""
        if self._pool is None:
            return 0, 0, self._section.pool_size
        opened = self._pool.get_size()
        return opened - self._pool.get_idle_size(), opened, self._section.pool_size


@contextlib.asynccontextmanager
async def connection(
    url: str, *, connect_s: float = CONNECT_S, query_s: float | None = None
) -> AsyncIterator[Connection]:
    """One connection of its own for the block. ``query_s=None``: queries may take their time.

    Raises :class:`StoreUnavailable`.
    """
    with guard():
        opened = await connect(url, connect_s=connect_s, query_s=query_s)
        try:
            yield opened
        finally:
            try:
                await opened.close(timeout=connect_s)
            except (TimeoutError, OSError, pg.PostgresError, pg.InterfaceError):
                opened.terminate()


async def connect(
    url: str, *, connect_s: float, query_s: float | None, pooled: bool = False
) -> asyncpg.Connection:
    """Open a connection that the caller closes. Raises asyncpg's own errors."""
    with _readable():
        return await asyncpg.connect(
            url, timeout=connect_s, command_timeout=query_s, **_options(pooled=pooled)
        )


@contextlib.asynccontextmanager
async def together(connection: Connection, section: PostgresSection) -> AsyncIterator[None]:
    """Keep what is asked in the block on one server, where a pooler would not."""
    if not section.pooled:
        yield
        return
    async with connection.transaction():
        yield


async def pools_transactions(url: str, *, answer_s: float) -> bool:
    """Whether a pooler at ``url`` gives each transaction whichever server is free.

    A pooler makes up the process id that it tells its client; and while one that pools sessions
    keeps a server for each client, one that pools transactions gives the second the server that
    the first has just used. Raises :class:`StoreUnavailable`.
    """
    with guard():
        async with contextlib.AsyncExitStack() as stack:

            async def pid() -> tuple[int, int]:
                opened = await connect(url, connect_s=answer_s, query_s=answer_s, pooled=True)
                stack.callback(opened.terminate)
                async with opened.transaction():
                    return await opened.fetchval("SELECT pg_backend_pid()"), opened.get_server_pid()

            first, said = await pid()
            if first == said:
                return False
            # Another client may have taken that server in between; not each time.
            seen = [first, *[(await pid())[0] for _ in range(_LOOKS)]]
            return len(set(seen)) < len(seen)


@contextlib.contextmanager
def guard() -> Iterator[None]:
    """Turn the errors of an unusable PostgreSQL into :class:`StoreUnavailable`.

    Errors that are our own fault (a wrong query, a violated constraint) pass unchanged.
    """
    try:
        yield
    except (pg.PostgresError, pg.InterfaceError, pg.InternalClientError, OSError) as error:
        reason = outage(error)
        if reason is None:
            raise
        raise StoreUnavailable("database", reason) from error


def outage(error: BaseException) -> str | None:  # noqa: PLR0911 - one answer for each fault
    """Why PostgreSQL is unusable, in a few safe words; ``None`` if ``error`` means other."""
    match error:
        case TimeoutError():
            return "timeout"
        case pg.InvalidAuthorizationSpecificationError():
            return "authentication failed"
        case pg.InvalidCatalogNameError():
            return "the database does not exist"
        case pg.UndefinedTableError() | pg.InvalidSchemaNameError():
            return "its schema is not migrated (run `drawbridge migrate`)"
        case pg.DuplicatePreparedStatementError() | pg.InvalidSQLStatementNameError():
            return _POOLED
        case pg.CannotConnectNowError():
            return "starting or stopping"
        case pg.InsufficientResourcesError():
            return "out of resources"
        case pg.ReadOnlySQLTransactionError():
            return "read-only replica"
        case (
            OSError()
            | pg.PostgresConnectionError()
            | pg.AdminShutdownError()
            | pg.CrashShutdownError()
            # The server's last word came while the connection was idle: asyncpg is still in the
            # middle of it, and the next query finds it busy.
            | pg.InternalClientError()
        ):
            return "connection failed"
        case pg.InterfaceError() if "closed" in str(error) or "closing" in str(error):
            return "connection failed"
    return None


async def _as_it_is(_connection: Connection) -> None:
    """Instead of asyncpg's round trip with each loan. Open transactions are rolled back all the
    same; what else a session holds (locks, settings, LISTEN) belongs in one of its own."""


def _options(*, pooled: bool) -> dict[str, Any]:
    """asyncpg's, for every connection."""
    options: dict[str, Any] = {"server_settings": {"application_name": "drawbridge"}}
    if pooled:
        options["statement_cache_size"] = 0
    return options


@contextlib.contextmanager
def _readable() -> Iterator[None]:
    """A URL that asyncpg cannot read is a bad setting. Not shown: it may hold a password."""
    try:
        yield
    except (ValueError, pg.ClientConfigurationError) as error:
        if isinstance(error, UnicodeError | pg.DataError):
            raise
        raise ConfigError("DATABASE_URL cannot be read as the address of a PostgreSQL") from None
