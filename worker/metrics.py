"""Metrics of a worker: what it runs, how its jobs ended, where its drain stands, whom it told."""

from collections import Counter

from prometheus_client.registry import Collector

from control.metrics.tally import Families, Histogram, counter, gauge, value
from worker.drain import Drain, Phase
from worker.executor import Executor
from worker.notify.courier import Courier

_DURATION_S = (0.005, 0.01, 0.05, 0.1, 0.5, 1.0, 5.0, 10.0, 30.0, 60.0, 300.0, 1800.0, 7200.0)


class Work(Collector):
    """Kinds that this worker does not know count as ``unknown``."""

    def __init__(self, executor: Executor, drain: Drain) -> None:
        self._executor = executor
        self._drain = drain
        self._times = Histogram(_DURATION_S)
        executor.on_end(lambda kind, outcome, took_s: self._times.observe((kind, outcome), took_s))

    def collect(self) -> Families:
        labels = ("kind", "outcome")
        yield counter(
            "drawbridge_jobs_ended", "Runs that ended here.", labels, self._times.counts()
        )  # fmt: skip
        yield self._times.family("drawbridge_job_duration_seconds", "How long they ran.", labels)
        running = Counter(
            run.kind.name if run.kind else "unknown"
            for run in self._executor.running.values()
            if run.run is not None
        )
        yield gauge(
            "drawbridge_jobs_running", "Runs under way here.", ("kind",),
            {(kind,): n for kind, n in running.items()},
        )  # fmt: skip
        yield value(
            "drawbridge_outcomes_unsent", "Outcomes that Redis has not taken yet.",
            self._executor.unsent,
        )  # fmt: skip
        yield gauge(
            "drawbridge_drain_phase", "1 for the phase that the worker is in.", ("phase",),
            {(phase.value,): float(self._drain.phase is phase) for phase in Phase},
        )  # fmt: skip


class Told(Collector):
    """What subscribers of the status page were told from here."""

    def __init__(self, courier: Courier) -> None:
        self._courier = courier

    def collect(self) -> Families:
        yield counter(
            "drawbridge_notices", "Attempts to tell a subscriber that ended here.",
            ("channel", "outcome"), self._courier.outcomes,
        )  # fmt: skip
