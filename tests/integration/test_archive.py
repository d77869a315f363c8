"""Finished jobs in PostgreSQL: each once, whatever was cut short, and found again."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from datetime import datetime, timedelta
from typing import Any

import pytest
from redis.asyncio import Redis

from control import keys
from control.clock import SystemClock, iso
from control.config import PostgresSection
from control.errors import StoreUnavailable
from control.migrations import migrate
from control.stores import postgres
from control.stores.postgres import Database
from tests.conftest import LiveStores
from tests.job_steps import LEASE_S, claim_one, ended, lose, new, rescue
from tests.serving import Served, problem, served
from tests.stack import clean_environment, drawbridge
from worker.archivist import Archivist
from worker.jobs.archive import LARGEST_RESULT, Archive, Wanted
from worker.jobs.job import JobError, JobState
from worker.jobs.manager import JobStateManager

NOWHERE = "postgresql://nobody@127.0.0.1:1/nothing"


@pytest.fixture(scope="module")
async def url(stores: LiveStores) -> AsyncIterator[str]:
    """One database for all tests here."""
    made = await stores.make_database("test_archive")
    await migrate(made)
    yield made
    await stores.drop_database("test_archive")


@pytest.fixture
async def database(url: str) -> AsyncIterator[Database]:
    async with Database(PostgresSection(url=url)) as opened:
        await opened.execute("TRUNCATE drawbridge.jobs_archive")
        yield opened


@pytest.fixture
def archive(database: Database) -> Archive:
    return Archive(database)


@pytest.fixture
def jobs(redis: Redis) -> JobStateManager:
    return JobStateManager(redis, result_ttl_s=600, lease_s=LEASE_S)


def archivist(jobs: JobStateManager, archive: Archive, worker: str = "w1", days: int = 90):
    return Archivist(worker, jobs.ended, archive, days=days, clock=SystemClock())


async def end(jobs: JobStateManager, status: str = "completed", **more: Any) -> str:
    """A job that has ended; its run id."""
    outcome = {name: more.pop(name) for name in ("result", "error", "progress") if name in more}
    made = new(**more)
    await jobs.create_job(made)
    assert await jobs.finish(ended(await claim_one(jobs), JobState(status), **outcome))
    return made.run_id


async def kept(archive: Archive) -> list[str]:
    return [job.run_id for job in (await archive.page(Wanted(), limit=200)).jobs]


async def waiting(redis: Redis) -> int:
    return int(await redis.zcard(keys.ENDED))


async def test_every_end_is_kept_once_as_it_was(
    redis: Redis, jobs: JobStateManager, archive: Archive
) -> None:
    failure = JobError("ValueError", "wrong: \0 and “quoted”")
    run_ids = [
        await end(jobs, result=b'{"x": "\xc3\xbc"}', progress={"step": 3}),
        await end(jobs, "failed", error=failure),
        await end(jobs, "cancelled"),
    ]
    waits = new()
    await jobs.create_job(waits)
    await jobs.cancel_job(waits.run_id)
    run_ids.append(waits.run_id)
    await jobs.create_job(stopped := new())
    claim = await claim_one(jobs)
    await jobs.cancel_job(stopped.run_id)
    assert await jobs.requeue([(claim.run_id, claim.token, None)], drained=True) == [True]
    await jobs.create_job(lost := new())
    await claim_one(jobs)
    await lose(redis, "w1")
    assert [job.outcome for job in await rescue(jobs)] == ["failed"]
    run_ids += [stopped.run_id, lost.run_id]
    assert await waiting(redis) == 6
    assert await archivist(jobs, archive).turn() == 6
    assert await waiting(redis) == 0
    assert sorted(await kept(archive)) == sorted(run_ids)
    for run_id in run_ids:
        assert await archive.get(run_id) == await jobs.get_job(run_id)
    assert await archive.result(run_ids[0]) == (b'{"x": "\xc3\xbc"}', 11)
    assert await archive.result(run_ids[1]) == (None, 0)
    assert await archivist(jobs, archive).turn() == 0


async def test_a_kill_at_any_point_stores_each_once(
    redis: Redis, jobs: JobStateManager, archive: Archive
) -> None:
    run_ids = [await end(jobs, result=b"1") for _ in range(5)]
    # Killed after it took them, and once more after it stored them: nothing was taken off the list.
    for stores_them in (False, True):
        taken = await jobs.ended.next("killed", 3)
        assert taken is not None
        if stores_them:
            await archive.store([each.job for each in taken if each.job])
    assert await archivist(jobs, archive, "other").turn() == 0  # while it may still be at work
    await redis.delete(keys.ARCHIVIST)
    assert await archivist(jobs, archive, "other").turn() == 5
    assert sorted(await kept(archive)) == sorted(run_ids)


async def test_two_at_the_same_time_store_each_once(
    redis: Redis, jobs: JobStateManager, archive: Archive
) -> None:
    run_ids = [await end(jobs) for _ in range(4)]
    one = await jobs.ended.next("w1", 3)
    await redis.delete(keys.ARCHIVIST)  # its turn ran out while it was held
    assert await archivist(jobs, archive, "w2").turn() == 4
    assert one is not None
    await archive.store([each.job for each in one if each.job])
    assert await jobs.ended.archived(one) == 0
    assert sorted(await kept(archive)) == sorted(run_ids)


async def test_what_postgresql_cannot_take_now_waits(
    redis: Redis, jobs: JobStateManager, archive: Archive
) -> None:
    run_ids = [await end(jobs) for _ in range(3)]
    async with Database(PostgresSection(url=NOWHERE)) as away:
        with pytest.raises(StoreUnavailable):
            await archivist(jobs, Archive(away)).turn()
    assert await waiting(redis) == 3
    assert await archivist(jobs, archive).turn() == 3
    assert sorted(await kept(archive)) == sorted(run_ids)


async def test_more_than_a_batch_goes_in_several(
    redis: Redis, jobs: JobStateManager, archive: Archive, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("worker.archivist.BATCH", 4)
    run_ids = [await end(jobs, result=b"x" * 10) for _ in range(10)]
    assert await archivist(jobs, archive).turn() == 10
    assert sorted(await kept(archive)) == sorted(run_ids)


async def test_a_job_that_is_run_again_is_kept_as_it_ended_last(
    redis: Redis, jobs: JobStateManager, archive: Archive
) -> None:
    run_id = await end(jobs, "failed", error=JobError("E", "m"))
    taken = await jobs.ended.next("w1", 10)
    assert taken is not None
    await archive.store([each.job for each in taken if each.job])
    await jobs.rerun_job(run_id)
    between = await jobs.ended.next("w1", 10)
    assert between is not None
    assert between[0].job is None  # it runs: there is no end to store
    claim = await claim_one(jobs)
    at = int(between[0].at_ms)
    while int((await redis.time())[0]) * 1000 + (await redis.time())[1] // 1000 <= at:
        pass  # a later millisecond
    assert await jobs.finish(ended(claim, result=b"2"))
    assert await jobs.ended.archived(taken) == 1  # who stored its first end does not take this off
    await archivist(jobs, archive).turn()
    record = await archive.get(run_id)
    assert record == await jobs.get_job(run_id)
    assert await archive.result(run_id) == (b"2", 1)
    await archive.store([each.job for each in taken if each.job])  # a late one changes nothing
    assert await archive.get(run_id) == record


async def test_one_that_cannot_be_kept_holds_up_no_other(
    redis: Redis, jobs: JobStateManager, archive: Archive
) -> None:
    good = [await end(jobs) for _ in range(2)]
    spoilt, expired, odd = await end(jobs), await end(jobs), await end(jobs, result=b"\xff")
    await redis.delete(keys.job(spoilt), keys.job(expired))
    await redis.set(keys.job(spoilt), "no hash")
    await archivist(jobs, archive).turn()
    assert sorted(await kept(archive)) == sorted(good)
    assert await archive.get(odd) is None
    assert await waiting(redis) == 0


async def test_what_is_older_than_wanted_is_removed(
    jobs: JobStateManager, archive: Archive, database: Database
) -> None:
    old, young = await end(jobs), await end(jobs)
    await archivist(jobs, archive).turn()
    await database.execute(
        "UPDATE drawbridge.jobs_archive SET finished_at = now() - interval '31 days' "
        "WHERE run_id = $1",
        old,
    )
    await archivist(jobs, archive, days=32).turn()
    assert len(await kept(archive)) == 2
    await archivist(jobs, archive, days=30).turn()
    assert await kept(archive) == [young]


async def test_what_nobody_archives_is_forgotten_with_its_record(redis: Redis) -> None:
    jobs = JobStateManager(redis, result_ttl_s=60, lease_s=LEASE_S)
    old, young = await end(jobs), await end(jobs)
    score = await redis.zscore(keys.ENDED, old)
    await redis.zadd(keys.ENDED, {old: score - 60_001})
    await jobs.trim()
    assert await redis.zrange(keys.ENDED, 0, -1) == [young.encode()]


# Over HTTP ----------------------------------------------------------------------------------------


@asynccontextmanager
async def api(stores: LiveStores, url: str) -> AsyncIterator[Served]:
    config = replace(stores.config, postgres=PostgresSection(url=url))
    async with served(config) as running:
        yield running


async def get(running: Served, path: str, answers: int = 200, **query: str) -> Any:
    async with running.http.get(path, params=query) as response:
        assert response.status == answers, await response.text()
        return await (response.json() if answers == 200 else problem(response))


async def test_it_is_searched_page_by_page(
    stores: LiveStores, url: str, redis: Redis, jobs: JobStateManager, archive: Archive
) -> None:
    failure = JobError("Timeout", "the upstream at warehouse.example said nothing")
    run_ids = [
        await end(jobs, "failed" if n % 2 else "completed", kind="ab"[n % 2], submitted_by=f"u{n}",
                  **({"error": failure} if n % 2 else {}))
        for n in range(7)
    ]  # fmt: skip
    await archivist(jobs, archive).turn()
    last_first = run_ids[::-1]
    odd = [last_first[n] for n in (1, 3, 5)]
    record = await archive.get(run_ids[3])
    assert record is not None
    assert record.finished_at is not None
    at, later = iso(record.finished_at), iso(record.finished_at + timedelta(days=1))
    async with api(stores, url) as running:

        async def found(**query: str) -> list[str]:
            page = await get(running, "/jobs/archive", **query)
            return [job["run_id"] for job in page["jobs"]]

        assert set(await found()) == set(run_ids)
        assert set(await found(status="failed")) == set(odd)
        assert set(await found(kind="b")) == set(odd)
        assert await found(kind="c") == []
        assert set(await found(correlation_id="corr-1")) == set(run_ids)
        assert await found(correlation_id="corr-2") == []
        assert set(await found(q="upstream")) == set(odd)
        assert set(await found(q="timeout -u3")) == set(odd) - {run_ids[3]}
        assert set(await found(q="u1 or u2")) == {run_ids[1], run_ids[2]}
        assert await found(since=later) == []
        assert set(await found(until=later, kind="b", status="failed", q="said")) == set(odd)
        assert run_ids[3] in await found(since=at)
        assert run_ids[3] not in await found(until=at)
        pages, query = [], {"limit": "3"}
        while True:
            page = await get(running, "/jobs/archive", **query)
            pages += [job["run_id"] for job in page["jobs"]]
            if page["cursor"] is None:
                break
            query["cursor"] = page["cursor"]
        assert sorted(pages) == sorted(run_ids)
        assert page["jobs"][0]["links"]["status"] == f"/jobs/{page['jobs'][0]['run_id']}/status"
        environ = clean_environment(DRAWBRIDGE_API=running.url, HOME="/nonexistent")
        asked = ("jobs", "archive", "--kind", "b", "--since", "2h", "--q", "warehouse.example")
        status, out, err = await drawbridge(*asked, environ=environ)
        assert (status, err) == (0, "")
        assert all(run_id in out for run_id in odd)
        assert run_ids[0] not in out


@pytest.mark.parametrize(
    ("name", "value"),
    [("status", "running"), ("since", "yesterday"), ("until", "2026-11-21T03:04:05"),
     ("until", "9999-12-31T23:59:59-14:00"), ("since", "0001-01-01T00:00:00+14:00"),
     ("since", "1763700000"), ("until", "1763700000.5"), ("since", ""),
     ("cursor", "9" * 15 + "-" + "0" * 26), ("cursor", "1"), ("cursor", "9" * 15 + "-x"),
     ("q", ""), ("kind", "a\0"), ("limit", "0"), ("bogus", "1")],
)  # fmt: skip
async def test_what_is_wrong_with_a_search_is_named(
    stores: LiveStores, url: str, redis: Redis, name: str, value: str
) -> None:
    async with api(stores, url) as running:
        assert (await get(running, "/jobs/archive", 422, **{name: value}))["field"] == name


async def test_a_job_is_found_after_redis_has_forgotten_it(
    stores: LiveStores, url: str, redis: Redis, jobs: JobStateManager, archive: Archive
) -> None:
    small = await end(jobs, kind="optimize", result=b'{"objective":1}')
    none = await end(jobs, "cancelled", kind="optimize")
    large = await end(jobs, kind="optimize", result=b'"%b"' % (b"x" * LARGEST_RESULT))
    other = await end(jobs)
    await archivist(jobs, archive).turn()
    before = {run_id: await jobs.get_job(run_id) for run_id in (small, none, large, other)}
    await redis.delete(*(keys.job(run_id) for run_id in before))
    async with api(stores, url) as running:
        for run_id, record in before.items():
            assert record is not None
            told = await get(running, f"/jobs/{run_id}")
            assert (told["status"], told["kind"]) == (record.status.value, record.kind)
            assert datetime.fromisoformat(told["finished_at"]) == record.finished_at
        assert await get(running, f"/optimize/{small}/result") == {"run_id": small, "objective": 1}
        await get(running, f"/optimize/{none}/result", 409)
        gone = await get(running, f"/optimize/{large}/result", 404)
        assert "too large to be archived" in gone["detail"]
        await get(running, f"/optimize/{other}", 404)
        await get(running, f"/jobs/{new().run_id}", 404)
        async with running.http.delete(f"/jobs/{small}") as response:
            assert response.status == 409


async def test_without_postgresql_nobody_can_say_what_there_was(
    stores: LiveStores, url: str, redis: Redis, jobs: JobStateManager
) -> None:
    run_id = await end(jobs)
    async with api(stores, url) as running:
        await stores.stop("postgres")
        try:
            assert (await get(running, f"/jobs/{run_id}"))["run_id"] == run_id
            for path in (f"/jobs/{new().run_id}", "/jobs/archive"):
                assert (await get(running, path, 503))["dependency"] == "database"
            await get(running, "/jobs/nonsense", 404)
        finally:
            await stores.restart("postgres")


async def test_the_searches_use_their_indexes(url: str, archive: Archive) -> None:
    async with postgres.connection(url) as connection:
        await connection.execute("SET enable_seqscan = off")
        for where, index in (
            ("kind = 'a'", "jobs_archive_kind"),
            ("status = 'failed'", "jobs_archive_status"),
            ("correlation_id = 'c'", "jobs_archive_correlation"),
            ("to_tsvector('simple', words) @@ websearch_to_tsquery('simple', 'a')",
             "jobs_archive_words"),
            ("(finished_at, run_id) < (now(), 'x')", "jobs_archive_newest"),
        ):  # fmt: skip
            plan = await connection.fetch(
                f"EXPLAIN SELECT record FROM drawbridge.jobs_archive WHERE {where} "
                "ORDER BY finished_at DESC, run_id DESC LIMIT 50"
            )
            assert index in "\n".join(row[0] for row in plan)
