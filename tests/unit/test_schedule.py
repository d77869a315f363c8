"""When periodic kinds run."""

from datetime import UTC, datetime
from typing import Any

import msgspec
import pytest

from control.errors import ConfigError
from worker.jobs.kinds import job, kind_of
from worker.jobs.schedule import LATE_MS, MOST, Misfire, Schedule

BERLIN = "Europe/Berlin"


def ms(text: str) -> int:
    return int(datetime.fromisoformat(text).timestamp() * 1000)


def times(schedule: Schedule, after: str, count: int) -> list[str]:
    """The next ``count`` times, each found from the one before, as a worker finds them."""
    at, found = ms(after), []
    for _ in range(count):
        at = schedule.after(at)
        found.append(f"{datetime.fromtimestamp(at / 1000, UTC):%m-%dT%H:%M:%S}")
    return found


def test_an_interval_is_counted_from_1970() -> None:
    every = Schedule(every_ms=300_000)
    assert every.after(0) == 300_000
    assert every.after(299_999) == 300_000
    assert every.after(300_000) == 600_000
    assert times(every, "2026-11-21T09:58:13Z", 2) == ["11-21T10:00:00", "11-21T10:05:00"]


def test_what_the_spring_skips_runs_after_it() -> None:
    nightly = Schedule(cron="30 2 * * *", timezone=BERLIN)
    found = times(nightly, "2026-03-28T00:00:00Z", 3)
    assert found == ["03-28T01:30:00", "03-29T01:00:00", "03-30T00:30:00"]


@pytest.mark.parametrize("begin", ["2026-10-24T12:00:00Z", "2026-10-25T00:29:00Z"])
def test_what_comes_twice_in_autumn_runs_once(begin: str) -> None:
    nightly = Schedule(cron="30 2 * * *", timezone=BERLIN)
    assert times(nightly, begin, 2) == ["10-25T00:30:00", "10-26T01:30:00"]


def test_time_never_goes_back_within_the_hour_that_comes_twice() -> None:
    nightly = Schedule(cron="30 2 * * *", timezone=BERLIN)
    for minute in range(0, 180, 7):
        at = ms("2026-10-25T00:00:00Z") + minute * 60_000
        assert nightly.after(at) > at


def test_hours_that_all_count_do_so_across_both_changes() -> None:
    hourly = Schedule(cron="0 * * * *", timezone=BERLIN)
    for day in ("2026-03-28T23:00:00Z", "2026-10-24T23:00:00Z"):
        at = ms(day)
        for _ in range(5):
            assert hourly.after(at) == at + 3_600_000
            at += 3_600_000


def test_until_is_every_time_and_the_one_after() -> None:
    every = Schedule(every_ms=1_000)
    assert every.until(5_000, 7_999) == ([5_000, 6_000, 7_000], 8_000)
    assert every.until(5_000, 5_000) == ([5_000], 6_000)
    assert every.until(5_000, 4_999) == ([], 5_000)


@pytest.mark.parametrize("schedule", [Schedule(every_ms=1_000), Schedule(cron="* * * * *")])
def test_a_long_absence_costs_little_and_leaves_the_last_times(schedule: Schedule) -> None:
    asked = []
    counted = Schedule.after

    def counting(self: Schedule, at: int) -> int:
        asked.append(at)
        return counted(self, at)

    due, now = ms("2016-01-01T00:00:00Z"), ms("2026-01-01T00:00:30Z")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Schedule, "after", counting)
        found, following = schedule.until(due, now)
    assert len(asked) < 20_000
    assert len(found) == MOST
    assert following > now
    step = following - found[-1]
    assert found == [following - step * n for n in range(MOST, 0, -1)]


@pytest.mark.parametrize(
    ("misfire", "on_time", "late"),
    [("skip", [3], []), ("once", [3], [3]), ("all", [1, 2, 3], [1, 2, 3])],
)
def test_what_was_missed(misfire: Misfire, on_time: list[int], late: list[int]) -> None:
    schedule = Schedule(every_ms=1, misfire=misfire)
    assert schedule.runs([1, 2, 3], 3 + LATE_MS) == on_time
    assert schedule.runs([1, 2, 3], 4 + LATE_MS) == late


class Needs(msgspec.Struct):
    city: str


async def anything(context: Any, payload: Any) -> None: ...


async def needs(context: Any, payload: Needs) -> None: ...


@pytest.mark.parametrize(
    ("terms", "says"),
    [
        ({"every": "5m", "cron": "* * * * *"}, "not both"),
        ({"every": "0.5s"}, "shorter than a second"),
        ({"every": "often"}, "not a span of time"),
        ({"every": "1h", "timezone": BERLIN}, "no timezone"),
        ({"cron": "61 * * * *"}, "cron='61 * * * *'"),
        ({"cron": "@daily"}, "cron='@daily'"),
        ({"cron": "0 0 30 2 *"}, "cron="),
        ({"cron": "0 3 * * *", "timezone": "Mars/Olympus"}, "timezone='Mars/Olympus'"),
        ({"timezone": BERLIN}, "need every"),
        ({"misfire": "once"}, "need every"),
        ({"every": "1h", "misfire": "twice"}, "skip, once or all"),
    ],
)
def test_a_declaration_that_cannot_be(terms: dict[str, Any], says: str) -> None:
    with pytest.raises(ConfigError, match="job kind 'p'") as caught:
        job("p", **terms)(anything)
    assert says in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_periodic_kind_does_with_nothing() -> None:
    with pytest.raises(ConfigError, match="city: is required"):
        job("p", every="1h")(needs)
    assert kind_of(job("p", every="1h30m")(anything)).schedule == Schedule(every_ms=5_400_000)
