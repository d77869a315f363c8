"""The operators' pass: secrets that replace one another, and tokens that nobody signed."""

import jwt
import pytest

from control.clock import SystemClock
from control.config import load
from control.errors import ConfigError
from service.bypass import AUDIENCE, Bearer, Bypass

NEW, OLD = "n" * 32, "o" * 32
ADA = Bearer("ada", "t-1")


def made(secrets: str) -> Bypass:
    return Bypass(secrets, SystemClock())


def test_one_secret_replaces_another() -> None:
    of_old, of_new = made(OLD).issue(ADA, 60)[0], made(f"{NEW} {OLD}").issue(ADA, 60)[0]
    both = made(f"{NEW} {OLD}")
    assert both.bearer(of_old) == both.bearer(of_new) == ADA
    assert made(NEW).bearer(of_new) == ADA  # the new one signs
    assert made(NEW).bearer(of_old) is None


def test_only_what_we_signed_for_this_passes() -> None:
    good = {"aud": AUDIENCE, "sub": "ada", "jti": "t-1", "exp": 4_000_000_000}
    for claims, key, algorithm in (
        (good, None, "none"), (good, "x" * 32, "HS256"), (good, NEW * 2, "HS512"),
        ({**good, "aud": "other"}, NEW, "HS256"), ({**good, "exp": 1}, NEW, "HS256"),
        ({**good, "exp": "2100"}, NEW, "HS256"),
        *(({k: v for k, v in good.items() if k != name}, NEW, "HS256") for name in good),
    ):  # fmt: skip
        token = jwt.encode(claims, key, algorithm)
        assert made(f"{NEW} {OLD}").bearer(token) is None, (claims, algorithm)
    assert made(f"{NEW} {OLD}").bearer(jwt.encode(good, NEW, "HS256")) == ADA


@pytest.mark.parametrize("bad", ["s" * 31, f"{NEW} short"])
def test_a_short_secret_stops_the_start_and_is_not_shown(bad: str) -> None:
    with pytest.raises(ConfigError, match="at least 32") as caught:
        load(("environment", {"DRAWBRIDGE_SECRET": bad}))
    assert "short" not in str(caught.value).replace("shorter", "")
