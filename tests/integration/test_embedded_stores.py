"""The embedded stores keep their data and their address, and nobody else gets at them."""

import stat
from collections.abc import Awaitable, Callable
from pathlib import Path

import asyncpg
import pytest
from neo4j import AsyncGraphDatabase
from neo4j.exceptions import Neo4jError
from redis.asyncio import Redis

from control.config import GraphSection
from control.errors import DrawbridgeError
from deploy.embedded import folder as folder_module
from deploy.embedded.folder import DataFolder
from deploy.embedded.redis_server import checked
from tests.conftest import LiveStores

pytestmark = pytest.mark.timeout(120)

End = Callable[[LiveStores, str], Awaitable[None]]
ENDS: dict[str, End] = {"killed": LiveStores.kill, "stopped": LiveStores.stop}


async def in_graph(graph: GraphSection, query: str) -> list[object]:
    async with (
        AsyncGraphDatabase.driver(graph.uri, auth=(graph.user, graph.password)) as driver,
        driver.session(database=graph.database) as session,
    ):
        return (await (await session.run(query)).single(strict=True)).values()


async def in_postgres(url: str, query: str) -> object:
    connection = await asyncpg.connect(url, timeout=5)
    try:
        return await connection.fetchval(query)
    finally:
        await connection.close()


@pytest.mark.parametrize("end", ENDS)
async def test_redis_keeps_data_and_address(stores: LiveStores, redis: Redis, end: str) -> None:
    await redis.set("kept", b"yes")
    before = stores.pid("redis")
    await ENDS[end](stores, "redis")
    await stores.restart("redis")
    assert stores.pid("redis") != before
    assert await redis.get("kept") == b"yes"


@pytest.mark.parametrize("end", ENDS)
async def test_postgres_keeps_data_and_address(
    stores: LiveStores, database_url: str, end: str
) -> None:
    await in_postgres(database_url, "CREATE TABLE kept AS SELECT 7 AS n")
    await ENDS[end](stores, "postgres")
    await stores.restart("postgres")
    assert await in_postgres(database_url, "SELECT n FROM kept") == 7


@pytest.mark.parametrize("end", ENDS)
async def test_graph_keeps_data_and_address(
    stores: LiveStores, graph: GraphSection, end: str
) -> None:
    await in_graph(graph, "CREATE (n:Kept {n: 7}) RETURN n.n")
    await ENDS[end](stores, "graph")
    await stores.restart("graph")
    assert await in_graph(graph, "MATCH (n:Kept) RETURN n.n") == [7]


async def test_redis_writes_at_once_and_evicts_nothing(redis: Redis) -> None:
    for name, value in (
        ("appendonly", "yes"),
        ("appendfsync", "no"),
        ("maxmemory-policy", "noeviction"),
        ("port", "0"),
    ):
        assert (await redis.config_get(name)) == {name: value}


async def test_the_application_owns_its_database_and_no_more(stores: LiveStores) -> None:
    url = stores.addresses.database_url
    assert await in_postgres(url, "SELECT current_user || '@' || current_database()") == (
        "drawbridge@drawbridge"
    )
    assert await in_postgres(
        url,
        "SELECT NOT (rolsuper OR rolcreaterole OR rolcreatedb)"
        " FROM pg_roles WHERE rolname = current_user",
    )


async def test_postgres_asks_for_the_password(stores: LiveStores) -> None:
    scheme, _, rest = stores.addresses.database_url.partition("://")
    wrong = f"{scheme}://drawbridge:wrong@{rest.partition('@')[2]}"
    with pytest.raises(asyncpg.InvalidPasswordError):
        await in_postgres(wrong, "SELECT 1")


async def test_the_graph_asks_for_the_password(stores: LiveStores) -> None:
    section = stores.config.graph
    wrong = GraphSection(uri=section.uri, user=section.user, password="wrong")
    with pytest.raises(Neo4jError):
        await in_graph(wrong, "RETURN 1")


async def test_a_frozen_postgres_answers_once_thawed(stores: LiveStores, database_url: str) -> None:
    stores.freeze("postgres")
    try:
        with pytest.raises(TimeoutError):
            await asyncpg.connect(database_url, timeout=0.3)
    finally:
        stores.thaw("postgres")
    assert await in_postgres(database_url, "SELECT 1") == 1


def test_everything_in_a_data_folder_is_private(tmp_path: Path) -> None:
    folder = DataFolder(tmp_path / "new" / "data")
    try:
        token = folder.secret("admin-token")
        folder.write_note({"admin_token": token})
        assert len(token) >= 32
        assert folder.secret("admin-token") == token
        for path in (folder.path, *folder.path.rglob("*")):
            mode = stat.S_IMODE(path.lstat().st_mode)
            assert mode == (0o700 if path.is_dir() else 0o600), path
    finally:
        folder.close()
    assert not (folder.path / "stack.json").exists()


def test_a_long_path_has_its_sockets_elsewhere(tmp_path: Path) -> None:
    long = tmp_path / ("x" * 100)
    folder = DataFolder(long)
    assert len(str(folder.run)) < 80
    assert stat.S_IMODE(folder.run.stat().st_mode) == 0o700
    folder.close()
    assert not folder.run.exists(), "nobody would ever clear it away"
    again = DataFolder(long)
    assert again.run == folder.run
    left = again.run / "of a server that was killed"
    left.touch()
    again.close()
    assert left.exists()
    left.unlink()
    left.parent.rmdir()


def test_a_folder_with_other_files_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "letter.txt").write_text("mine")
    tmp_path.chmod(0o755)
    with pytest.raises(DrawbridgeError, match="not Drawbridge's"):
        DataFolder(tmp_path)
    assert stat.S_IMODE(tmp_path.stat().st_mode) == 0o755


def test_a_large_log_is_put_aside(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(folder_module, "LOG_MAX", 10)
    folder = DataFolder(tmp_path / "data")
    try:
        log = folder.log("redis")
        log.write_text("a line that is longer than that\n")
        assert folder.log("redis").read_text() == ""
        assert log.with_suffix(".log.1").read_text().startswith("a line")
    finally:
        folder.close()


@pytest.mark.parametrize(
    ("says", "message"),
    [
        ("Redis server v=6.2.14 sha=0", "not Redis 7.0 or newer"),
        ("hello", "not Redis 7.0 or newer"),
    ],
)
def test_an_unfit_redis_server_is_refused(tmp_path: Path, says: str, message: str) -> None:
    program = tmp_path / "redis-server"
    program.write_text(f"#!/bin/sh\necho '{says}'\n")
    program.chmod(0o755)
    with pytest.raises(DrawbridgeError, match=message):
        checked(program)


def test_a_missing_redis_server_is_refused(tmp_path: Path) -> None:
    with pytest.raises(DrawbridgeError, match="no program"):
        checked(tmp_path / "redis-server")
