"""What a fleet asks of its stores, computed from the program's own constants and encodings.

A model of what is sent, not of time: how many commands, how many bytes, how many connections. The
benchmark and a test compare it with what Redis counts while a real fleet is idle.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import UTC, datetime

import hiredis
import msgspec

from control import ids, keys
from control.config import Config
from control.flags import beacon, events, presence
from control.flags import document as documents
from control.flags.document import DECLARED, INACTIVE, Document, Position
from control.flags.events import BeaconEvent
from control.flags.presence import ReplicaReport
from control.flags.replica import LEASE_S
from control.health.check import Check
from control.subscriber import PING_EVERY_S
from worker import archivist, consumer, leases, trimmer
from worker.jobs import workforce

_DIGEST = "0" * 40
_ID = ids.new_id()
_POSITION = Position(1_763_700_000_000, 100)
_NOW = datetime(2026, 1, 1, 12, 30, 15, 123456, tzinfo=UTC)
COMMAND_BYTES, EVENT_BYTES = 250, 700
"""A command with a reason; a document of two flags."""

_ROUND_TRIP_S = 0.003
"""What an answer adds to a pause: habits of a second hardly notice."""


@dataclass(frozen=True)
class Habit:
    """Something that is sent to Redis again and again, for as long as an instance lives."""

    what: str
    command: str
    """As Redis counts it."""
    per_s: float
    inside: int = 0
    """The commands that it runs inside a script."""
    sent: int = 0
    """Bytes."""
    answered: int = 0
    """Bytes."""


@dataclass(frozen=True)
class Load:
    """What Redis gets to do in a second."""

    sent: float
    """Commands that clients send."""
    inside: float
    """Commands that scripts run."""
    received_bytes: float
    answered_bytes: float

    def __add__(self, other: "Load") -> "Load":
        return Load(
            self.sent + other.sent,
            self.inside + other.inside,
            self.received_bytes + other.received_bytes,
            self.answered_bytes + other.answered_bytes,
        )

    def times(self, count: float) -> "Load":
        """So much for ``count`` of them."""
        return Load(
            self.sent * count,
            self.inside * count,
            self.received_bytes * count,
            self.answered_bytes * count,
        )


@dataclass(frozen=True)
class Size:
    """How many there are of each; ``light`` replicas do what every instance does to Redis, and no
    more."""

    services: int = 0
    workers: int = 0
    light: int = 0
    listeners: int = 0
    """Who else listens to the events, such as the benchmark."""

    @property
    def instances(self) -> int:
        """All that hold a lease."""
        return self.services + self.workers + self.light


@dataclass(frozen=True)
class Connections:
    """Connections that idle instances keep open."""

    redis: int
    postgres: int
    graph: int


def replica() -> tuple[Habit, ...]:
    """What every instance does for the control plane."""
    return (
        _script(
            "reports that it lives, and what it has applied", 1 / (presence.RENEW_S + 0.001), 13,
            [keys.LEASES, keys.REPORTS, keys.BEGAN],
            [_ID, int(LEASE_S * 1000), _report(), presence.KEPT_MS, keys.REPLICAS_CHANNEL, 0],
            answered=_len_of((1_700_000_000_000, 1)),
        ),
        Habit(
            "proves its subscription", "ping", 1 / PING_EVERY_S,
            sent=_packed("PING", "12345.678901234"), answered=_len_of(b"12345.678901234"),
        ),
    )  # fmt: skip


def checks() -> tuple[Habit, ...]:
    """What the health check of Redis does in every instance, whose reports vouch for Redis."""
    every_s = Check.unasked_s + _ROUND_TRIP_S
    told = (_ID.encode(), b"123456789", b"0", b"noeviction", b"master", b"0")
    return (
        _script(
            "checks Redis", 1 / every_s, 4, [keys.echo(_ID)], [_ID, 10_000], answered=_len_of(told)
        ),
    )


def service() -> tuple[Habit, ...]:
    """What a service does besides, while there are workers."""
    every_s = workforce.INTERVAL_S + _ROUND_TRIP_S
    return (
        _script("looks at workers and queues", 1 / every_s, 20, [keys.JOBS], [],
                answered=_len_of((3, 0, 0, -1, 0, 0, 0, 0))),
    )  # fmt: skip


def worker(config: Config) -> tuple[Habit, ...]:
    """What a worker does besides, while there are no jobs."""
    lanes = sum(bool(slots) for slots in (config.worker.cpu_slots, config.worker.io_slots))
    offers = lanes / consumer.CALL_WAIT_S
    archive_s = archivist.IDLE_S * 0.75
    return (
        _script("renews the lease of its jobs", leases.BEATS_PER_LEASE / config.jobs.lease_s, 21,
                [keys.JOBS], [_ID, 15_000, ""], answered=_len_of((b"", b"1" * 13, (), 1 << 40))),
        _script("offers again to take jobs", offers, 14, [keys.JOBS],
                [_ID, "io", 50, "{}", 1000, 1, "", 1], answered=_len_of((1, ()))),
        _script("looks for jobs to archive", 1 / archive_s, 4, [keys.JOBS], [_ID, 15_000, 200],
                answered=_len_of(())),
        _script("takes expired jobs out of the listings", 1 / (trimmer.EVERY_S * 0.75), 3,
                [keys.JOBS], [1 << 40, 1000], answered=_len_of(0)),
    )  # fmt: skip


def in_office(config: Config) -> tuple[Habit, ...]:
    """What one instance of the fleet does besides, the beacon."""
    every_s = beacon.TICK_S + 2 * _ROUND_TRIP_S
    names = (*DECLARED, *config.control.flags)
    document = Document(1_763_700_000_000, 100, dict.fromkeys(names, INACTIVE))
    said = [document.epoch, document.version, documents.encode(document), keys.EVENTS_CHANNEL, ""]
    return (
        _script("compares the projection", 1 / every_s, 2,
                [keys.FLAGS, *map(keys.status, names)],
                [*said, events.of_document(document, _NOW),
                 *(part for name in names for part in (name, "false"))],
                answered=_len_of((b"same", *(str(part).encode() for part in _POSITION)))),
        Habit("says the position", "publish", 1 / every_s,
              sent=_packed("PUBLISH", keys.EVENTS_CHANNEL, _said()), answered=_len_of(1)),
    )  # fmt: skip


def idle(size: Size, config: Config | None = None) -> Load:
    """What a fleet without work asks of Redis in a second."""
    config = config or Config()
    heard = Load(0, 0, 0, _message(_said()) / beacon.TICK_S)
    return (
        _load((*replica(), *checks())).times(size.instances)
        + _load(service()).times(size.services)
        + _load(worker(config)).times(size.workers)
        + _load(in_office(config))
        + heard.times(size.instances + size.listeners)
    )


def change(instances: int, *, event: int = EVENT_BYTES, waiters: int = 1) -> Load:
    """What one change asks of Redis until everybody has reported it; the load of a change, not of a
    second. ``event`` is the bytes of the message with the whole document.

    Every instance hears the command and the event, and reports. Each waiter hears every report and
    reads the roll twice.
    """
    report, told = replica()[0], instances * _len_of(_report())
    heard = _message(b"c" * COMMAND_BYTES) + _message(b"e" * event)
    return Load(
        sent=instances + 3 + 2 * waiters,
        inside=instances * (report.inside + 1) + 2 * waiters * (instances + 3),
        received_bytes=instances * report.sent + COMMAND_BYTES + 2 * event,
        answered_bytes=instances * (heard + report.answered)
        + waiters * (instances * _message(_report()) + 2 * told),
    )


def between_changes(size: Size, config: Config | None = None) -> Load:
    """What goes on beside changes that follow each other within a second: each of their reports
    renews a lease as well as another would."""
    renewals = _load(replica()[:1]).times(size.instances)
    return idle(size, config) + renewals.times(-1)


def connections(size: Size, config: Config | None = None, *, busy: bool = False) -> Connections:
    """What stays open.

    Redis: the subscription, the connection that the control plane shares, the health check's; a
    service's check of the workers; a worker's job engine. PostgreSQL: the health check's, the
    candidate's for keeping the status page, one of the pool that reads what the page tells; the
    pool fills when it is used (``busy``) and closes what was idle for five minutes. The beacon has
    one more of both.
    """
    config = config or Config()
    real = size.services + size.workers
    pool = config.postgres.pool_size if busy else 1
    used = 1 if busy else 0  # a service's job engine connects when it is first used
    return Connections(
        redis=size.services * (4 + used) + size.workers * 4 + size.light * 4 + 1,
        postgres=real * (2 + pool) + 1,
        graph=real * (2 if busy else 1),
    )


def _load(habits: Iterable[Habit]) -> Load:
    total = Load(0, 0, 0, 0)
    for each in habits:
        total += Load(1, each.inside, each.sent, each.answered).times(each.per_s)
    return total


def _script(
    what: str,
    per_s: float,
    inside: int,
    named: list[str],
    arguments: list[str | bytes | int],
    *,
    answered: int,
) -> Habit:
    sent = _packed("EVALSHA", _DIGEST, len(named), *named, *arguments)
    return Habit(what, "evalsha", per_s, inside, sent, answered)


def _report() -> bytes:
    return msgspec.json.encode(
        ReplicaReport(
            id=_ID, kind="service", host="drawbridge-5c9f", pid=12345,
            epoch=_POSITION.epoch, version=_POSITION.version,
            phase="running", running=0, quiesced=False, staleness_s=0.512, source="redis", at=_NOW,
        )
    )  # fmt: skip


def _said() -> bytes:
    return msgspec.json.encode(
        BeaconEvent(epoch=_POSITION.epoch, version=_POSITION.version, at=_NOW)
    )


def _message(content: bytes) -> int:
    """Bytes of a message to one subscriber."""
    return _len_of((b"message", keys.EVENTS_CHANNEL.encode(), content))


def _packed(*command: str | bytes | int) -> int:
    return len(hiredis.pack_command(command))  # type: ignore[arg-type]


def _len_of(answer: object) -> int:
    """Bytes of an answer as Redis writes it."""
    match answer:
        case None:
            return len("_\r\n")
        case int():
            return len(f":{answer}\r\n")
        case bytes():
            return len(f"${len(answer)}\r\n") + len(answer) + 2
        case tuple():
            return len(f"*{len(answer)}\r\n") + sum(map(_len_of, answer))
    raise TypeError(answer)
