"""Every route of the service on one page: method, path, handler, who may use it, what it answers.

OpenAPI is made from this table, so a route that is not here does not exist.
"""

from http import HTTPStatus
from types import MappingProxyType
from typing import Any

from aiohttp.typedefs import Handler

from control.flags.audit import AuditPage
from control.health.probes import Probes
from control.health.report import CheckReport
from control.metrics.registry import OPENMETRICS, TEXT, Metrics
from service import health_bodies as b
from service import problems as p
from service import status_page_routes, status_routes, subscription_routes, uploading
from service.auth import Access
from service.bypass import MAX_TTL_S
from service.changes import Changed, Waiting
from service.handlers import app_status, control, docs, health, ingest, kinds, optimize
from service.handlers.jobs import (
    ArchiveQuery,
    EventsQuery,
    JobHandlers,
    JobList,
    JobView,
    PeriodicList,
    archive,
    schedules,
)
from service.health_pages import Page
from service.results import GRAPHML, SVG
from service.routing import JSON, Answer, Route, ok
from service.schemas import (
    Event,
    JobResult,
    KindForm,
    NotReady,
    Payload,
    Ready,
    ReadyQuery,
    Solution,
    Text,
    Up,
)
from service.submission import MOST_AT_ONCE, Receipt, Receipts

_SSE = "text/event-stream"
_IDEMPOTENT = {
    "Idempotency-Key": "1 to 255 characters; the same key and body give the first job back",
    "traceparent": "W3C Trace Context; carried with the job",
}
_RESUME = {"Last-Event-ID": "the id of the last event that was seen; the stream goes on after it"}
_ACCEPTED = MappingProxyType({
    202: Answer("Accepted", {JSON: Receipt}, {"Location": "where the job's record is"}),
    200: Answer("The job that this Idempotency-Key made before, or the live one that has the same "
                "unique key", {JSON: Receipt}),
})  # fmt: skip
_RESULTS = (
    "As JSON, or its columns and values as CSV. A flow over a network also as GraphML, and as a "
    "picture where the network has at most 300 nodes and 3,000 edges; `available` lists what there "
    "is of a result."
)
_ALL_ACCEPTED = MappingProxyType({
    202: Answer("Accepted, every one; their receipts are in the order of the jobs",
                {JSON: Receipts}),
    200: Answer("None is new: an Idempotency-Key made them before, or live ones have their unique "
                "keys", {JSON: Receipts}),
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
_BATCH = (
    f"1 to {MOST_AT_ONCE} submissions, as a JSON array or one a line. Either all are accepted or, "
    "where one is wrong, none: `index` counts them from 0. Where a store fails halfway the answer "
    "is 503: `accepted` lists the jobs that were, `unknown` those whose fate is not known, by "
    "`index` and `run_id`. With an Idempotency-Key the same batch may then be sent again as it is."
)
_ARCHIVE = (
    "The last one to end comes first. `since` and `until` are about the end; `q` are words of the "
    'error, the correlation id, the submitter or the worker, with `or`, `-not` and `"a phrase"`.'
)
_UPLOAD = (
    'Nodes and edges, as NDJSON (`{"type": "node", "id", "supply"}`, `{"type": "edge", '
    '"source", "target", "cost", "capacity", "lower"}`), as a CSV table of edges, as a DIMACS '
    "file (`p min`), or as a form with CSV tables in the fields `nodes` and `edges`. An edge "
    "without a capacity has no limit. Where no node is declared, or with `implied_nodes`, edges "
    "make the nodes that they name. The network of that name is replaced once all is stored; the "
    "job fails, and nothing changes, if a row cannot be used: its `progress.bad_rows` says which."
)
_SUBMIT = (p.INVALID, p.KEY_REUSED)
_READ = (p.NOT_FOUND,)
_RESULT = (p.NOT_FOUND, p.NOT_FINISHED, p.NO_RESULT, p.NOT_ACCEPTABLE)
_CANCEL = (p.NOT_FOUND, p.FORBIDDEN, p.FINISHED)
_AGAIN = (p.NOT_FOUND, p.FORBIDDEN, p.NOT_FAILED, p.UNIQUE_KEY_TAKEN)
_EVENTS = (p.NOT_FOUND, p.INVALID)
_RERUN = (
    "It keeps its id, its payload and its terms, and has all its attempts anew. Failed jobs are "
    "kept as long as results."
)


_FRESH = {"Cache-Control": "`no-store`"}
_RETRY = {"Retry-After": "seconds until it may be different, where that is known"}
_ETAG = {"ETag": "the position of the flags: epoch.version"}
_CHANGE_HEADERS = {
    "If-Match": "an ETag of the flags; they are changed only if they still stand there",
    "Idempotency-Key": "1 to 255 characters; the same key and command are carried out once",
}
_CHANGE = (
    p.INVALID, p.KEY_REUSED, p.FORBIDDEN, p.NOT_FOUND,
    p.VERSION_MISMATCH, p.DEBOUNCED, p.NOBODY_LISTENS, p.COMMAND_TIMEOUT,
    p.ACKNOWLEDGEMENT_TIMEOUT,
)  # fmt: skip
_WAITS = (
    "With `wait=applied` the answer comes once every live instance has applied the change, with "
    "`wait=quiesced` once nothing that was admitted before still runs. After `timeout` seconds "
    "the answer is 504 and names the stragglers; the change itself stands."
)
_HAPPENING = (
    "`flags` is what Redis carries too: all flags, `epoch`, `version` and `at`; `command_id` and "
    "`outcome` (`verdict`, `detail`, `retry_after_s`) of the command that it answers, both null "
    "where it answers none, as the first one does. Its id is the position, epoch.version. "
    "`replica` is the report of one instance, `left` names one that went."
)
_BYPASS = (
    f"Signed, good for at most {MAX_TTL_S} s, audited. Send it in the header "
    "`X-Drawbridge-Bypass`: the gate lets the request through. It opens the way for reading and "
    "for looking at routes; the job engine still accepts no job while maintenance is on."
)


def table(probes: Probes, metrics: Metrics, app_status_base: str) -> tuple[Route, ...]:
    """The routes, in the order in which the documentation shows them."""
    return (
        *_optimize(),
        *_networks(),
        *_kinds(),
        *_control(),
        *_app_status(app_status_base),
        *status_page_routes.table(),
        *status_routes.table(),
        *_health(probes),
        *_metrics(metrics),
        *subscription_routes.table(),
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


def _networks() -> tuple[Route, ...]:
    tag, jobs = "Networks", Access.JOBS
    return (
        Route("POST", "/ingest", ingest.submit, jobs, tag, "Store a network",
              _ACCEPTED, _UPLOAD, ingest.IngestQuery, _IDEMPOTENT,
              dict.fromkeys(uploading.MEDIA, Text), _SUBMIT),
        Route("GET", "/networks", ingest.networks, jobs, tag, "List the networks by name",
              ok(ingest.NetworkList), query=ingest.NetworksQuery, refusals=(p.INVALID,)),
        Route("GET", "/networks/{name}", ingest.network, jobs, tag, "One network",
              ok(ingest.NetworkView), refusals=(p.NOT_FOUND,)),
    )  # fmt: skip


def _kinds() -> tuple[Route, ...]:
    tag, family, access = "Jobs", kinds.FAMILY, Access.JOBS
    one, many = {JSON: KindForm()}, {JSON: KindForm(many=True), kinds.NDJSON: Text}
    refusals = (*_SUBMIT, p.NOT_FOUND)
    return (
        Route("POST", "/jobs/{kind}:batch", kinds.submit_batch, access, tag,
              "Submit many jobs at once", _ALL_ACCEPTED, _BATCH, headers=_IDEMPOTENT, body=many,
              refusals=refusals),
        Route("POST", "/jobs/{kind}", kinds.submit, access, tag, "Submit a job",
              _ACCEPTED, headers=_IDEMPOTENT, body=one, refusals=refusals),
        Route("GET", "/jobs/schedules", schedules, access, tag,
              "The periodic kinds: when each runs next, and when it ran last", ok(PeriodicList)),
        Route("GET", "/jobs/archive", archive, access, tag,
              "Find finished jobs, also those that only the archive still has", ok(JobList),
              _ARCHIVE, ArchiveQuery, refusals=(p.INVALID,)),
        *_jobs(family, tag, "a job of any kind", "jobs of every kind", JobResult),
    )  # fmt: skip


def _jobs(
    family: JobHandlers, tag: str, what: str, all_of_them: str, result: type
) -> tuple[Route, ...]:
    root, job, jobs = family.path, family.path + "/{run_id}", Access.JOBS
    results = {
        200: Answer("What it returned", {JSON: result, "text/csv": Text, GRAPHML: Text, SVG: Text})
    }
    return (
        Route("GET", root, family.list, jobs, tag, f"List {all_of_them}, newest first",
              ok(JobList), query=family.query, refusals=(p.INVALID,)),
        Route("GET", job, family.record, jobs, tag, f"The record of {what}",
              ok(JobView), refusals=_READ),
        Route("GET", job + "/status", family.record, jobs, tag, f"The status of {what}",
              ok(JobView), "The same as the record.", refusals=_READ),
        Route("GET", job + "/result", family.result, jobs, tag, f"The result of {what}",
              results, _RESULTS, refusals=_RESULT),
        Route("GET", job + "/events", family.events, jobs, tag, f"Follow {what}",
              _STREAM, query=EventsQuery, headers=_RESUME, refusals=_EVENTS),
        Route("DELETE", job, family.cancel, jobs, tag, f"Cancel {what}",
              ok(JobView, "Cancelled, or about to be", status=202), refusals=_CANCEL),
        Route("POST", job + "/rerun", family.rerun, jobs, tag, f"Run {what} again that failed",
              ok(JobView, "Queued again, under its own id", status=202), _RERUN, refusals=_AGAIN),
    )  # fmt: skip


def _control() -> tuple[Route, ...]:
    tag, see, steer = "Control", Access.VIEWER, Access.OPERATOR
    flag = "/control/flags/{flag}"
    changed = {200: Answer("The flag stands as asked", {JSON: Changed}, _ETAG)}
    happening = {200: Answer("`flags`, `replicas`, then what happens", {_SSE: Event})}
    bad_query, setting = (p.INVALID, p.FORBIDDEN), {JSON: control.FlagSetting}
    return (
        Route("GET", "/control/flags", control.flags, see, tag, "The flags, and how well known",
              ok(control.Flags, ETag=_ETAG["ETag"]), refusals=(p.FORBIDDEN,)),
        Route("PUT", flag, control.put, steer, tag, "Set a flag",
              changed, _WAITS, Waiting, _CHANGE_HEADERS, setting, _CHANGE),
        Route("POST", flag + "/toggle", control.toggle, steer, tag, "Flip a flag",
              changed, _WAITS, Waiting, _CHANGE_HEADERS, {JSON: control.FlagChange}, _CHANGE,
              body_optional=True),
        Route("POST", flag + "/reset", control.reset, steer, tag, "Switch a flag off",
              changed, _WAITS, Waiting, _CHANGE_HEADERS, {JSON: control.FlagChange}, _CHANGE,
              body_optional=True),
        Route("GET", "/control/replicas", control.replicas, see, tag,
              "Who is live, and what each has applied", ok(control.Replicas),
              refusals=(p.FORBIDDEN,)),
        Route("GET", "/control/events", control.events, see, tag,
              "Follow the flags and the fleet", happening, _HAPPENING, refusals=(p.FORBIDDEN,)),
        Route("GET", "/control/audit", control.audit, see, tag, "Who did what, newest first",
              ok(AuditPage), query=control.AuditQuery, refusals=bad_query),
        Route("POST", "/control/bypass", control.issue_bypass, steer, tag,
              "A token that passes the raised bridge",
              ok(control.BypassToken, "Issued", status=201), _BYPASS,
              body={JSON: control.BypassRequest}, body_optional=True,
              refusals=(*bad_query, p.NOT_CONFIGURED)),
    )  # fmt: skip


def _app_status(base: str) -> tuple[Route, ...]:
    a, anyone, steer = app_status, Access.PUBLIC, Access.OPERATOR
    rows: tuple[tuple[str, str, Handler, Access, type, str, str], ...] = (
        ("GET", "app-health-status", a.health, anyone, a.HealthEnvelope,
         "Whether the application is healthy",
         "503 with `data.reasons`: `maintenance`, `database_unavailable`, `redis_unavailable`, "
         "`control_state_stale`, `shutting_down`; `data.detail` says more on each."),
        ("GET", "app-maintenance-status", a.maintenance, anyone, a.MaintenanceEnvelope,
         "Whether maintenance is on",
         "200 while it is off, 503 with `data.is_maintenance` true while it is on."),
        ("POST", "toggle-app-maintenance-status", a.toggle_maintenance, steer,
         a.MaintenanceEnvelope, "Turn maintenance on or off",
         "Flips it for the whole fleet. Within 2 s of another change: 429, with the current "
         "status in `data`."),
        ("GET", "app-data-ingestion-status", a.ingestion, anyone, a.IngestionEnvelope,
         "Whether data are being ingested", "The flag, as this instance knows it."),
        ("POST", "toggle-app-data-ingestion-status", a.toggle_ingestion, steer,
         a.IngestionEnvelope, "Flip the ingestion flag",
         "Flips the flag only: nothing is started or stopped. Debounced like maintenance."),
        ("PUT", "reset-app-data-ingestion-status", a.reset_ingestion, steer,
         a.IngestionEnvelope, "Force the ingestion flag off",
         "Harmless where it is off already. Debounced like maintenance."),
    )  # fmt: skip
    return tuple(
        Route(method, f"{base}/{name}", handler, access, "App Status", summary,
              _enveloped(envelope, access), description, slash=True, around=a.enveloped,
              headers={} if access is anyone else _CHANGE_HEADERS)
        for method, name, handler, access, envelope, summary, description in rows
    )  # fmt: skip


def _enveloped(envelope: type, access: Access) -> dict[int, Answer]:
    """The answers of an app-status route: its errors have the envelope too."""
    refusals = (500, 503) if access is Access.PUBLIC else (401, 403, 412, 422, 429, 500, 503, 504)
    told = {412: _ETAG, 429: _RETRY, 503: _RETRY}
    refused = {
        each: Answer(HTTPStatus(each).phrase, {JSON: app_status.ErrorEnvelope}, told.get(each, {}))
        for each in refusals
    }
    return {200: Answer("As asked", {JSON: envelope}), **refused}


def _health(probes: Probes) -> tuple[Route, ...]:
    tag, anyone = "Health", Access.PUBLIC
    ready = {200: Answer("Ready", {JSON: Ready}, _FRESH),
             503: Answer("Not ready", {JSON: NotReady}, _FRESH)}  # fmt: skip
    detailed = {JSON: b.Detailed, health.HEALTH_JSON: b.HealthJson}
    told = {200: Answer("Nothing required is down", detailed, _FRESH),
            503: Answer("It is", detailed, _FRESH)}  # fmt: skip
    return (
        Route("GET", "/health", probes.health, anyone, tag, "Whether the process lives",
              {200: Answer("It does", {JSON: Up}, _FRESH)}, slash=True),
        Route("GET", "/ready", probes.ready, anyone, tag, "Whether it can do its work",
              ready, query=ReadyQuery, slash=True),
        Route("GET", "/ready/{check}", probes.ready_of, anyone, tag, "Whether one check passes",
              ready, "Any check of `/health/detailed`, by name.", slash=True,
              refusals=(p.NOT_FOUND,)),
        Route("GET", "/health/detailed", health.detailed, anyone, tag, "Every check", told,
              _SEEN, slash=True),
        *(
            Route("GET", path, health.of(page), anyone, tag, summary, _both(body), _SEEN,
                  slash=True)
            for path, page, body, summary in _HEALTH_PAGES
        ),
        *(
            Route("GET", f"/api/system/health/{name}", health.of(page), anyone, "System health",
                  summary, _both(b.enveloped(body)), _SEEN, slash=True)
            for name, page, body, summary in _SYSTEM_PAGES
        ),
    )  # fmt: skip


def _metrics(metrics: Metrics) -> tuple[Route, ...]:
    told = {200: Answer("As Prometheus reads it", {TEXT: Text, OPENMETRICS: Text}, _FRESH)}
    return tuple(
        Route("GET", path, metrics.page, Access.PUBLIC, tag, "Metrics", told,
              "Read from memory: no check is run. `Accept` may ask for OpenMetrics.", slash=True)
        for path, tag in (("/metrics", "Health"), ("/api/system/health/metrics", "System health"))
    )  # fmt: skip


_SEEN = (
    "Everybody sees states; viewers, and callers from `DRAWBRIDGE_HEALTH_NETWORKS`, see classes of "
    "errors, latencies and details too. Answered from memory."
)
_HEALTH_PAGES: tuple[tuple[str, Page, Any, str], ...] = (
    ("/health/database", health.database_page, b.OneCheck, "PostgreSQL"),
    ("/health/redis", health.redis_page, b.OneCheck, "Redis"),
    ("/health/external", health.external_page, b.External, "Services of others"),
    ("/api/v1/health/", health.v1_page, b.Health, "The whole, and the database"),
    ("/api/v1/status/", health.v1_status_page, b.ServiceStatus, "The same, and what runs here"),
    ("/api/v1/health/ready/", health.v1_ready_page, b.IsReady, "As `/ready`, in a word"),
    ("/api/v1/health/live/", health.v1_live_page, b.IsAlive, "As `/health`, in a word"),
)
_SYSTEM_PAGES: tuple[tuple[str, Page, Any, str], ...] = (
    ("", health.system_page, b.Overview, "The whole, and every check"),
    ("simple", health.system_simple_page, b.Simple, "The whole in a word"),
    ("detailed", health.system_detailed_page, b.Overview, "The same, and what runs here"),
    ("readiness", health.system_readiness_page, b.Readiness, "As `/ready`"),
    ("liveness", health.system_liveness_page, b.Liveness, "As `/health`"),
    ("startup", health.system_startup_page, b.Startup, "Whether it has looked around once"),
    ("database", health.system_database_page, CheckReport, "PostgreSQL"),
    ("redis", health.system_redis_page, CheckReport, "Redis"),
    ("external", health.system_external_page, b.Overview, "Services of others"),
    ("resources", health.system_resources_page, b.Resources, "Memory, processors, disk, files"),
    ("application", health.system_application_page, b.Application, "This instance"),
)


def _both(body: Any) -> dict[int, Answer]:
    return {200: Answer("Well", {JSON: body}, _FRESH),
            503: Answer("Not well", {JSON: body}, _FRESH)}  # fmt: skip


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
