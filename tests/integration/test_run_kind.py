"""worker.testing: kinds run in place, as their authors' own tests do it."""

import pytest

from control.errors import ConfigError, InvalidInput
from tests.models.user_kinds import add, chain, count, greet, shout, sleepy, weather, words
from worker.jobs.job import JobError, JobState
from worker.testing import run_kind


async def test_a_result_progress_and_logs() -> None:
    run = await run_kind(greet, {"name": "Ada", "times": 2})
    assert run.status is JobState.COMPLETED
    assert run.result == {"hello": "Ada"}
    assert run.progress == [{"step": 1}, {"step": 2}]
    assert run.logs == [{"event": "greeted", "whom": "Ada", "log_level": "info"}]
    assert run.error is None


async def test_a_payload_is_checked_as_in_a_submission() -> None:
    with pytest.raises(InvalidInput, match="name: is required"):
        await run_kind(greet, {})
    with pytest.raises(InvalidInput, match=r"terms\[1\]: Expected `int`"):
        await run_kind(add, {"terms": [1, "two"]})
    assert (await run_kind(weather, {"city": "Cork"})).result == "rain in Cork"


async def test_what_it_submits_is_written_down() -> None:
    run = await run_kind(chain, 1)
    assert (run.status, run.submitted) == (JobState.COMPLETED, [("chain", 2)])


async def test_a_function_that_is_no_kind() -> None:
    async def stranger(context: object, payload: object) -> None:
        raise AssertionError

    with pytest.raises(ConfigError, match="stranger is no job kind"):
        await run_kind(stranger)


async def test_resources_are_stood_in_for() -> None:
    run = await run_kind(shout, 1, resources={words: {"hello": "hi"}})
    assert run.result == ["hi", 1]
    run = await run_kind(shout, 1)
    assert run.error is not None
    assert run.error.class_ == "LookupError"


async def test_a_drain_hands_back_and_the_next_run_goes_on() -> None:
    first = await run_kind(
        count, {"to": 9}, stop="drain", stop_when=lambda run: run.checkpoint == 4
    )
    assert (first.status, first.checkpoint, first.result) == (JobState.QUEUED, 4, None)
    again = await run_kind(count, {"to": 9}, attempt=2, restored=first.checkpoint)
    assert again.result == {"counted": 9, "attempt": 2}


async def test_a_drain_that_is_not_heeded_ends_at_the_hard_deadline() -> None:
    asked = {"to": 1, "wait": 1, "deaf": 1}
    run = await run_kind(count, asked, stop="drain", kill_after_s=0.0)
    assert (run.status, run.checkpoint) == (JobState.QUEUED, 1)


@pytest.mark.parametrize(
    ("stop", "status", "error"),
    [("cancelled", JobState.CANCELLED, None), ("timeout", JobState.FAILED, "JobTimeout")],
)
async def test_a_cancel_and_a_timeout(stop, status: JobState, error: str | None) -> None:
    run = await run_kind(count, {"to": 1, "wait": 1}, stop=stop)
    assert run.status is status
    assert (run.error.class_ if run.error else None) == error


async def test_an_error_is_tried_again_up_to_the_last_attempt() -> None:
    first = await run_kind(count, {"to": 2, "trip": 1})
    assert first.status is JobState.SCHEDULED
    assert first.error == JobError("Passing", "not now")
    [line] = first.logs
    assert type(line["exc_info"]).__name__ == "Passing"
    last = await run_kind(count, {"to": 2, "trip": 1}, attempt=2, restored=first.checkpoint)
    assert last.status is JobState.FAILED


@pytest.mark.parametrize("process", [False, True])
async def test_a_cpu_bound_kind(process: bool) -> None:
    run = await run_kind(add, {"terms": [1, 2, 3]}, process=process)
    assert (run.status, run.result) == (JobState.COMPLETED, 6)
    assert run.progress[-1] == {"at": 3, "sum": 6}
    assert run.checkpoint == {"at": 3, "sum": 6}
    again = await run_kind(add, {"terms": [1, 2, 3]}, restored={"at": 2, "sum": 9}, process=process)
    assert again.result == 12


async def test_a_cpu_bound_kind_tells_every_progress_in_place() -> None:
    run = await run_kind(add, {"terms": list(range(50))})
    assert [told["at"] for told in run.progress] == list(range(1, 51))


async def test_a_cpu_bound_kind_is_drained_between_two_terms() -> None:
    first = await run_kind(
        add, {"terms": [1, 2, 3]}, stop="drain", stop_when=lambda run: run.checkpoint
    )
    assert (first.status, first.checkpoint) == (JobState.QUEUED, {"at": 1, "sum": 1})
    assert first.logs == [{"event": "stopped", "at": 1, "draining": True, "log_level": "info"}]


async def test_a_deaf_one_is_killed_in_its_process() -> None:
    run = await run_kind(sleepy, stop="cancelled", stop_when=lambda run: run.progress, process=True)
    assert run.status is JobState.CANCELLED
    assert run.progress == [{"asleep": True}]
