"""`drawbridge jobs submit` against a service, the worker's part done by hand."""

import asyncio
import json
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path

import pytest

from tests.serving import Served, served
from tests.stack import clean_environment, drawbridge, wait_until
from worker.jobs.job import JobError, JobState

ADA = '{"name": "Ada"}'


@pytest.fixture
async def api(stores, redis) -> AsyncIterator[Served]:
    jobs = replace(stores.config.jobs, modules=("tests.models.user_kinds",))
    async with served(replace(stores.config, jobs=jobs)) as running:
        yield running


async def submit(api: Served, *arguments: object) -> tuple[int, str, str]:
    environ = clean_environment(DRAWBRIDGE_API=api.url, HOME="/nonexistent")
    return await drawbridge("jobs", "submit", *map(str, arguments), environ=environ)


async def test_it_prints_where_to_look(api: Served) -> None:
    status, out, err = await submit(
        api, "greet", "--payload", ADA, "--priority", 9, "--timeout", 5, "--max-attempts", 2
    )
    assert (status, err) == (0, "")
    claim = await api.claim("io")
    assert out.startswith(f"{claim.run_id} queued")
    assert f"drawbridge jobs show {claim.run_id} --follow" in out
    assert json.loads(claim.payload) == {"name": "Ada", "times": 1}
    spec = claim.spec
    assert (spec.priority, spec.timeout_s, spec.max_attempts) == ("high", 5, 2)


async def test_a_payload_from_a_file_under_a_key(api: Served, tmp_path: Path) -> None:
    path = tmp_path / "payload.json"
    path.write_text(ADA)
    asked = ("greet", "--payload", f"@{path}", "--key", "k", "--json", "--run-at",
             "2126-11-21T03:04:05Z")  # fmt: skip
    first = json.loads((await submit(api, *asked))[1])
    assert first["status"] == "scheduled"
    assert json.loads((await submit(api, *asked))[1]) == first


@pytest.mark.parametrize("ends", ["completed", "failed"])
async def test_follow_prints_the_result(api: Served, ends: str) -> None:
    async def work() -> None:
        async def queued() -> bool:
            return bool((await api.jobs.list_jobs(status=JobState.QUEUED)).jobs)

        await wait_until(queued)
        claim = await api.claim("io")
        if ends == "completed":
            await api.finish(claim, JobState.COMPLETED, result=b'{"hello":"Ada"}')
        else:
            await api.finish(claim, JobState.FAILED, error=JobError("Bad", "no such name"))

    (status, out, err), _ = await asyncio.gather(
        submit(api, "greet", "--payload", ADA, "--follow"), work()
    )
    if ends == "completed":
        assert (status, json.loads(out)["hello"]) == (0, "Ada")
        assert err.split()[-1] == "completed"
    else:
        assert (status, out) == (1, "failed: no such name\n")


@pytest.mark.parametrize(
    ("arguments", "status", "word"),
    [
        (["greet"], 1, "payload: is required"),
        (["greet", "--payload", "{}"], 1, "payload.name: is required"),
        (["nonesuch", "--payload", "{}"], 1, "knows"),
        (["gr/eet"], 1, "knows"),
        (["greet", "--payload", "{oops"], 2, "--payload"),
        (["greet", "--payload", "@/no/such/file"], 2, "--payload"),
        (["greet", "--payload", ADA, "--priority", "urgent"], 1, "priority"),
    ],
)
async def test_a_refusal_is_one_clear_line(
    api: Served, arguments: list[str], status: int, word: str
) -> None:
    code, out, err = await submit(api, *arguments)
    assert (code, out) == (status, "")
    assert word in err.strip().splitlines()[-1]
    assert "Traceback" not in err


async def test_dead_jobs_are_listed_and_run_again(api: Served) -> None:
    environ = clean_environment(DRAWBRIDGE_API=api.url, HOME="/nonexistent")

    async def jobs(*arguments: str) -> tuple[int, str, str]:
        return await drawbridge("jobs", *arguments, environ=environ)

    dead = []
    for kind in ("greet", "greet", "weather"):
        dead.append(await api.put(kind, max_attempts=1))
        await api.finish(await api.claim(), JobState.FAILED, error=JobError("E", "m"))
    status, out, _ = await jobs("list", "--dead", "--kind", "weather", "--json")
    assert [job["run_id"] for job in json.loads(out)["jobs"]] == dead[2:]
    assert (await jobs("rerun", dead[0]))[:2] == (0, f"{dead[0]} queued\n")
    status, out, err = await jobs("rerun", dead[0], dead[1])
    assert (status, out) == (1, f"{dead[1]} queued\n")
    assert "only a failed one can be run again" in err
    status, out, _ = await jobs("rerun", "--all", "--json")
    assert (status, json.loads(out)) == (0, {"rerun": dead[2:], "refused": []})
    for wrong in ([], ["--all", dead[0]], ["--kind", "greet", dead[0]]):
        assert (await jobs("rerun", *wrong))[0] == 2
