"""A CPU-bound function submits jobs: the worker does, and tells its process what became of it."""

from typing import Any

import msgspec
import pytest
import structlog

from control.errors import BridgeUp, InvalidInput
from tests.models.cpu_kinds import submitting
from worker.context import Terms
from worker.cpu.process import CpuProcess, Ended
from worker.jobs.job import JobState
from worker.testing import run_kind


async def run(submit: Any, **terms: Any) -> Ended:
    process = CpuProcess(
        "t.submit", ["tests.models.cpu_kinds"], memory=4 << 30, log=structlog.get_logger(),
        on_progress=print, on_checkpoint=print, on_submit=submit,
    )  # fmt: skip
    return await process.run(
        run_id="01RUN", attempt=1, correlation_id="c", payload=msgspec.json.encode(terms),
        checkpoint=None,
    )  # fmt: skip


async def test_it_gets_the_run_ids() -> None:
    asked: list[Any] = []

    async def submit(kind: str, payload: Any, terms: Terms) -> str:
        asked.append((kind, payload, terms))
        return f"child {payload}"

    ended = await run(submit, key="k", run_at="2126-11-21T00:00:00Z")
    assert ended.result == b'["child 0","child 1"]'
    assert [(kind, payload) for kind, payload, _ in asked] == [("t.echo", 0), ("t.echo", 1)]
    terms = asked[0][2]
    assert (terms.key, terms.run_at.year, terms.priority) == ("k", 2126, "normal")


@pytest.mark.parametrize(
    ("error", "retryable"),
    [(BridgeUp("maintenance is on"), True), (InvalidInput("must be", "payload"), False)],
)
async def test_it_hears_why_there_is_none(error: Exception, retryable: bool) -> None:
    async def submit(kind: str, payload: Any, terms: Terms) -> str:
        raise error

    ended = await run(submit)
    assert ended.error is not None
    assert (ended.error.class_, ended.error.message) == ("NotSubmitted", str(error))
    assert ended.retryable is retryable


async def test_terms_that_there_are_not() -> None:
    ended = await run(None, colour="blue")
    assert ended.error is not None
    assert "colour" in ended.error.message


@pytest.mark.parametrize("process", [False, True])
async def test_it_is_written_down_in_tests(process: bool) -> None:
    seen = await run_kind(submitting, {}, process=process)
    assert (seen.status, len(seen.result)) == (JobState.COMPLETED, 2)
    assert seen.submitted == [("t.echo", 0), ("t.echo", 1)]
