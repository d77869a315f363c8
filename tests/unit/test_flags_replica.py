"""The state in memory: only forward, and only as long as something proves it fresh."""

from dataclasses import dataclass
from datetime import UTC, datetime

from control.flags.document import MAINTENANCE, NOTHING, Document, Flag
from control.flags.replica import LEASE_S, STALE_S, Replica


@dataclass
class HeldClock:
    """Time that moves when it is told to."""

    seconds: float = 1000.0

    def now(self) -> datetime:
        return datetime.fromtimestamp(self.seconds, UTC)

    def monotonic(self) -> float:
        return self.seconds


def document(epoch: int, version: int, *, raised: bool = False) -> Document:
    return Document(epoch, version, {MAINTENANCE: Flag(is_active=raised)})


def test_nothing_is_known_and_nothing_admitted_at_first() -> None:
    replica = Replica(HeldClock())
    assert replica.document is NOTHING
    assert not replica.known.is_set()
    assert not replica.admits()
    assert replica.stale
    assert replica.staleness_s is None
    assert replica.source == "memory"


def test_it_never_goes_back() -> None:
    replica = Replica(HeldClock())
    told: list[tuple[int, int]] = []
    replica.on_change(lambda before, after: told.append((before.version, after.version)))
    for epoch, version in [(1, 2), (1, 1), (1, 2), (1, 3), (0, 9), (2, 0), (1, 99)]:
        replica.apply(document(epoch, version), "test")
    assert replica.position == (2, 0)
    assert told == [(0, 2), (2, 3), (3, 0)]


def test_a_listener_that_fails_or_leaves_harms_nobody() -> None:
    replica = Replica(HeldClock())
    told: list[int] = []

    def fail(_before: Document, _after: Document) -> None:
        raise RuntimeError

    replica.on_change(fail)
    leave = replica.on_change(lambda _before, after: told.append(after.version))
    replica.apply(document(1, 1), "test")
    leave()
    replica.apply(document(1, 2), "test")
    assert told == [1]
    assert replica.position == (1, 2)


def test_the_raised_flag_is_at_hand() -> None:
    replica = Replica(HeldClock())
    replica.apply(document(1, 1, raised=True), "test")
    assert replica.raised == Flag(is_active=True)
    replica.apply(document(1, 2), "test")
    assert replica.raised is None


def test_proof_ages_to_stale_and_then_shuts_the_door() -> None:
    clock = HeldClock()
    replica = Replica(clock)
    replica.apply(document(1, 1), "test")
    assert not replica.admits()
    replica.prove("redis", clock.seconds)
    assert (replica.admits(), replica.stale, replica.source) == (True, False, "redis")
    clock.seconds += STALE_S + 0.1
    assert (replica.admits(), replica.stale, replica.source) == (True, True, "memory")
    clock.seconds += LEASE_S - STALE_S
    assert not replica.admits()
    replica.prove("database", clock.seconds - 0.5)
    assert (replica.admits(), replica.stale, replica.source) == (True, False, "database")
    replica.prove("database", clock.seconds - 4)
    assert replica.staleness_s == 0.5


def test_an_old_answer_proves_nothing_new() -> None:
    """A process that was held finds the answers to old questions waiting."""
    clock = HeldClock()
    replica = Replica(clock)
    replica.apply(document(1, 1), "test")
    asked_at = clock.seconds
    replica.prove("redis", asked_at)
    clock.seconds += 10
    replica.prove("redis", asked_at + 0.9)
    assert not replica.admits()
