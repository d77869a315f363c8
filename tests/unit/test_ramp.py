"""How many slots open after a pause, and when."""

import pytest

from worker.ramp import STEP_S, Ramp


class HandClock:
    """A clock that a test moves."""

    def __init__(self) -> None:
        self.at = 1000.0

    def monotonic(self) -> float:
        return self.at


@pytest.fixture
def clock() -> HandClock:
    return HandClock()


def opened(ramp: Ramp, clock: HandClock, steps: int) -> list[int]:
    """Open slots now and after each of some steps."""
    found = [ramp.open]
    for _ in range(steps):
        clock.at += STEP_S
        found.append(ramp.open)
    return found


def test_no_slot_is_open_before_the_beginning(clock: HandClock) -> None:
    assert opened(Ramp(8, clock), clock, 2) == [0, 0, 0]  # type: ignore[arg-type]


def test_slots_double_until_all_are_open(clock: HandClock) -> None:
    ramp = Ramp(100, clock)  # type: ignore[arg-type]
    ramp.begin(0)
    assert opened(ramp, clock, 8) == [1, 2, 4, 8, 16, 32, 64, 100, 100]
    assert ramp.next_s is None
    clock.at += 10**9
    assert ramp.open == 100


def test_who_never_rested_has_all_slots_at_once(clock: HandClock) -> None:
    ramp = Ramp(100, clock)  # type: ignore[arg-type]
    ramp.begin(0, bit_by_bit=False)
    assert (ramp.open, ramp.next_s) == (100, None)


def test_slots_that_are_taken_do_not_slow_the_ramp(clock: HandClock) -> None:
    ramp = Ramp(10, clock)  # type: ignore[arg-type]
    ramp.begin(5)
    assert opened(ramp, clock, 3) == [6, 7, 9, 10]
    ramp.begin(10)
    assert (ramp.open, ramp.next_s) == (10, None)


def test_it_says_when_the_next_slots_open(clock: HandClock) -> None:
    ramp = Ramp(4, clock)  # type: ignore[arg-type]
    ramp.begin(0)
    clock.at += STEP_S * 0.75
    before, wait_s = ramp.open, ramp.next_s
    assert wait_s is not None
    clock.at += wait_s + 1e-9
    assert ramp.open > before
