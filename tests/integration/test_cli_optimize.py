"""`drawbridge optimize` and `drawbridge jobs` against a service, the worker's part done by hand."""

import asyncio
import csv
import gzip
import json
import os
import signal
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import msgspec
import pytest

from control.cli.api_client import Api
from control.config import Config, load
from service.appkeys import CLOSING
from tests.serving import MODEL, Served, served
from tests.stack import wait_until
from worker.jobs.job import Claim, JobError, JobState
from worker.jobs.manager import Progress

WITHIN_S = 60
RESULT = {
    "outcome": "optimal",
    "objective": 9.0,
    "bound": 9.0,
    "gap": 0.0,
    "solution": {"x": 3.0, "y": 1.0},
    "solver": "HiGHS",
    "solve_s": 0.01,
}


@pytest.fixture
async def api(stores, redis) -> AsyncIterator[Served]:
    async with served(stores.config) as running:
        yield running


@pytest.fixture
def model(tmp_path: Path) -> Path:
    path = tmp_path / "tiny.mps"
    path.write_bytes(MODEL)
    return path


@asynccontextmanager
async def drawbridge(url: str, *arguments: object) -> AsyncIterator[asyncio.subprocess.Process]:
    """The command as a process that ends with the block."""
    kept = ("PATH", "PYTHONPATH", "VIRTUAL_ENV")
    environ = {name: os.environ[name] for name in kept if name in os.environ}
    environ |= {"HOME": "/nonexistent", "DRAWBRIDGE_API": url}
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "control.cli", *map(str, arguments),
        env=environ, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE,
    )  # fmt: skip
    try:
        yield process
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()


async def ended(process: asyncio.subprocess.Process) -> tuple[int | None, str, str]:
    out, err = await asyncio.wait_for(process.communicate(), WITHIN_S)
    return process.returncode, out.decode(), err.decode()


async def run(api: Served, *arguments: object) -> tuple[int | None, str, str]:
    async with drawbridge(api.url, *arguments) as process:
        return await ended(process)


async def claimed(api: Served) -> Claim:
    """The job that a command has just submitted, as soon as it is there."""

    async def queued() -> bool:
        return bool((await api.jobs.list_jobs(status=JobState.QUEUED)).jobs)

    await wait_until(queued, WITHIN_S)
    return await api.claim()


async def solve(api: Served, claim: Claim) -> None:
    progress = {"phase": "branch and bound", "nodes": 3, "incumbent": 9.0, "gap": 0.1}
    assert await api.jobs.report(Progress(claim.run_id, claim.token, progress))
    await api.finish(claim, JobState.COMPLETED, result=msgspec.json.encode(RESULT))


async def test_without_follow_it_prints_the_run_id(api: Served, model: Path) -> None:
    status, out, err = await run(api, "optimize", model, "--time-limit", 5, "--gap", 0.01,
                                 "--threads", 2, "--seed", 3, "--priority", "low",
                                 "--timeout", 60)  # fmt: skip
    assert (status, err) == (0, "")
    claim = await claimed(api)
    assert out.startswith(f"{claim.run_id} queued")
    assert f"{api.url}/optimize/{claim.run_id}/result" in out
    options = json.loads(claim.payload)["options"]
    assert options["time_limit_s"] == 5
    assert options["mip_rel_gap"] == 0.01
    assert (options["threads"], options["seed"]) == (2, 3)
    assert (claim.spec.priority, claim.spec.timeout_s) == ("low", 60)


async def test_follow_prints_the_optimum(api: Served, model: Path) -> None:
    async with drawbridge(api.url, "optimize", model, "--follow") as process:
        await solve(api, await claimed(api))
        status, out, err = await ended(process)
    assert (status, out) == (0, "optimal · objective 9 · gap 0.00% · solved in 0.01 s\n")
    # What it was before anybody followed it is not told.
    told = err.split()
    assert told[-1] == "completed"
    assert told == [each for each in ("queued", "running", "completed") if each in told]


async def test_json_is_one_line_with_the_whole_result(api: Served, model: Path) -> None:
    async with drawbridge(api.url, "optimize", model, "--follow", "--json") as process:
        claim = await claimed(api)
        await solve(api, claim)
        status, out, _ = await ended(process)
    assert status == 0
    assert json.loads(out) == {"run_id": claim.run_id, **RESULT}


async def test_out_takes_the_solution(api: Served, model: Path, tmp_path: Path) -> None:
    saved = tmp_path / "solution.csv"
    async with drawbridge(api.url, "optimize", model, "--json", "--out", saved) as process:
        await solve(api, await claimed(api))
        status, out, _ = await ended(process)
    assert status == 0
    assert "solution" not in json.loads(out)
    with saved.open(newline="") as file:
        assert list(csv.reader(file)) == [["column", "value"], ["x", "3.0"], ["y", "1.0"]]


@pytest.mark.parametrize("packed", [True, False])
async def test_large_and_packed_models_arrive_whole(
    api: Served, tmp_path: Path, packed: bool
) -> None:
    comment = b"* " + b"comment " * 1000 + b"\n"
    text = comment * 200 + MODEL
    path = tmp_path / ("large.mps.gz" if packed else "large.mps")
    path.write_bytes(gzip.compress(text) if packed else text)
    status, _, err = await run(api, "optimize", path)
    assert (status, err) == (0, "")
    claim = await claimed(api)
    assert json.loads(claim.payload)["problem"]["content"] == text.decode()


async def test_a_failed_job_is_status_1_with_its_reason(api: Served, model: Path) -> None:
    async with drawbridge(api.url, "optimize", model, "--follow") as process:
        claim = await claimed(api)
        await api.finish(claim, JobState.FAILED, error=JobError("BadModel", "no such row"))
        status, out, _ = await ended(process)
    assert (status, out) == (1, "failed: no such row\n")


async def test_a_timeout_is_status_3(api: Served, model: Path) -> None:
    async with drawbridge(api.url, "optimize", model, "--follow") as process:
        claim = await claimed(api)
        await api.finish(claim, JobState.FAILED, error=JobError("JobTimeout", "over 1 s"))
        status, _, _ = await ended(process)
    assert status == 3


async def test_ctrl_c_leaves_the_job_and_says_how_to_go_on(api: Served, model: Path) -> None:
    async with drawbridge(api.url, "optimize", model, "--follow") as process:
        claim = await claimed(api)
        assert process.stderr is not None
        await asyncio.wait_for(process.stderr.readuntil(b"running"), WITHIN_S)
        process.send_signal(signal.SIGINT)
        status, _, err = await ended(process)
    assert status == 130
    assert f"drawbridge jobs show {claim.run_id} --follow" in err
    assert f"drawbridge jobs cancel {claim.run_id}" in err
    assert "Traceback" not in err
    record = await api.jobs.get_job(claim.run_id)
    assert record is not None
    assert record.status is JobState.RUNNING


async def test_following_survives_a_stream_that_breaks_off(api: Served, model: Path) -> None:
    async with drawbridge(api.url, "optimize", model, "--follow") as process:
        claim = await claimed(api)
        assert process.stderr is not None
        await asyncio.wait_for(process.stderr.readuntil(b"running"), WITHIN_S)
        api.app[CLOSING].set()
        api.app[CLOSING].clear()
        await solve(api, claim)
        status, out, _ = await ended(process)
    assert status == 0
    assert out.startswith("optimal")


@pytest.mark.parametrize(
    ("name", "content", "arguments", "status", "word"),
    [
        ("tiny.mps", MODEL, ["--threads", "0"], 1, "threads"),
        ("cut.mps", MODEL[:150], [], 1, "line"),
        ("tiny.txt", MODEL, [], 2, ".mps"),
        ("empty.mps", b"", [], 1, "empty"),
        ("tiny.mps", MODEL, ["--api", "http://127.0.0.1:1"], 1, "http://127.0.0.1:1"),
    ],
)
async def test_a_refusal_is_one_clear_line(
    api: Served, tmp_path: Path, name: str, content: bytes, arguments: list, status: int, word: str
) -> None:
    path = tmp_path / name
    path.write_bytes(content)
    code, out, err = await run(api, "optimize", path, *arguments)
    assert (code, out) == (status, "")
    last = err.strip().splitlines()[-1]
    assert word in last
    assert "Traceback" not in err
    if status == 1:
        assert err.count("\n") == 1


async def test_jobs_list_show_and_cancel(api: Served) -> None:
    run_id = await api.put()
    status, out, _ = await run(api, "jobs", "list")
    assert status == 0
    assert run_id in out
    status, out, _ = await run(api, "jobs", "list", "--json", "--status", "queued")
    assert [job["run_id"] for job in json.loads(out)["jobs"]] == [run_id]
    status, out, _ = await run(api, "jobs", "show", run_id)
    assert (status, "queued" in out) == (0, True)
    status, out, _ = await run(api, "jobs", "cancel", run_id, "--json")
    assert (status, json.loads(out)["status"]) == (0, "cancelled")
    status, out, err = await run(api, "jobs", "cancel", run_id)
    assert (status, out) == (1, "")
    assert "cancelled" in err
    status, _, err = await run(api, "jobs", "show", "nonsense")
    assert (status, err.count("\n")) == (1, 1)


def layered(environment: dict[str, str]) -> Config:
    stack = {"DRAWBRIDGE_API": "http://127.0.0.1:8080", "DRAWBRIDGE_TOKEN": "of-the-stack"}
    return load(("environment", environment), ("running stack in x", stack))


@pytest.mark.parametrize(
    ("environment", "url", "sent"),
    [
        ({}, None, "of-the-stack"),
        ({}, "http://127.0.0.1:8080", "of-the-stack"),
        ({}, "https://elsewhere.example", None),
        ({"DRAWBRIDGE_API": "https://elsewhere.example"}, None, None),
        ({"DRAWBRIDGE_TOKEN": "own"}, "https://elsewhere.example", "own"),
        (
            {"DRAWBRIDGE_TOKEN": "own", "DRAWBRIDGE_API": "https://elsewhere.example"},
            None,
            "own",
        ),
    ],
)
async def test_the_stacks_token_goes_nowhere_else(
    environment: dict[str, str], url: str | None, sent: str | None
) -> None:
    client = Api.of(layered(environment), url)
    assert client.authorisation == ({"Authorization": f"Bearer {sent}"} if sent else {})
