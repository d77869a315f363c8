"""The commands that steer the fleet, against a real service and a real worker."""

import asyncio
import json
import os
import pty
import re
import signal
import sys
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import uuid4

import pytest
from redis.asyncio import Redis

from control import ids, keys, migrations
from control.config import load
from control.flags import commands
from control.flags.client import ControlClient
from control.flags.document import INGESTION, MAINTENANCE, Document
from tests.conftest import LiveStores, open_gate
from tests.processes import Replica, replica
from tests.stack import SO_S, clean_environment, drawbridge, wait_until

TOKEN = "token-of-the-tests-0123456789abcdef"


@dataclass
class Fleet:
    """One service, one worker, and the commands that steer them."""

    service: Replica
    worker: Replica
    url: str
    worker_id: str
    environ: dict[str, str]
    redis: Redis

    async def run(self, *arguments: str) -> tuple[int, str, str]:
        """A command to its end: exit status, stdout, stderr."""
        return await drawbridge(*arguments, environ=self.environ)

    async def json(self, *arguments: str, status: int = 0) -> dict[str, Any]:
        """The one JSON object that a command prints, which is all of its stdout."""
        code, out, err = await self.run(*arguments, "--json")
        assert code == status, err
        assert out.count("\n") == 1
        found: dict[str, Any] = json.loads(out)
        return found

    @asynccontextmanager
    async def start(self, *arguments: str, stderr: int | None = None) -> AsyncIterator[Any]:
        """A command as a process that ends with the block."""
        process = await asyncio.create_subprocess_exec(
            sys.executable, "-m", "control.cli", *arguments,
            env=self.environ, stdin=asyncio.subprocess.DEVNULL, stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE if stderr is None else stderr,
        )  # fmt: skip
        try:
            yield process
        finally:
            if process.returncode is None:
                process.kill()
            await process.communicate()

    @asynccontextmanager
    async def held(self) -> AsyncIterator[None]:
        """The worker is stopped (SIGSTOP) for the block, and has caught up after it.

        Its lease is made to outlast the block, however slowly commands start on a busy machine.
        """
        self.worker.send(signal.SIGSTOP)
        await self.redis.zadd(keys.LEASES, {self.worker_id: (time.time() + 60) * 1000})
        try:
            yield
        finally:
            self.worker.send(signal.SIGCONT)
        await self.caught_up()

    async def flags(self) -> Document:
        async with ControlClient(load(("test", self.environ))) as control:
            return await control.flags()

    async def caught_up(self) -> None:
        """Both are live and have applied the newest document."""
        async with ControlClient(load(("test", self.environ))) as control:
            newest = (await control.flags()).position

            async def so() -> bool:
                found = await control.replicas()
                return len(found) == 2 and all(each.position >= newest for each in found)

            await wait_until(so)

    async def lower(self) -> None:
        """All flags off, and free to change again."""
        names = (MAINTENANCE, INGESTION)
        await self.redis.delete(*map(keys.debounce, names))
        async with ControlClient(load(("test", self.environ))) as control:
            for name in names:
                command = commands.new("reset", name, actor="test")
                done = await control.carry_out(command, want="applied")
                assert done.acknowledged is not None
                assert done.acknowledged.complete
        await self.redis.delete(*map(keys.debounce, names))


@pytest.fixture(scope="module")
async def running(stores: LiveStores) -> AsyncIterator[Fleet]:
    name = f"test_{uuid4().hex[:12]}"
    url = await stores.make_database(name)
    await migrations.migrate(url)
    environ = stores.environment | {"DATABASE_URL": url}
    async with Redis.from_url(stores.addresses.redis_url) as redis:
        await redis.flushall()
        await open_gate(redis)
        async with (
            replica("service", environ, DRAWBRIDGE_ADMIN_TOKEN=TOKEN) as service,
            replica("worker", environ) as worker,
        ):
            line = await service.logged("serving")
            working = await worker.logged("working")
            client = clean_environment(**environ, DRAWBRIDGE_TOKEN=TOKEN, HOME="/nonexistent")
            running = Fleet(service, worker, line["url"], working["instance"], client, redis)
            await running.caught_up()
            yield running
    await stores.drop_database(name)


@pytest.fixture
async def fleet(running: Fleet) -> Fleet:
    """With every flag off."""
    await running.lower()
    return running


@pytest.fixture(params=["redis", "api"])
def way(request: pytest.FixtureRequest, running: Fleet) -> list[str]:
    """The options that choose how a command goes."""
    return ["--api", running.url] if request.param == "api" else []


async def test_raise_look_and_lower(fleet: Fleet, way: list[str]) -> None:
    began = datetime.now(UTC)
    done = await fleet.json(
        "maintenance", "on", "--reason", "db upgrade", "--for", "20m", "--wait", "quiesced", *way
    )
    assert (done["outcome"], done["stragglers"]) == ("applied", [])
    assert done["acknowledged"] == {"complete": True, "replicas": 2, "stragglers": []}
    assert ids.is_id(done["command_id"])
    flag = done["document"]["flags"][MAINTENANCE]
    assert (flag["is_active"], flag["reason"], flag["mode"]) == (True, "db upgrade", "full")
    until = datetime.fromisoformat(flag["until"])
    assert timedelta(minutes=19) < until - began < timedelta(minutes=21)
    who = "admin-token" if way else f"@{os.uname().nodename}"
    assert flag["changed_by"].endswith(who)

    status, out, err = await fleet.run("maintenance", "status", *way)
    assert (status, err) == (0, "")
    for told in ("The bridge is up", "db upgrade", who, fleet.worker_id, "at rest"):
        assert told in out
    assert re.search("in (19|20) min", out), "it takes a second or not even that"
    shown = await fleet.json("maintenance", "status", *way)
    assert shown["maintenance"] == flag
    assert shown["document"] == done["document"]
    assert {(each["kind"], each["quiesced"]) for each in shown["replicas"]} == {
        ("service", True),
        ("worker", True),
    }

    await fleet.redis.delete(keys.debounce(MAINTENANCE))
    status, out, _ = await fleet.run("maintenance", "off", "--wait", "applied", *way)
    assert status == 0
    assert out.startswith("The bridge is down")
    assert "2 of 2 instances have followed" in out
    status, out, _ = await fleet.run("maintenance", "status", *way)
    assert (status, out.startswith("The bridge is down, lowered")) == (0, True)


async def test_people_see_each_instance_follow(fleet: Fleet, way: list[str]) -> None:
    status, out, err = await fleet.run("maintenance", "on", "--wait", "quiesced", *way)
    assert status == 0
    assert out.startswith("The bridge is up (version ")
    assert "2 of 2 instances are at rest" in out
    if not way:  # over HTTP the answer may come before the last report
        for kind in ("service", "worker"):
            assert [line for line in err.splitlines() if kind in line and "at rest" in line]


async def test_a_terminal_gets_a_live_view(fleet: Fleet, way: list[str]) -> None:
    ours, theirs = pty.openpty()
    os.set_blocking(ours, False)
    seen = b""

    def shown() -> str:
        nonlocal seen
        with suppress(BlockingIOError, OSError):
            seen += os.read(ours, 1 << 16)
        return seen.decode(errors="replace")

    fleet.environ["COLUMNS"], fleet.environ["TERM"] = "120", "xterm"
    try:
        async with (
            fleet.held(),
            fleet.start("maintenance", "on", "--wait", "quiesced", *way, stderr=theirs) as process,
        ):
            await wait_until(lambda: "1 of 2 instances are at rest" in shown())
            assert fleet.worker_id in shown()
            assert "has not applied it" in shown()
            process.send_signal(signal.SIGINT)
            assert await asyncio.wait_for(process.wait(), SO_S) == 130
            assert "stands" in shown()
    finally:
        os.close(ours)
        os.close(theirs)


async def test_ctrl_c_ends_the_waiting_only(fleet: Fleet) -> None:
    async with (
        fleet.held(),
        fleet.start("maintenance", "on", "--wait", "quiesced") as process,
    ):
        await asyncio.wait_for(process.stderr.readuntil(b"has not applied it"), SO_S)
        process.send_signal(signal.SIGINT)
        _, err = await asyncio.wait_for(process.communicate(), SO_S)
        assert process.returncode == 130
        assert b"app_maintenance stands" in err
        assert b"Traceback" not in err
        assert (await fleet.flags()).is_active(MAINTENANCE)


async def test_a_straggler_is_named_and_the_change_stands(fleet: Fleet, way: list[str]) -> None:
    async with fleet.held():
        done = await fleet.json(
            "maintenance", "on", "--wait", "applied", "--timeout", "1.5s", *way, status=3
        )
        assert not done["acknowledged"]["complete"]
        assert [each["id"] for each in done["stragglers"]] == [fleet.worker_id]
        await fleet.redis.delete(keys.debounce(INGESTION))
        status, out, err = await fleet.run(
            "flag", "set", INGESTION, "on", "--wait", "applied", "--timeout", "1", *way
        )
        assert status == 3
        assert f"{INGESTION} is on" in out
        assert "timed out after 1 s; the change stands, but 1 of 2 instances" in err
        assert f"worker {fleet.worker_id} on " in err
        now = await fleet.flags()
        assert now.is_active(MAINTENANCE)
        assert now.is_active(INGESTION)


async def test_too_soon(fleet: Fleet, way: list[str]) -> None:
    assert (await fleet.json("maintenance", "toggle", *way))["outcome"] == "applied"
    # The debounce would end while the next command starts.
    await fleet.redis.set(keys.debounce(MAINTENANCE), "another", px=60_000)
    refused = await fleet.json("maintenance", "toggle", *way, status=1)
    assert refused["outcome"] == "debounced"
    assert 50 < refused["retry_after_s"] <= 60
    assert refused["document"]["flags"][MAINTENANCE]["is_active"]
    status, out, err = await fleet.run("maintenance", "off", *way)
    assert (status, out, err.count("\n")) == (1, "", 1)
    assert re.search(r"try again in (5\d\.\d|60\.0) s", err)


async def test_if_version(fleet: Fleet, way: list[str]) -> None:
    before = (await fleet.flags()).position
    refused = await fleet.json(
        "maintenance", "on", "--if-version", f"{before.epoch}.{before.version + 1}", *way, status=1
    )
    assert refused["outcome"] == "conflict"
    assert not (await fleet.flags()).is_active(MAINTENANCE)
    await fleet.redis.delete(keys.debounce(MAINTENANCE))
    done = await fleet.json("maintenance", "on", "--if-version", str(before), *way)
    assert done["document"]["version"] == before.version + 1


async def test_events_are_the_same_over_redis_and_over_http(fleet: Fleet) -> None:
    follow = ("events", "--follow", "--json")

    async def following(count: int) -> bool:
        [(_, found)] = await fleet.redis.pubsub_numsub(keys.REPLICAS_CHANNEL)
        return bool(found == count)

    await wait_until(lambda: following(0))
    async with (
        asyncio.timeout(SO_S),
        fleet.start(*follow) as by_redis,
        fleet.start(*follow, "--api", fleet.url) as by_http,
    ):
        # What happened before would be in the first event, as the state.
        await wait_until(lambda: following(2))
        for verb, outcome in (("on", "applied"), ("toggle", "debounced")):
            if outcome == "debounced":
                await fleet.redis.set(keys.debounce(MAINTENANCE), "another", px=60_000)
            done = await fleet.json("maintenance", verb, status=int(outcome != "applied"))
            seen = [await _line(process, "flags", done["command_id"])
                    for process in (by_redis, by_http)]  # fmt: skip
            assert seen[0] == seen[1]
            assert seen[0]["outcome"]["verdict"] == outcome


async def _line(process: Any, type_: str, command_id: str | None = None) -> dict[str, Any]:
    """The next event of a type, and of a command, that a process prints."""
    while True:
        found: dict[str, Any] = json.loads(await process.stdout.readline())
        if found["type"] == type_ and command_id in (None, found.get("command_id")):
            return found


async def test_flags_by_name(fleet: Fleet, way: list[str]) -> None:
    done = await fleet.json("flag", "set", INGESTION, "on", "--reason", "nightly load", *way)
    assert done["document"]["flags"][INGESTION]["reason"] == "nightly load"
    listed = await fleet.json("flag", "list", *way)
    assert listed["flags"] == done["document"]["flags"]
    status, out, _ = await fleet.run("flag", "list", *way)
    assert status == 0
    (line,) = [line for line in out.splitlines() if line.startswith(INGESTION)]
    assert line.split()[1] == "on"
    assert "nightly load" in line
    for verb, expected in (("toggle", False), ("toggle", True), ("reset", False)):
        await fleet.redis.delete(keys.debounce(INGESTION))
        done = await fleet.json("flag", verb, INGESTION, *way)
        assert done["document"]["flags"][INGESTION]["is_active"] is expected
    await fleet.redis.delete(keys.debounce(INGESTION))
    assert (await fleet.json("flag", "reset", INGESTION, *way))["outcome"] == "unchanged"
    refused = await fleet.json("flag", "set", "beta_search", "on", *way, status=1)
    assert refused["outcome"] == "refused"
    status, out, err = await fleet.run("flag", "set", "beta_search", "on", *way)
    assert (status, out, "beta_search" in err) == (1, "", True)


async def test_replicas(fleet: Fleet, way: list[str]) -> None:
    found = (await fleet.json("replicas", *way))["replicas"]
    pids = {"service": fleet.service.pid, "worker": fleet.worker.pid}
    assert {each["kind"]: each["pid"] for each in found} == pids
    status, out, _ = await fleet.run("replicas", *way)
    assert (status, fleet.worker_id in out) == (0, True)
