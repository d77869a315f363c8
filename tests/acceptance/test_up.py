"""`drawbridge up`, from outside: what it starts, keeps alive, says, and leaves behind."""

import asyncio
import itertools
import json
import os
import signal
import stat
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Any

import aiohttp
import asyncpg
import highspy
import psutil
import pytest
from neo4j import AsyncGraphDatabase
from redis.asyncio import Redis

from deploy.embedded import sample, screen
from tests import signals
from tests.stack import START_S, STORES_ALONE, Stack, all_gone, drawbridge, wait_until

pytestmark = pytest.mark.timeout(600)

STORES = ("redis", "postgres", "graph")
OPTIMUM = 158.0


@pytest.fixture(scope="module")
async def stack(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Stack]:
    """One stack for the tests that leave it as they found it."""
    async with Stack(tmp_path_factory.mktemp("up") / "data", "--sample") as running:
        yield running


async def status(url: str) -> int:
    timeout = aiohttp.ClientTimeout(total=5)
    async with aiohttp.ClientSession(timeout=timeout) as session, session.get(url) as answer:
        return answer.status


async def put(line: dict[str, Any], value: int) -> None:
    """Leave ``value`` in each of the three stores."""
    async with Redis.from_url(line["redis_url"]) as redis:
        await redis.set("test:kept", value)
    connection = await asyncpg.connect(line["database_url"])
    await connection.execute("DROP TABLE IF EXISTS kept")
    await connection.execute(f"CREATE TABLE kept AS SELECT {value} AS n")
    await connection.close()
    await in_graph(line, f"MERGE (k:Kept) SET k.n = {value} RETURN k.n")


async def kept(line: dict[str, Any]) -> list[int]:
    """What :func:`put` left, store by store."""
    async with Redis.from_url(line["redis_url"]) as redis:
        found = [int(await redis.get("test:kept") or 0)]
    connection = await asyncpg.connect(line["database_url"])
    found.append(await connection.fetchval("SELECT n FROM kept"))
    await connection.close()
    return [*found, await in_graph(line, "MATCH (k:Kept) RETURN k.n")]


async def in_graph(line: dict[str, Any], query: str) -> int:
    auth = (line["neo4j_user"], line["neo4j_password"])
    async with (
        AsyncGraphDatabase.driver(line["neo4j_uri"], auth=auth) as driver,
        driver.session(database="neo4j") as session,
    ):
        value: int = (await (await session.run(query)).single(strict=True)).value()
        return value


# -- what it starts


async def test_the_ready_line_has_the_shape_of_the_contract(stack: Stack) -> None:
    line = stack.line
    assert set(line) == {
        "services", "workers", "redis_url", "database_url", "neo4j_uri", "neo4j_user",
        "neo4j_password", "admin_token", "pids",
    }  # fmt: skip
    assert set(line["pids"]) == {"service", "worker", *STORES}
    assert len(line["services"]) == len(line["pids"]["service"]) == 1
    assert len(line["workers"]) == len(line["pids"]["worker"]) == 1
    assert line["redis_url"].startswith("unix:///")
    for url in (*line["services"], *line["workers"]):
        assert url.startswith("http://127.0.0.1:")
    pids = [*line["pids"]["service"], *line["pids"]["worker"], *map(line["pids"].get, STORES)]
    assert {psutil.Process(pid).ppid() for pid in pids} == {stack.pid}


async def test_services_and_workers_are_ready(stack: Stack) -> None:
    for url in (*stack.line["services"], *stack.line["workers"]):
        assert await status(url + "/health") == 200
        assert await status(url + "/ready") == 200


async def test_everything_listens_on_loopback_only(stack: Stack) -> None:
    listening: list[str] = []
    for process in (psutil.Process(stack.pid), *stack.descendants()):
        with suppress(psutil.NoSuchProcess):  # a backend whose client has just left
            listening += (
                connection.laddr.ip
                for connection in process.net_connections("inet")
                if connection.status == psutil.CONN_LISTEN
            )
    assert listening
    assert set(listening) <= {"127.0.0.1", "::ffff:127.0.0.1"}


async def test_no_secret_is_in_any_command_line(stack: Stack) -> None:
    line = stack.line
    password = line["database_url"].split(":")[2].split("@")[0]
    secrets = (line["admin_token"], line["neo4j_password"], password)
    for process in stack.descendants():
        with suppress(psutil.NoSuchProcess):
            assert not any(secret in word for word in process.cmdline() for secret in secrets)


async def test_no_secret_is_in_any_log(stack: Stack) -> None:
    line = stack.line
    password = line["database_url"].split(":")[2].split("@")[0]
    for log in (stack.folder / "logs").iterdir():
        text = log.read_text()
        assert not any(s in text for s in (line["admin_token"], line["neo4j_password"], password))


async def test_the_data_folder_is_private(stack: Stack) -> None:
    assert stat.S_IMODE(stack.folder.stat().st_mode) == 0o700
    secret = [stack.folder / "stack.json", stack.folder / "lock"]
    secret += [*(stack.folder / "secrets").iterdir(), *(stack.folder / "logs").iterdir()]
    assert {stat.S_IMODE(path.stat().st_mode) for path in secret} == {0o600}


async def test_other_commands_find_it(stack: Stack) -> None:
    code, out, err = await drawbridge("config", environ=stack.environment)
    assert code == 0, err
    assert stack.line["redis_url"] in out
    assert stack.line["admin_token"] not in out


# -- what it keeps alive


@pytest.mark.parametrize("name", STORES)
async def test_a_killed_store_comes_back_with_data_and_address(stack: Stack, name: str) -> None:
    value = os.getpid() + STORES.index(name)
    await put(stack.line, value)
    before = stack.pid_of(name)
    assert before is not None
    os.kill(before, signal.SIGKILL)
    await stack.restarted(name, before)
    assert await kept(stack.line) == [value] * 3

    async def all_ready() -> bool:
        urls = (*stack.line["services"], *stack.line["workers"])
        return {await status(url + "/ready") for url in urls} == {200}

    await wait_until(all_ready)


@pytest.mark.parametrize("name", ["service", "worker"])
async def test_a_killed_replica_comes_back_on_its_address(stack: Stack, name: str) -> None:
    before = stack.pid_of(name)
    assert before is not None
    os.kill(before, signal.SIGKILL)
    # No condition to wait for: who connects meanwhile is served by the next process.
    assert await status(stack.line[f"{name}s"][0] + "/health") == 200
    assert await stack.restarted(name, before) != before


async def test_each_death_is_told(stack: Stack) -> None:
    before = stack.pid_of("worker")
    assert before is not None
    told = stack.said.count("worker-1 ended (SIGTERM)") + stack.said.count("worker-1 ended (exit")
    os.kill(before, signal.SIGTERM)
    await stack.restarted("worker", before)
    now = stack.said.count("worker-1 ended (SIGTERM)") + stack.said.count("worker-1 ended (exit")
    assert now == told + 1


# -- how it ends


async def test_however_it_ends_no_child_stays_and_the_next_start_finds_the_data(
    tmp_path: Path,
) -> None:
    folder = tmp_path / "data"
    async with Stack(folder, "--services", "2", "--workers", "2") as first:
        assert len(set(first.line["services"] + first.line["workers"])) == 4
        await put(first.line, 41)
        assert len(first.descendants()) >= 7
        await ends_at(first, signal.SIGINT)
    async with started_again(folder, first, *STORES_ALONE) as again:
        await ends_at(again, signal.SIGTERM)
    async with started_again(folder, first) as again:
        await ends_at(again, signal.SIGKILL)
    async with started_again(folder, first) as again:  # the note of the killed one fools nobody
        frozen = again.pid_of("redis")
        assert frozen is not None
        signals.send(frozen, signal.SIGSTOP)
        await ends_at(again, signal.SIGHUP)


@asynccontextmanager
async def started_again(folder: Path, first: Stack, *options: str) -> AsyncIterator[Stack]:
    """A stack on the data and secrets of ``first``, and on its addresses."""
    async with Stack(folder, *options) as again:
        assert await kept(again.line) == [41] * 3
        for same in ("admin_token", "redis_url", "database_url", "neo4j_password"):
            assert again.line[same] == first.line[same]
        yield again


async def ends_at(stack: Stack, number: signal.Signals) -> None:
    """Send it the signal, and look for what it leaves behind."""
    children = stack.descendants()
    killed = number is signal.SIGKILL
    assert await stack.stop(number) == (-number if killed else 0)
    await all_gone(children, 10 if killed else 0)
    assert (stack.folder / "stack.json").exists() is killed


@pytest.mark.parametrize("when", ["redis serves", "postgres serves", "graph serves"])
async def test_a_signal_while_it_starts_leaves_no_child(tmp_path: Path, when: str) -> None:
    stack = Stack(tmp_path / "data")
    await stack.launch()
    await wait_until(lambda: when in stack.said)
    children = stack.descendants()
    assert children
    assert await stack.stop(signal.SIGINT) == 0
    await all_gone(children, 1)  # what a killed initdb had started ends a moment later
    assert "Traceback" not in stack.said


# -- the sample model


def test_the_sample_models_optimum_by_trying_everything() -> None:
    arrivals, capacity, waiting = (3, 1, 4, 2, 5, 1, 2, 3), 7, 4
    opening = (20, 45, 60, 50, 30, 25, 35, 20)

    def cost(opens: tuple[int, ...]) -> float:
        if any(a and b for a, b in itertools.pairwise(opens)):
            return float("inf")
        ships = total = 0
        for arriving, price, is_open in zip(arrivals, opening, opens, strict=True):
            ships += arriving
            # To let as many pass as can is best, as waiting only costs.
            ships -= min(capacity, ships) * is_open
            total += price * is_open + waiting * ships
        return total if ships == 0 else float("inf")

    best = min(cost(opens) for opens in itertools.product((0, 1), repeat=len(arrivals)))
    highs = highspy.Highs()  # type: ignore[no-untyped-call]
    highs.silent()
    highs.readModel(str(sample.MODEL))
    highs.run()
    assert highs.getInfo().objective_function_value == pytest.approx(best)
    assert best == OPTIMUM


async def test_it_solves_the_sample_model_and_goes_on_serving(stack: Stack) -> None:
    await wait_until(lambda: "the sample model is solved" in stack.said, START_S)
    assert f"optimum {OPTIMUM:g}" in stack.said
    assert await status(stack.api + "/ready") == 200


async def test_the_printed_curl_works_when_pasted(stack: Stack) -> None:
    for token in ("", stack.line["admin_token"]):
        process = await asyncio.create_subprocess_shell(
            screen.curl(stack.api, token), stdout=asyncio.subprocess.PIPE
        )
        out, _ = await process.communicate()
        assert json.loads(out)["run_id"]
