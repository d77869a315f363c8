"""The archive in a fleet of real workers."""

import signal
from collections.abc import AsyncIterator

import pytest
from redis.asyncio import Redis

from control import keys
from control.config import PostgresSection
from control.migrations import migrate
from control.stores.postgres import Database
from tests.conftest import LiveStores
from tests.faults.conftest import Jobs, StartWorker
from tests.stack import wait_for, wait_until
from worker.jobs.archive import Archive, Wanted


@pytest.fixture
async def archive(database_url: str) -> AsyncIterator[Archive]:
    await migrate(database_url)
    async with Database(PostgresSection(url=database_url)) as database:
        yield Archive(database)


async def test_what_a_killed_worker_did_not_archive_another_one_does_once_it_can(
    jobs: Jobs, worker: StartWorker, archive: Archive, database_url: str, redis: Redis,
    stores: LiveStores,
) -> None:  # fmt: skip
    settings = {"DATABASE_URL": database_url, "DRAWBRIDGE_LOG_LEVEL": "debug"}
    async with worker(**settings) as one:
        await one.logged("joined")
        run_ids = {await jobs.submit("echo", {"n": n}) for n in range(400)}
        await one.logged("job ended", count=300)
        one.send(signal.SIGKILL)
        await one.ended()
    await redis.delete(keys.ARCHIVIST)  # else its turn lasts until it runs out
    await stores.stop("postgres")
    try:
        async with worker(**settings) as two:
            await two.logged("archive waits")
            await stores.restart("postgres")

            async def all_kept() -> bool:
                page = await archive.page(Wanted(), limit=1_000)
                return {job.run_id for job in page.jobs} == run_ids

            await wait_until(all_kept)
            await wait_for(lambda: redis.zcard(keys.ENDED), 0)
    except BaseException:
        await stores.restart("postgres")
        raise
