"""What each error means to a caller."""

import msgspec
import pytest
from aiohttp import web

from control.errors import BridgeUp, DrawbridgeError, InvalidInput, StoreUnavailable
from service import problems
from worker.jobs.errors import JobFinished, KeyReused, UnknownJob
from worker.jobs.job import JobState

RUN_ID = "01M7Y2N3T3Y84VNNX6KMEFGVXZ"


@pytest.mark.parametrize(
    ("error", "status", "members"),
    [
        (StoreUnavailable("redis", "timeout"), 503, {"dependency": "redis"}),
        (BridgeUp("maintenance is on"), 503, {}),
        (InvalidInput("must be whole", "options.threads"), 422, {"field": "options.threads"}),
        (InvalidInput("no such row", "line 12"), 422, {"line": 12}),
        (InvalidInput("is wrong"), 422, {}),
        (KeyReused(), 422, {"field": "Idempotency-Key"}),
        (UnknownJob(RUN_ID), 404, {}),
        (JobFinished(RUN_ID, JobState.FAILED), 409, {"job_status": "failed"}),
        (web.HTTPNotFound(), 404, {}),
        (web.HTTPMethodNotAllowed("PUT", ["GET", "POST"]), 405, {}),
        (web.HTTPExpectationFailed(), 417, {}),
    ],
)
def test_domain_errors(error: Exception, status: int, members: dict[str, object]) -> None:
    problem = problems.of(error)
    assert problem is not None
    response = problem.response("r-1")
    document = msgspec.json.decode(response.body)
    assert response.status == document["status"] == status
    assert response.content_type == "application/problem+json"
    assert document["request_id"] == "r-1"
    known = {"type", "title", "status", "detail", "request_id"}
    assert {name: document[name] for name in document.keys() - known} == members


@pytest.mark.parametrize("error", [StoreUnavailable("redis", "timeout"), BridgeUp("up")])
def test_what_passes_says_when_to_come_back(error: DrawbridgeError) -> None:
    problem = problems.of(error)
    assert problem is not None
    assert int(problem.headers["Retry-After"]) > 0


def test_a_refused_method_says_which_are_allowed() -> None:
    problem = problems.of(web.HTTPMethodNotAllowed("PUT", ["POST", "GET"]))
    assert problem is not None
    assert problem.headers["Allow"] == "GET, POST"


@pytest.mark.parametrize("error", [ValueError("x"), DrawbridgeError("x"), KeyError("x")])
def test_a_fault_of_ours_is_no_problem_of_the_callers(error: Exception) -> None:
    assert problems.of(error) is None


def test_no_two_types_share_a_name() -> None:
    declared = [v for v in vars(problems).values() if isinstance(v, problems.ProblemType)]
    assert len(declared) == len(problems.TYPES)
    assert {kind.name for kind in declared} == problems.TYPES.keys()
