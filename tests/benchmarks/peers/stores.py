"""The servers of the benchmark: a fresh Redis for each turn, a PostgreSQL for each checkout."""

import asyncio
import os
import shutil
import socket
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from pathlib import Path

from redis.asyncio import Redis

from control import cancelling
from deploy.embedded.folder import DataFolder
from deploy.embedded.keeper import Keeper
from deploy.embedded.postgres_server import PostgresServer
from deploy.embedded.redis_server import RedisServer
from tests.benchmarks.peers.processes import Failed
from tests.benchmarks.peers.subjects import Subject


@asynccontextmanager
async def fresh_redis(path: Path) -> AsyncIterator[str]:
    """An empty Redis as `drawbridge up` starts it, on a loopback port besides; its URL."""
    folder = DataFolder(path)
    server = RedisServer(folder, os.environ)
    keeper = Keeper(server, lambda _line: None)
    try:
        await keeper.start()
        with socket.create_server(("127.0.0.1", 0)) as free:
            port: int = free.getsockname()[1]
        async with Redis.from_url(server.url) as client:
            await client.config_set("port", port)
        syncing = asyncio.create_task(server.sync_each_second())
        try:
            yield f"redis://127.0.0.1:{port}/0"
        finally:
            await cancelling.end(syncing)
    finally:
        await keeper.stop()
        folder.close()
        shutil.rmtree(path, ignore_errors=True)


@asynccontextmanager
async def postgres(path: Path) -> AsyncIterator[str]:
    """An empty database; its URL."""
    folder = DataFolder(path)
    server = PostgresServer(folder, os.environ)
    keeper = Keeper(server, lambda _line: None)
    try:
        await keeper.start()
        yield server.url
    finally:
        await keeper.stop()
        folder.close()


async def redis_version(url: str) -> str:
    """Name and version of the server."""
    async with Redis.from_url(url) as client:
        told = await client.info("server")
    if "valkey_version" in told:
        return f"Valkey {told['valkey_version']}"
    return f"Redis {told['redis_version']}"


async def migrate(subject: Subject, python: Path, environ: Mapping[str, str]) -> None:
    """Bring a database to the schema of the subject's checkout. Raises :class:`Failed`."""
    process = await asyncio.create_subprocess_exec(
        str(python), "-m", "control.cli", "migrate",
        env={"PATH": os.environ["PATH"], "HOME": "/nonexistent",
             "PYTHONPATH": str(subject.checkout), **environ},
        cwd=subject.checkout, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.STDOUT,
    )  # fmt: skip
    output, _ = await process.communicate()
    if process.returncode:
        raise Failed(f"migrate: {output.decode(errors='replace').strip()[-400:]}")
