"""Processes that are no instance: scripts, the asynchronous client, and a bare PUBLISH."""

import asyncio
import json
import re
import signal
import subprocess
import sys
import threading
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any, TypeVar
from urllib.parse import urlsplit

import asyncpg
import pytest
from redis.asyncio import Redis

import control
from control import ids, keys
from control.bridge import Bridge, Debounced, Refused, TimedOut
from control.config import Config, PostgresSection, RedisSection
from control.errors import StoreUnavailable
from control.flags import commands
from control.flags.client import ControlClient
from control.flags.document import INGESTION, MAINTENANCE
from control.flags.errors import CommandTimedOut, NobodyListens
from control.flags.outcome import Verdict
from tests.conftest import LiveStores
from tests.planes import Planes
from tests.stack import ROOT, SO_S, clean_environment, drawbridge, wait_until

T = TypeVar("T")
NOWHERE = "redis://127.0.0.1:1/0"


def environ(config: Config, **changes: str) -> dict[str, str]:
    """In which a command finds the stores of ``config``."""
    return clean_environment(
        REDIS_URL=config.redis.url,
        DATABASE_URL=config.postgres.url,
        DRAWBRIDGE_DATA_DIR="/nonexistent",
        **changes,
    )


async def script(work: Callable[[], T]) -> T:
    """A synchronous script, beside the loop in which the instances live."""
    return await asyncio.to_thread(work)


async def free(redis: Redis, flag: str = MAINTENANCE) -> None:
    """Let a flag change again at once."""
    await redis.delete(keys.debounce(flag))


async def test_three_lines_raise_the_bridge_and_lower_it_again(fleet: Planes, redis: Redis) -> None:
    plane = await fleet.open()
    bridge = Bridge(actor="deploy", config=fleet.config)
    seen = []

    def deploy() -> None:
        with bridge.raised("db upgrade", wait="applied", until=timedelta(minutes=20)) as done:
            seen.append((done, plane.replica.raised))
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        await script(deploy)
    [(done, flag)] = seen
    assert done.outcome.verdict is Verdict.APPLIED
    assert done.acknowledged is not None
    assert (done.acknowledged.complete, done.acknowledged.replicas) == (True, 1)
    assert (flag.changed_by, flag.reason) == ("deploy", "db upgrade")
    assert flag.until - datetime.now(UTC) < timedelta(minutes=20)
    assert plane.replica.raised is None
    assert not (await script(bridge.status)).is_active


async def test_a_script_does_not_lower_what_somebody_else_raised(
    fleet: Planes, redis: Redis
) -> None:
    plane = await fleet.open()
    bridge = Bridge(actor="deploy", config=fleet.config)
    ann = commands.new("set", MAINTENANCE, value=True, actor="ann", reason="incident")
    assert (await plane.change(ann, internal=True)).done

    def deploy() -> None:
        with bridge.raised("db upgrade"):
            pytest.fail("the block ran")

    with pytest.raises(Refused, match="ann has raised the bridge already: incident"):
        await script(deploy)
    assert plane.replica.raised is not None
    assert plane.replica.raised.changed_by == "ann"


async def test_what_somebody_else_raises_meanwhile_stays_up(fleet: Planes) -> None:
    plane = await fleet.open()
    inside, raised_anew = threading.Event(), threading.Event()

    def deploy() -> None:
        with Bridge(actor="deploy", config=fleet.config).raised("db upgrade", wait=None):
            inside.set()
            assert raised_anew.wait(30)

    running = asyncio.create_task(script(deploy))
    await script(lambda: inside.wait(30))
    ann = commands.new("set", MAINTENANCE, value=True, actor="ann", reason="incident")
    assert (await plane.change(ann, internal=True)).verdict is Verdict.APPLIED
    raised_anew.set()
    await running
    assert plane.replica.raised is not None
    assert plane.replica.raised.reason == "incident"


async def test_of_scripts_at_the_same_time_one_has_the_bridge(fleet: Planes) -> None:
    plane = await fleet.open()
    together = threading.Barrier(4)
    inside, refused, all_refused = [], [], threading.Event()

    def deploy(name: str) -> None:
        together.wait(30)
        try:
            with Bridge(actor=name, config=fleet.config).raised(wait=None):
                inside.append(name)
                assert all_refused.wait(30)
        except Refused:
            refused.append(name)
            if len(refused) == 3:
                all_refused.set()

    await asyncio.gather(*(script(lambda name=name: deploy(name)) for name in "abcd"))
    assert (len(inside), len(refused)) == (1, 3)
    assert plane.replica.raised is None


async def test_a_fleet_that_does_not_come_to_rest_is_let_go_again(fleet: Planes) -> None:
    plane = await fleet.open("worker")
    plane.presence.report(phase="draining", running=2, quiesced=False)
    bridge = Bridge(config=fleet.config)

    def deploy() -> None:
        with bridge.raised(wait="quiesced", timeout_s=1):
            pytest.fail("the block ran")

    with pytest.raises(TimedOut, match="stands") as caught:
        await script(deploy)
    [late] = caught.value.stragglers
    assert (late.id, late.running) == (plane.instance, 2)
    assert plane.replica.raised is None
    assert plane.replica.document.version == 2


async def test_a_scripts_changes_and_their_refusals(fleet: Planes, redis: Redis) -> None:
    plane = await fleet.open()
    bridge = Bridge(config=fleet.config)
    done = await script(lambda: bridge.maintenance_on("x", mode="read_only", wait="applied"))
    assert plane.replica.raised == done.outcome.document.flag(MAINTENANCE)
    assert plane.replica.raised.mode == "read_only"
    await redis.set(keys.debounce(MAINTENANCE), "another", px=60_000)
    with pytest.raises(Debounced) as caught:
        await script(bridge.maintenance_off)
    assert 50 < caught.value.retry_after_s <= 60
    await free(redis)
    await script(bridge.maintenance_off)
    await script(lambda: bridge.set(INGESTION, True))
    assert (await script(bridge.flags)).is_active(INGESTION)
    with pytest.raises(Refused, match="no flag beta"):
        await script(lambda: bridge.set("beta", True))
    assert [each.id for each in await script(bridge.replicas)] == [plane.instance]


async def test_inside_a_loop_a_script_is_told_what_to_use(fleet: Planes) -> None:
    with pytest.raises(RuntimeError, match="ControlClient"):
        Bridge(config=fleet.config).status()


async def test_a_script_with_nothing_but_its_environment(fleet: Planes) -> None:
    plane = await fleet.open()
    lines = "from control import Bridge\nbridge = Bridge()\nbridge.maintenance_on('from a script')"
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-c", lines, cwd=ROOT, env=environ(fleet.config),
        stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.STDOUT,
    )  # fmt: skip
    out, _ = await asyncio.wait_for(process.communicate(), SO_S)
    assert (process.returncode, out) == (0, b"")
    assert plane.replica.raised is not None
    assert plane.replica.raised.reason == "from a script"


def test_importing_control_imports_nothing_else() -> None:
    code = (
        "import sys, control; control.__version__;"
        "print([m for m in ('asyncio', 'redis', 'click', 'msgspec') if m in sys.modules])"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert done.stdout == "[]\n", done.stderr
    assert control.Bridge is Bridge
    with pytest.raises(AttributeError, match="Birdge"):
        _ = control.Birdge


async def test_nobody_listens(stores: LiveStores, redis: Redis, database_url: str) -> None:
    config = replace(stores.config, postgres=PostgresSection(database_url))
    async with ControlClient(config) as client:
        with pytest.raises(NobodyListens):
            await client.change(commands.new("toggle", MAINTENANCE, actor="ann"))
    status, out, err = await drawbridge("maintenance", "on", environ=environ(config))
    assert (status, out) == (1, "")
    assert err == "drawbridge: no instance of Drawbridge listens on this Redis: is one running?\n"


async def test_no_answer_in_time_is_status_3(
    stores: LiveStores, redis: Redis, database_url: str
) -> None:
    """Somebody listens who never answers."""
    config = replace(stores.config, postgres=PostgresSection(database_url))
    async with redis.pubsub() as deaf:
        await deaf.subscribe(keys.COMMANDS_CHANNEL)
        async with ControlClient(config) as client:
            command = commands.new("toggle", MAINTENANCE, actor="ann")
            with pytest.raises(CommandTimedOut, match=r"0\.2 s"):
                await client.change(command, timeout_s=0.2)
        status, out, err = await drawbridge(
            "maintenance", "on", "--timeout", "0.2", environ=environ(config)
        )
    assert (status, out, err.count("\n")) == (3, "", 1)
    assert "may still be carried out" in err


async def test_without_redis_flags_are_read_and_nothing_is_changed(fleet: Planes) -> None:
    plane = await fleet.open()
    changed = commands.new("set", INGESTION, value=True, actor="ann")
    assert (await plane.change(changed, internal=True)).done
    config = replace(fleet.config, redis=RedisSection(NOWHERE))
    async with ControlClient(config) as client:
        assert (await client.flags()).is_active(INGESTION)
        with pytest.raises(StoreUnavailable, match="redis"):
            await client.change(commands.new("toggle", MAINTENANCE, actor="ann"))
        with pytest.raises(StoreUnavailable, match="redis"):
            async with client.follow():
                pytest.fail("nothing to follow")
    status, out, err = await drawbridge("maintenance", "on", environ=environ(config))
    assert (status, out, err.count("\n")) == (1, "", 1)
    assert err.startswith("drawbridge: redis is unavailable: connection failed")
    assert "--api URL" in err
    api = ("--api", "http://127.0.0.1:1")
    status, out, err = await drawbridge("maintenance", "on", *api, environ=environ(config))
    assert (status, out, err.count("\n")) == (1, "", 1)
    assert "http://127.0.0.1:1" in err


async def test_a_bare_publish_as_the_readme_has_it(fleet: Planes, redis: Redis) -> None:
    plane = await fleet.open()
    shown = (ROOT / "README.md").read_text()
    found = re.search(r"^(id=[^\n]+)\nredis-cli PUBLISH (\S+) '(.*?)'$", shown, re.S | re.M)
    assert found is not None
    line, channel, quoted = found.groups()
    for _ in range(20):
        done = subprocess.run(
            ["sh", "-c", f"set -e; {line}\nprintf %s '{quoted}'"], capture_output=True, check=True
        )
        message = json.loads(done.stdout)
        assert ids.is_id(message["id"])
    assert await redis.publish(channel, done.stdout) == 1
    await wait_until(lambda: plane.replica.raised)
    assert plane.replica.raised.changed_by == "deploy.sh"
    assert plane.replica.raised.reason == "db upgrade"


async def events_of(process: Any, type_: str, **fields: Any) -> dict[str, Any]:
    """The next event of a type and with these fields that a command prints."""
    while True:
        line = json.loads(await asyncio.wait_for(process.stdout.readline(), SO_S))
        if line["type"] == type_ and fields.items() <= line.items():
            return line


async def test_events_go_on_across_reconnects(fleet: Planes, redis: Redis) -> None:
    plane = await fleet.open("worker")
    env = environ(fleet.config)
    await plane.acknowledged(plane.replica.position, "applied", timeout_s=10)
    status, out, err = await drawbridge("events", "--json", environ=env)
    assert (status, err) == (0, "")
    assert [json.loads(line)["type"] for line in out.splitlines()] == ["flags", "replica"]
    status, out, _ = await drawbridge("events", environ=env)
    assert (status, plane.instance in out, "app_maintenance off" in out) == (0, True, True)

    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "control.cli", "events", "--follow", "--json",
        env=env, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE,
    )  # fmt: skip
    try:
        await events_of(process, "replica", id=plane.instance)
        plane.presence.report(phase="draining", running=3, quiesced=False)
        assert (await events_of(process, "replica", phase="draining"))["running"] == 3
        for value in (True, False):
            command = commands.new("set", INGESTION, value=value, actor="ann")
            changed = (await plane.change(command, internal=True)).document
            told = await events_of(process, "flags", version=changed.version)
            assert told["flags"][INGESTION]["is_active"] is value
            await redis.execute_command("CLIENT", "KILL", "TYPE", "pubsub")
        process.send_signal(signal.SIGINT)
        _, err = await asyncio.wait_for(process.communicate(), SO_S)
        assert process.returncode == 130, err.decode()
        assert err == b""
    finally:
        if process.returncode is None:
            process.kill()
            await process.communicate()


async def test_the_audit_is_listed_and_verified(fleet: Planes, stores: LiveStores) -> None:
    plane = await fleet.open()
    env = environ(fleet.config)
    for actor, flag in (("ann", MAINTENANCE), ("bob", INGESTION), ("bob", MAINTENANCE)):
        command = commands.new("toggle", flag, actor=actor, reason=f"{actor}'s reason")
        assert (await plane.change(command, internal=True)).done

    async def listed(*terms: str) -> list[tuple[str, str]]:
        status, out, err = await drawbridge("audit", "list", "--json", *terms, environ=env)
        assert status == 0, err
        return [(row["actor"], row["flag"]) for row in json.loads(out)["rows"]]

    assert await listed() == [("bob", MAINTENANCE), ("bob", INGESTION), ("ann", MAINTENANCE)]
    assert await listed("--actor", "ann", "--since", "1h") == [("ann", MAINTENANCE)]
    assert await listed("--flag", INGESTION, "--outcome", "applied") == [("bob", INGESTION)]
    assert await listed("--since", "2999-01-01T00:00:00Z") == []
    status, out, _ = await drawbridge("audit", "list", "--limit", "1", environ=env)
    assert (status, "bob's reason" in out, "more: --cursor " in out) == (0, True, True)

    status, out, _ = await drawbridge("audit", "verify", "--json", environ=env)
    found = json.loads(out)
    assert (status, found["intact"], found["rows"], len(found["head"])) == (0, True, 3, 64)
    status, out, _ = await drawbridge("audit", "verify", environ=env)
    assert (status, found["head"] in out) == (0, True)

    superuser = await asyncpg.connect(
        host=stores._sockets,
        user="postgres",
        password=stores._superuser_password,
        database=urlsplit(fleet.config.postgres.url).path[1:],
    )
    await superuser.execute("SET session_replication_role = replica")
    await superuser.execute("UPDATE drawbridge.audit SET actor = 'bod' WHERE seq = 2")
    await superuser.close()
    status, out, err = await drawbridge("audit", "verify", "--json", environ=env)
    assert (status, json.loads(out)["broken"], "row 2" in err) == (1, 2, True)
    status, out, err = await drawbridge("audit", "verify", environ=env)
    assert (status, out, err.count("\n")) == (1, "", 1)
    assert "row 2: the row was changed" in err
