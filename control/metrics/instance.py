"""Metrics of one instance, service or worker alike: checks, readiness, flags, event loop, pool."""

from collections.abc import Callable

from prometheus_client.metrics_core import CounterMetricFamily
from prometheus_client.registry import Collector

from control.clock import Clock
from control.flags.document import Document
from control.flags.replica import Replica
from control.health.engine import Engine
from control.health.probes import Probes
from control.health.report import Status, status
from control.health.watchdog import Watchdog
from control.metrics.tally import Families, Histogram, counter, gauge, value

_PROPAGATION_S = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0)
_LAG_S = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 3.0)

Occupancy = Callable[[], tuple[int, int, int]]
"""How many connections a pool has in use, how many open, how many it may open at most."""


class Checks(Collector):
    """What the engine's newest snapshot says, and ``/ready``."""

    def __init__(self, engine: Engine, probes: Probes, clock: Clock) -> None:
        self._engine = engine
        self._probes = probes
        self._clock = clock

    def collect(self) -> Families:
        results = self._engine.snapshot.results.values()
        monotonic, now = self._clock.monotonic(), self._clock.now()
        probed = [result for result in results if result.at is not None]
        yield gauge(
            "drawbridge_check_status", "1 for the status that the check has.", ("check", "status"),
            {(result.name, word): float(status(result, monotonic) is word)
             for result in results for word in Status},
        )  # fmt: skip
        yield gauge(
            "drawbridge_check_duration_seconds", "How long the newest probe took.", ("check",),
            {(result.name,): result.duration_s for result in probed},
        )  # fmt: skip
        yield gauge(
            "drawbridge_check_age_seconds", "Time since the newest probe was judged.", ("check",),
            {(result.name,): max(0.0, (now - result.at).total_seconds())
             for result in probed if result.at is not None},
        )  # fmt: skip
        yield counter(
            "drawbridge_check_transitions", "Changes of the check's state.", ("check",),
            {(result.name,): float(result.transitions) for result in results},
        )  # fmt: skip
        yield value("drawbridge_ready", "1 while /ready says 200.", self._probes.readiness()[0])
        stopping = self._probes.shutting_down.is_set()
        yield value("drawbridge_shutting_down", "1 from SIGTERM on.", stopping)


class Flags(Collector):
    """What this instance holds of the flags, how fresh, and how long changes took to come."""

    def __init__(self, replica: Replica, clock: Clock) -> None:
        self._replica = replica
        self._clock = clock
        self._delays = Histogram(_PROPAGATION_S)
        replica.on_change(self._changed)

    def collect(self) -> Families:
        held = self._replica.document
        yield value("drawbridge_flags_epoch", "Epoch of the document of flags.", held.epoch)
        yield value("drawbridge_flags_version", "Version of the document of flags.", held.version)
        yield gauge(
            "drawbridge_flag_active", "1 while the flag is on.", ("flag",),
            {(name,): float(flag.is_active) for name, flag in held.flags.items()},
        )  # fmt: skip
        if (age_s := self._replica.staleness_s) is not None:
            meaning = "Age of the newest proof that the flags are fresh."
            yield value("drawbridge_control_staleness_seconds", meaning, age_s)
        meaning = "1 while that proof is too old, or has never come."
        yield value("drawbridge_control_stale", meaning, self._replica.stale)
        yield self._delays.family(
            "drawbridge_flags_propagation_seconds", "From a flag's change until it is applied here."
        )

    def _changed(self, before: Document, after: Document) -> None:
        """The first document tells of old changes, and so does one after a long absence: that is
        how long they took to come."""
        if not before.epoch:
            return
        now = self._clock.now()
        for name, flag in after.flags.items():
            if flag.changed_at is not None and flag != before.flags.get(name):
                self._delays.observe((), max(0.0, (now - flag.changed_at).total_seconds()))


class Loop(Collector):
    """How late the event loop runs what is due."""

    def __init__(self, watchdog: Watchdog) -> None:
        self._watchdog = watchdog
        self._lags = Histogram(_LAG_S)
        watchdog.on_beat(lambda lag_s: self._lags.observe((), lag_s))

    def collect(self) -> Families:
        yield self._lags.family(
            "drawbridge_event_loop_lag_seconds", "How late the loop woke, looked at twenty times/s."
        )
        yield CounterMetricFamily(
            "drawbridge_event_loop_blockages", "Times that it stood still for a second and more.",
            self._watchdog.blockages,
        )  # fmt: skip


class Pool(Collector):
    """Connections to PostgreSQL."""

    def __init__(self, occupancy: Occupancy) -> None:
        self._occupancy = occupancy

    def collect(self) -> Families:
        used, opened, most = self._occupancy()
        yield gauge(
            "drawbridge_pool_connections", "Open connections.", ("pool", "state"),
            {("database", "in_use"): used, ("database", "idle"): opened - used},
        )  # fmt: skip
        yield gauge(
            "drawbridge_pool_connections_max", "Connections that it may open.", ("pool",),
            {("database",): most},
        )  # fmt: skip
