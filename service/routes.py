"""Every route of the service on one page: method, path, handler, who may use it, what it answers.

OpenAPI is made from this table, so a route that is not here does not exist.
"""

from types import MappingProxyType

from control.health.probes import Probes
from service import problems as p
from service.auth import Access
from service.handlers import docs, optimize
from service.handlers.jobs import EventsQuery, JobHandlers, JobList, JobView, ListQuery
from service.routing import JSON, Answer, Route, ok
from service.schemas import Event, JobResult, Payload, Ready, Solution, Text, Up
from service.submission import Receipt

_JOBS = JobHandlers("/jobs")
_SSE = "text/event-stream"
_IDEMPOTENT = {
    "Idempotency-Key": "1 to 255 characters; the same key and body give the first job back",
    "traceparent": "W3C Trace Context; carried with the job",
}
_RESUME = {"Last-Event-ID": "the id of the last event that was seen; the stream goes on after it"}
_ACCEPTED = MappingProxyType({
    202: Answer("Accepted", {JSON: Receipt}, {"Location": "where the job's record is"}),
    200: Answer("The job that this Idempotency-Key made before", {JSON: Receipt}),
})  # fmt: skip
_STREAM = MappingProxyType({
    200: Answer("Events: `status`, `progress`, and `end` as the last one", {_SSE: Event}),
    204: Answer("The job is finished and there is no event after the last one"),
})  # fmt: skip
_MODEL = {JSON: Payload("optimize"), "application/x-mps": Text, "application/x-lp": Text}
_SUBMISSION = (
    "The body is JSON, or the model itself; then the query says what the JSON would say beside it. "
    "Either may be compressed (`Content-Encoding: gzip` or `deflate`)."
)
_SUBMIT = (p.MALFORMED, p.TOO_LARGE, p.UNSUPPORTED, p.INVALID, p.KEY_REUSED, p.BRIDGE_UP)
_READ = (p.NOT_FOUND,)
_RESULT = (p.NOT_FOUND, p.NOT_FINISHED, p.NO_RESULT, p.NOT_ACCEPTABLE)
_CANCEL = (p.NOT_FOUND, p.FORBIDDEN, p.FINISHED)
_EVENTS = (p.NOT_FOUND, p.INVALID)


def table(probes: Probes) -> tuple[Route, ...]:
    """The routes, in the order in which the documentation shows them."""
    return (
        *_optimize(),
        *_jobs(_JOBS, "Jobs", "a job of any kind", "jobs of every kind", JobResult),
        *_health(probes),
        *_documentation(),
    )


def _optimize() -> tuple[Route, ...]:
    tag, family = "Optimisation", optimize.FAMILY
    return (
        Route(
            "POST", "/optimize", optimize.submit, Access.JOBS, tag, "Submit a model to be solved",
            _ACCEPTED, _SUBMISSION, optimize.ModelQuery, _IDEMPOTENT, _MODEL, _SUBMIT,
        ),
        *_jobs(family, tag, "an optimisation", "optimisations", Solution),
    )  # fmt: skip


def _jobs(
    family: JobHandlers, tag: str, what: str, all_of_them: str, result: type
) -> tuple[Route, ...]:
    root, job, jobs = family.path, family.path + "/{run_id}", Access.JOBS
    results = {200: Answer("What it returned", {JSON: result, "text/csv": Text})}
    return (
        Route("GET", root, family.list, jobs, tag, f"List {all_of_them}, newest first",
              ok(JobList), query=ListQuery, refusals=(p.INVALID,)),
        Route("GET", job, family.record, jobs, tag, f"The record of {what}",
              ok(JobView), refusals=_READ),
        Route("GET", job + "/status", family.record, jobs, tag, f"The status of {what}",
              ok(JobView), "The same as the record.", refusals=_READ),
        Route("GET", job + "/result", family.result, jobs, tag, f"The result of {what}",
              results, "As JSON, or its columns and values as CSV.", refusals=_RESULT),
        Route("GET", job + "/events", family.events, jobs, tag, f"Follow {what}",
              _STREAM, query=EventsQuery, headers=_RESUME, refusals=_EVENTS),
        Route("DELETE", job, family.cancel, jobs, tag, f"Cancel {what}",
              ok(JobView, "Cancelled, or about to be", status=202), refusals=_CANCEL),
    )  # fmt: skip


def _health(probes: Probes) -> tuple[Route, ...]:
    tag, anyone = "Health", Access.PUBLIC
    ready = {200: Answer("Ready", {JSON: Ready}), 503: Answer("Not ready", {JSON: dict})}
    return (
        Route("GET", "/health", probes.health, anyone, tag, "Whether the process lives",
              ok(Up), slash=True),
        Route("GET", "/ready", probes.ready, anyone, tag, "Whether it can do its work",
              ready, slash=True),
    )  # fmt: skip


def _documentation() -> tuple[Route, ...]:
    tag, anyone = "Documentation", Access.PUBLIC
    page = {200: Answer("A page", {"text/html": Text})}
    asset = {200: Answer("A file", {"*/*": Text})}
    problem = {200: Answer("Its meaning", {"text/plain": Text})}
    return (
        Route("GET", "/openapi.json", docs.openapi, anyone, tag, "This description", ok(dict)),
        Route("GET", "/docs", docs.page, anyone, tag, "This description, to read and try out", page,
              slash=True),
        Route("GET", "/docs/{file}", docs.asset, anyone, tag, "A file of that page", asset,
              refusals=(p.NOT_FOUND,)),
        Route("GET", "/problems/{name}", docs.problem, anyone, tag, "What a type of problem means",
              problem, refusals=(p.NOT_FOUND,)),
    )  # fmt: skip
