"""How often the stores are looked at is a setting; as it comes, it keeps the contract."""

import pytest

from control import config
from control.errors import ConfigError
from control.health import dependencies
from control.health.check import Check
from control.health.engine import JITTER

NAME = "DRAWBRIDGE_HEALTH_EVERY_S"


async def _paces(environ: dict[str, str]) -> list[Check]:
    async with dependencies.checks(config.load(("environment", environ))) as checks:
        return list(checks)


async def test_a_dead_store_shows_within_three_seconds_unless_told_otherwise() -> None:
    for check in await _paces({}):
        assert (1 + JITTER) * check.interval_s + check.timeout_s <= 3
        assert check.vouched_s + check.timeout_s <= 2.75
    assert [check.interval_s for check in await _paces({NAME: "3"})] == [3.0] * 3


def test_a_pace_that_cannot_be_is_refused() -> None:
    with pytest.raises(ConfigError, match=NAME):
        config.load(("environment", {NAME: "0.01"}))
