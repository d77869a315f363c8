"""What the raised bridge answers: why, until when, and how soon to come back."""

from datetime import UTC, datetime, timedelta

import msgspec
import pytest

from control.flags.document import Flag
from service.gate import refusal, retry_after_s

NOW = datetime(2026, 11, 21, 3, 4, 5, tzinfo=UTC)


@pytest.mark.parametrize(
    ("rest_s", "least", "most"),
    [
        (None, 48, 72), (0, 48, 72), (-5, 48, 72), (0.2, 1, 1), (1, 1, 1), (10, 8, 12),
        (60, 48, 72), (1000, 800, 1200), (86_400, 69_120, 103_680),
    ],
)  # fmt: skip
def test_retry_after_is_the_rest_of_the_window_more_or_less(
    rest_s: float | None, least: int, most: int
) -> None:
    until = None if rest_s is None else NOW + timedelta(seconds=rest_s)
    drawn = {retry_after_s(until, NOW) for _ in range(500)}
    assert least <= min(drawn) <= max(drawn) <= most
    assert len(drawn) > 1 or least == most, "callers are not to come back all at once"


def test_the_refusal_tells_what_is_known() -> None:
    until = NOW + timedelta(minutes=10)
    flag = Flag(is_active=True, reason="db upgrade", until=until, mode="read_only")
    response = refusal(flag, NOW).response("r-1")
    told = msgspec.json.decode(response.body)
    assert (response.status, response.content_type) == (503, "application/problem+json")
    assert response.headers["Cache-Control"] == "no-store"
    assert told["retry_after_s"] == int(response.headers["Retry-After"])
    assert told["detail"] == "Maintenance is on: db upgrade."
    assert (told["reason"], told["mode"], told["request_id"]) == ("db upgrade", "read_only", "r-1")
    assert told["until"] == "2026-11-21T03:14:05.000Z"


@pytest.mark.parametrize("flag", [None, Flag(is_active=True)])
def test_the_refusal_without_a_reason(flag: Flag | None) -> None:
    told = msgspec.json.decode(refusal(flag, NOW).response("r-1").body)
    assert (told["detail"], told["reason"], told["until"]) == ("Maintenance is on.", None, None)
