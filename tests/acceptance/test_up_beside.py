"""`drawbridge up` beside stores that run already: given addresses, other servers, other users."""

import asyncio
import json
import os
import shlex
import signal
import sys
from pathlib import Path

import aiohttp
import psutil
import pytest
from redis.asyncio import Redis

from deploy.embedded import sample, screen
from tests.conftest import LiveStores
from tests.models.hard import market_split
from tests.stack import END_S, START_S, STORES_ALONE, Stack, all_gone, clean_environment, wait_until

pytestmark = pytest.mark.timeout(600)

WITHOUT_NAMESPACES = """
import ctypes, os, sys
asks = os.pipe()
outside = os.fork()
if outside == 0:  # give the namespace of our parent all the users that there are
    os.read(asks[0], 1)
    for table in ("uid_map", "gid_map"):
        with open(f"/proc/{os.getppid()}/{table}", "w") as file:
            file.write("0 0 65536")
    os._exit(0)
assert ctypes.CDLL(None).unshare(0x10000000) == 0
os.write(asks[1], b"x")
os.waitpid(outside, 0)
with open("/proc/sys/user/max_user_namespaces", "w") as file:
    file.write("0")
os.execv(sys.argv[1], sys.argv[1:])
"""
"""Becomes a program for which no user namespace can be made, as in many containers."""


@pytest.fixture
def outside(stores: LiveStores, redis: Redis, database_url: str) -> dict[str, str]:
    """Stores that run already, for tests of what `up` does beside its stores. Redis is empty."""
    return {**stores.environment, "DATABASE_URL": database_url}


async def test_given_urls_replace_the_embedded_servers(
    tmp_path: Path, outside: dict[str, str]
) -> None:
    async with Stack(tmp_path / "data", environ=outside) as stack:
        assert [stack.line["pids"][name] for name in ("redis", "postgres", "graph")] == [None] * 3
        assert stack.line["redis_url"] == outside["REDIS_URL"]
        assert stack.line["database_url"] == outside["DATABASE_URL"]
        assert stack.line["neo4j_uri"] == outside["NEO4J_URI"]
        async with aiohttp.ClientSession(stack.api) as http, http.get("/ready") as answer:
            assert answer.status == 200


async def test_an_installed_redis_server_is_used_when_told(
    tmp_path: Path, outside: dict[str, str]
) -> None:
    from deploy.embedded.redis_server import wheel_program

    mine = tmp_path / "redis-server"
    mine.symlink_to(wheel_program())
    others = {name: value for name, value in outside.items() if name != "REDIS_URL"}
    options = ("--redis-server", str(mine), *STORES_ALONE)
    async with Stack(tmp_path / "data", *options, environ=others) as stack:
        pid = stack.pid_of("redis")
        assert psutil.Process(pid).cmdline()[0].startswith(str(mine))


async def test_for_people_it_prints_where_things_are_and_what_to_do(
    tmp_path: Path, outside: dict[str, str]
) -> None:
    folder = tmp_path / "data"
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        *("-m", "control.cli", "up", "--port", "0", "--data-dir", str(folder)),
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.DEVNULL,
        env=clean_environment(**outside),
    )
    assert process.stdout is not None
    try:
        text = await asyncio.wait_for(process.stdout.readuntil(b"Stop with Ctrl-C"), START_S)
        said = text.decode()
        note = json.loads((folder / "stack.json").read_text())
        for fact in (*note["services"], *note["workers"], note["admin_token"], str(folder)):
            assert fact in said
        assert screen.curl(note["services"][0], "") in said
        assert f"export DRAWBRIDGE_DATA_DIR={shlex.quote(str(folder))}" in said
        assert "\x1b" not in said
    finally:
        process.send_signal(signal.SIGINT)
        assert await asyncio.wait_for(process.wait(), END_S) == 0


async def test_a_second_signal_hands_a_running_job_back_and_the_next_start_runs_it(
    tmp_path: Path, outside: dict[str, str]
) -> None:
    folder = tmp_path / "data"

    async def state() -> str:
        async with aiohttp.ClientSession(stack.api) as session, session.get(job) as answer:
            found: str = (await answer.json())["status"]
            return found

    async def is_running() -> bool:
        return await state() == "running"

    async with Stack(folder, environ=outside) as stack:
        body, headers = market_split(), {"Content-Type": sample.CONTENT_TYPE}
        async with (
            aiohttp.ClientSession(stack.api) as session,
            session.post("/optimize", data=body, headers=headers) as answer,
        ):
            job = (await answer.json())["links"]["status"]
        await wait_until(is_running)
        children = stack.descendants()
        stack.process.send_signal(signal.SIGINT)
        await wait_until(lambda: "stopping" in stack.said)
        assert await stack.stop(signal.SIGINT) == 0
        await all_gone(children, 1)
    async with Stack(folder, environ=outside) as stack:
        await wait_until(is_running)


@pytest.mark.skipif(os.geteuid() != 0, reason="only root has to leave root")
async def test_postgres_runs_as_nobody_where_user_namespaces_are_refused(
    tmp_path: Path, outside: dict[str, str]
) -> None:
    folder = tmp_path / "data"
    graph = {name: value for name, value in outside.items() if name.startswith("NEO4J")}
    for _ in range(2):  # the second start finds the data of the first
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-c", WITHOUT_NAMESPACES, sys.executable, "-m", "control.cli"),
            *("up", "--json", "--port", "0", "--data-dir", str(folder), *STORES_ALONE),
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.DEVNULL,
            env=clean_environment(**graph),
        )
        assert process.stdout is not None
        try:
            line = json.loads(await asyncio.wait_for(process.stdout.readline(), START_S))
            assert psutil.Process(line["pids"]["postgres"]).username() == "nobody"
            assert psutil.Process(line["pids"]["redis"]).username() == "root"
        finally:
            process.send_signal(signal.SIGTERM)
            assert await asyncio.wait_for(process.wait(), END_S) == 0
    async with Stack(folder, *STORES_ALONE, environ=graph) as again:  # and so does one that may
        assert psutil.Process(again.pid_of("postgres")).username() == "root"
