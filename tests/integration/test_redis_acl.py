"""The users of deploy/redis/users.acl: what each may do is enough, and no more."""

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any
from urllib.parse import quote

import aiohttp
import pytest
from redis.asyncio import Redis
from redis.exceptions import NoPermissionError

from control import keys
from control.migrations import migrate
from tests.conftest import LiveStores
from tests.faults.servers import OwnRedis, own_redis
from tests.processes import replica
from tests.stack import wait_until

USERS = Path(__file__).parents[2] / "deploy" / "redis" / "users.acl"
PASSWORD = "of-the-acl-test"
TOKEN = "administrator-of-the-acl-test"
HEADERS = {"Authorization": f"Bearer {TOKEN}"}


@pytest.fixture(scope="module")
async def server(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[OwnRedis]:
    """A Redis with these users. The default one stays on: the test looks through it."""
    async with own_redis(tmp_path_factory.mktemp("redis")) as running:
        for line in USERS.read_text().splitlines():
            word, name, *rules = line.replace("<password>", PASSWORD).split()
            assert word == "user"
            if name != "default":
                given: Any = running.client.execute_command("ACL", "SETUSER", name, *rules)
                await given
        yield running


def url(server: OwnRedis, user: str) -> str:
    return f"unix://{user}:{PASSWORD}@{quote(server.socket)}"


async def denied(server: OwnRedis) -> list[Any]:
    found: list[Any] = await server.client.acl_log()
    return found


def test_the_default_user_is_off_and_only_one_user_has_a_password() -> None:
    rules = {line.split()[1]: line for line in USERS.read_text().splitlines()}
    assert rules["default"].endswith(" off")
    assert [name for name, rule in rules.items() if "<password>" in rule] == ["drawbridge"]


async def test_a_whole_fleet_lives_within_its_rights(
    stores: LiveStores, server: OwnRedis, database_url: str
) -> None:
    await migrate(database_url)
    environment = stores.environment | {
        "REDIS_URL": url(server, "drawbridge"),
        "DATABASE_URL": database_url,
        "DRAWBRIDGE_ADMIN_TOKEN": TOKEN,
        "DRAWBRIDGE_JOBS": "tests.kinds",
        "DRAWBRIDGE_DRAIN_DELAY_S": "0",
    }
    async with (
        replica("service", environment) as service,
        replica("worker", environment) as worker,
        aiohttp.ClientSession() as http,
    ):
        base = (await service.logged("serving"))["url"]
        await worker.logged("phase", phase="running")

        async def ask(method: str, path: str, **terms: Any) -> Any:
            async with http.request(method, base + path, headers=HEADERS, **terms) as answer:
                assert answer.ok, await answer.text()
                return await answer.json()

        async def completed() -> bool:
            record = await ask("GET", f"/jobs/{run_id}")
            return bool(record["status"] == "completed")

        for raised in (True, False):
            run_id = (await ask("POST", "/jobs/echo", json={"payload": 1}))["run_id"]
            await wait_until(completed)
            path = "/control/flags/app_maintenance?wait=quiesced&timeout=30"
            await ask("PUT", path, json={"is_active": raised})
            await server.client.delete(keys.debounce("app_maintenance"))
            if raised:
                await ask("PUT", path, json={"is_active": False})
                await server.client.delete(keys.debounce("app_maintenance"))
        await ask("GET", "/jobs/schedules")
        await ask("GET", "/health/redis")
    assert await denied(server) == []


async def allow(server: OwnRedis, user: str) -> Redis:
    """A client as a user that is off by default, once it was given a password."""
    given: Any = server.client.execute_command("ACL", "SETUSER", user, "on", f">{PASSWORD}")
    await given
    return Redis.from_url(url(server, user))


async def test_a_script_may_send_commands_and_nothing_else(server: OwnRedis) -> None:
    async with await allow(server, "deploy-script") as script:
        await script.publish(keys.COMMANDS_CHANNEL, "{}")
        with pytest.raises(NoPermissionError):
            await script.publish(keys.EVENTS_CHANNEL, "{}")
        with pytest.raises(NoPermissionError):
            await script.set(keys.status("app_maintenance"), "true")


async def test_a_reader_may_read_the_flags_and_nothing_else(server: OwnRedis) -> None:
    await server.client.set(keys.status("app_maintenance"), "true")
    async with await allow(server, "flag-reader") as reader:
        assert await reader.get(keys.status("app_maintenance")) == b"true"
        with pytest.raises(NoPermissionError):
            await reader.set(keys.status("app_maintenance"), "false")
        with pytest.raises(NoPermissionError):
            await reader.get(keys.FLAGS)
        with pytest.raises(NoPermissionError):
            await reader.publish(keys.COMMANDS_CHANNEL, "{}")


async def test_a_monitor_may_look_at_the_server_alone(server: OwnRedis) -> None:
    async with await allow(server, "monitor") as monitor:
        assert (await monitor.info("memory"))["used_memory"]
        with pytest.raises(NoPermissionError):
            await monitor.get(keys.status("app_maintenance"))
