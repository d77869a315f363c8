"""Metrics of the service: what it was asked, what it accepted, and what waits for workers."""

from collections import Counter
from collections.abc import Mapping
from typing import Any

from aiohttp import web
from prometheus_client.registry import Collector

from control.health.engine import Engine
from control.metrics.tally import Families, Histogram, counter, gauge, value
from worker.jobs.manager import JobStateManager
from worker.jobs.workforce import WORKERS

_LATENCY_S = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)
_METHODS = frozenset({"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"})


def route_of(request: web.Request) -> str:
    """The template of the route, so that logs and metrics hold no ids; ``unmatched`` for none."""
    resource = request.match_info.route.resource
    return "unmatched" if resource is None else resource.canonical


class Traffic(Collector):
    """Requests by route, method and code. A stream has no duration: it lasts as long as its reader
    likes.

    Spellings of a route with a trailing slash are the same, and so are all methods that nobody
    has heard of.
    """

    def __init__(self) -> None:
        self._answers: Counter[tuple[str, str, int]] = Counter()
        self._times = Histogram(_LATENCY_S)

    def count(self, route: str, method: str, code: int, took_s: float | None) -> None:
        """One more answer; ``took_s`` is ``None`` for a stream, and where the caller left."""
        route = route.rstrip("/")
        if method not in _METHODS:
            method = "other"
        self._answers[route, method, code] += 1
        if took_s is not None:
            self._times.observe((route, method), took_s)

    def collect(self) -> Families:
        yield counter(
            "drawbridge_http_requests", "Requests that were answered; 499: the caller left.",
            ("route", "method", "code"),
            {(route, method, str(code)): n for (route, method, code), n in self._answers.items()},
        )  # fmt: skip
        yield self._times.family(
            "drawbridge_http_request_duration_seconds", "Time to the answer, but for streams.",
            ("route", "method"),
        )  # fmt: skip


class Jobs(Collector):
    """What this instance accepted, and what its check of the workers saw last of the queues."""

    def __init__(self, jobs: JobStateManager, engine: Engine) -> None:
        self._jobs = jobs
        self._engine = engine

    def collect(self) -> Families:
        yield counter(
            "drawbridge_jobs_accepted", "Jobs that this instance accepted.", ("kind",),
            {(kind,): n for kind, n in self._jobs.accepted.items()},
        )  # fmt: skip
        seen: Mapping[str, Any] = self._engine.snapshot.results[WORKERS].details
        if "live" not in seen:
            return  # nobody could look
        waiting, running = seen["waiting"], seen["running"]
        states = {
            "queued": sum(waiting.values()) + seen["held"],
            "running": sum(running.values()),
            "scheduled": seen["scheduled"],
        }
        yield gauge(
            "drawbridge_jobs", "Jobs in the whole installation, by state.", ("state",),
            {(state,): n for state, n in states.items()},
        )  # fmt: skip
        yield gauge(
            "drawbridge_queue_depth", "Jobs that wait for a worker.", ("lane",),
            {(lane,): n for lane, n in waiting.items()},
        )  # fmt: skip
        yield value(
            "drawbridge_queue_oldest_seconds", "How long the job waits that was queued first.",
            seen["oldest_waiting_s"] or 0.0,
        )  # fmt: skip
        yield value("drawbridge_workers_live", "Workers that hold a lease.", seen["live"])
