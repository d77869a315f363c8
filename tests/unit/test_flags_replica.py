"""The state in memory: only forward, and only as long as something proves it fresh."""

import math
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import UTC, datetime

import pytest
from redis.asyncio import Redis

from control.flags import fallback
from control.flags.document import MAINTENANCE, NOTHING, Document, Flag
from control.flags.presence import Presence
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


def test_a_proof_that_is_withdrawn_counts_no_longer() -> None:
    """Whose row in PostgreSQL is gone is not waited for; only the lease in Redis counts then."""
    clock = HeldClock()
    replica = Replica(clock)
    replica.prove("redis", clock.seconds)
    clock.seconds += 0.8
    replica.prove("database", clock.seconds)
    replica.withdraw("database")
    clock.seconds += LEASE_S - 0.8
    assert replica.admits()
    clock.seconds += 0.1
    assert not replica.admits()


class Roll:
    """PostgreSQL, as far as the fallback talks to it. ``proved_on_leaving`` is how old its proof
    was when the row was removed."""

    def __init__(self, replica: Replica) -> None:
        self._replica = replica
        self.connection = self
        self.proved_on_leaving: float | None = None

    async def fetchrow(self, *_: object) -> dict[str, int]:
        return {"epoch": 1, "version": 1}

    async def execute(self, *_: object) -> None:
        self.proved_on_leaving = self._replica.age_s("database")

    async def pause(self, _seconds: float) -> None:
        """Redis comes back."""
        assert self._replica.source == "database"
        self._replica.prove("redis", 1000.0 + STALE_S + 1)


async def test_who_leaves_a_roll_relies_on_it_no_longer(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = HeldClock()
    replica = Replica(clock)
    replica.apply(document(1, 1), "test")
    roll = Roll(replica)

    @asynccontextmanager
    async def feed(_url: str) -> AsyncIterator[Roll]:
        yield roll

    monkeypatch.setattr(fallback, "truth_feed", feed)
    presence = Presence("i", "worker", redis=Redis(), replica=replica, clock=clock)
    following = fallback.Fallback(
        "", "i", ledger=None, replica=replica, presence=presence, clock=clock,  # type: ignore[arg-type]
    )  # fmt: skip
    clock.seconds += STALE_S + 1
    await following._follow()
    assert roll.proved_on_leaving == math.inf
    assert replica.source == "redis"
