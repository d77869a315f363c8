"""Settings: where they come from, what is refused, and what is never shown."""

import string
from collections.abc import Mapping
from pathlib import Path
from urllib.parse import quote

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from control import running
from control.config import Config, default_data_dir, load
from control.errors import ConfigError
from control.settings import masked


def one(environ: Mapping[str, str]) -> Config:
    return load(("environment", environ))


def row(config: Config, variable: str) -> tuple[str, str, str]:
    """Value, default and source of one setting as `drawbridge config` shows them."""
    return next((v, d, s) for name, v, d, s, _ in config.rows() if name == variable)


def refusal(environ: Mapping[str, str]) -> str:
    with pytest.raises(ConfigError) as caught:
        one(environ)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_nothing_set_means_every_default() -> None:
    config = one({})
    assert config == Config()
    for _, value, default, source, summary in config.rows():
        assert value == default
        assert source == "default"
        assert summary


def test_every_setting_of_ours_has_the_prefix_and_is_declared_once() -> None:
    names = [name for name, *_ in Config().rows()]
    foreign = {"REDIS_URL", "DATABASE_URL", "NEO4J_URI", "NEO4J_USER", "NEO4J_PASSWORD"}
    assert len(set(names)) == len(names)
    assert {name for name in names if not name.startswith("DRAWBRIDGE_")} == foreign


@pytest.mark.parametrize(
    ("variable", "text", "section", "attribute", "value"),
    [
        ("REDIS_URL", "redis+sentinel://a:1,b:2/main/0", "redis", "url", "redis+sentinel://a:1,b:2/main/0"),
        ("DRAWBRIDGE_PORT", "0", "service", "port", 0),
        ("DRAWBRIDGE_PORT", " 65535 ", "service", "port", 65535),
        ("DRAWBRIDGE_MAX_BODY", "32MiB", "service", "max_body", 32 << 20),
        ("DRAWBRIDGE_MAX_BODY", "64 k", "service", "max_body", 64 << 10),
        ("DRAWBRIDGE_MAX_BODY", "17", "service", "max_body", 17),
        ("DRAWBRIDGE_DRAIN_SOFT_S", "1.5", "worker", "drain_soft_s", 1.5),
        ("DRAWBRIDGE_LEASE_S", "1", "jobs", "lease_s", 1.0),
        ("DRAWBRIDGE_JOBS", "a.b, c  d", "jobs", "modules", ("a.b", "c", "d")),
        ("DRAWBRIDGE_SAMPLE", "ON", "client", "sample", True),
        ("DRAWBRIDGE_SAMPLE", "0", "client", "sample", False),
        ("DRAWBRIDGE_LOG_LEVEL", "debug", "log", "level", "debug"),
    ],
)  # fmt: skip
def test_good_values(variable: str, text: str, section: str, attribute: str, value: object) -> None:
    assert getattr(getattr(one({variable: text}), section), attribute) == value


@pytest.mark.parametrize(
    ("variable", "text", "reason"),
    [
        ("DRAWBRIDGE_PORT", "http", "must be a whole number from 0 to 65535, not 'http'"),
        ("DRAWBRIDGE_PORT", "65536", "must be a whole number from 0 to 65535, not '65536'"),
        ("DRAWBRIDGE_PORT", "-1", "must be a whole number from 0 to 65535, not '-1'"),
        ("DRAWBRIDGE_PORT", "8e3", "must be a whole number"),
        ("DRAWBRIDGE_PORT", "9" * 5000, "must be a whole number"),
        ("DRAWBRIDGE_LEASE_S", "0", "must be a number of seconds from 1 to 3600, not '0'"),
        ("DRAWBRIDGE_LEASE_S", "nan", "must be a number of seconds"),
        ("DRAWBRIDGE_LEASE_S", "inf", "must be a number of seconds"),
        ("DRAWBRIDGE_LEASE_S", "soon", "must be a number of seconds"),
        ("DRAWBRIDGE_MAX_BODY", "32 parsecs", "must be a size such as 33554432 or 32MiB"),
        ("DRAWBRIDGE_MAX_BODY", "-1", "must be a size"),
        ("DRAWBRIDGE_SAMPLE", "perhaps", "must be true or false, not 'perhaps'"),
        ("DRAWBRIDGE_LOG_LEVEL", "loud", "must be one of debug, info, warning, error, not 'loud'"),
        ("DRAWBRIDGE_ADMIN_TOKEN", "a", "must be at least 16 characters long"),
        ("DRAWBRIDGE_ADMIN_TOKEN", "x" * 16 + " " + "y" * 15, "must be at least 16 characters"),
        ("DRAWBRIDGE_ADMIN_TOKEN", "ä" * 16, "cannot be sent in a header"),
        ("DRAWBRIDGE_API", "http://127.0.0.1:99999", "must be an http(s) URL such as http://"),
        ("DRAWBRIDGE_TOKEN", "a\nb", "cannot be sent in a header"),
        ("DRAWBRIDGE_ANONYMOUS", "all", "must be one of jobs, none"),
        ("REDIS_URL", "localhost:6379", "must be a URL that starts with redis:// or"),
        (
            "DATABASE_URL",
            "mysql://x",
            "must be a URL that starts with postgresql:// or postgres://",
        ),
        ("NEO4J_URI", "http://[", "must be a URL that starts with bolt://"),
    ],
)
def test_bad_values_are_refused_in_one_line(variable: str, text: str, reason: str) -> None:
    said = refusal({variable: text})
    assert said.startswith(f"{variable} (from environment) ")
    assert reason in said


def test_a_bad_url_is_refused_without_repeating_its_password() -> None:
    for variable in ("REDIS_URL", "DATABASE_URL", "NEO4J_URI"):
        assert "hunter2" not in refusal({variable: "gopher://user:hunter2@host"})


def test_a_bad_token_is_refused_without_repeating_it() -> None:
    for text in ("hunter2", "x" * 16 + " hunter2", "ä hunter2"):
        assert "hunter2" not in refusal({"DRAWBRIDGE_ADMIN_TOKEN": text})
    assert "hunter2" not in refusal({"DRAWBRIDGE_TOKEN": "a\nhunter2"})


@pytest.mark.parametrize(
    ("variable", "hint"),
    [
        ("DRAWBRIDGE_PROT", "did you mean DRAWBRIDGE_PORT?"),
        ("DRAWBRIDGE_LOGLEVEL", "did you mean DRAWBRIDGE_LOG_LEVEL?"),
        ("DRAWBRIDGE_xyzzy", "`drawbridge config` lists every setting"),
    ],
)
def test_an_unknown_setting_is_refused_with_a_hint(variable: str, hint: str) -> None:
    said = refusal({variable: "s3cret", "PATH": "/bin"})
    assert said.startswith(f"{variable} (from environment) is not a setting of Drawbridge")
    assert hint in said
    assert "s3cret" not in said


def test_the_first_layer_wins_and_sources_are_told() -> None:
    config = load(
        ("environment", {"DRAWBRIDGE_PORT": "1", "DRAWBRIDGE_HOST": "  "}),
        ("stack", {"DRAWBRIDGE_PORT": "2", "DRAWBRIDGE_HOST": "::1"}),
    )
    assert row(config, "DRAWBRIDGE_PORT") == ("1", "8080", "environment")
    assert row(config, "DRAWBRIDGE_HOST") == ("::1", "127.0.0.1", "stack")  # blank is unset
    assert row(config, "DRAWBRIDGE_WORKER_PORT") == ("8090", "8090", "default")


def test_an_unknown_setting_is_refused_in_every_layer() -> None:
    with pytest.raises(ConfigError, match=r"DRAWBRIDGE_NO \(from stack\)"):
        load(("environment", {}), ("stack", {"DRAWBRIDGE_NO": ""}))


def test_a_section_cannot_be_changed() -> None:
    with pytest.raises(AttributeError):
        Config().service.port = 1  # type: ignore[misc]


def test_the_data_folder_follows_the_environment() -> None:
    assert running.data_dir({"DRAWBRIDGE_DATA_DIR": "/d", "HOME": "/h"}) == Path("/d")
    assert running.data_dir({"HOME": "/h"}) == default_data_dir({"HOME": "/h"})
    assert default_data_dir({"HOME": "/h"}).is_relative_to("/h")


def test_no_stack_means_no_note(tmp_path: Path) -> None:
    assert running.find(tmp_path) is None
    (tmp_path / "stack.json").write_text('{"services": []}')
    (tmp_path / "lock").touch()
    assert running.find(tmp_path) is None  # left behind: nobody holds the lock


# No lower-case letters, digits or asterisks: what is found of such a password has leaked.
SECRETS = st.text(
    string.ascii_uppercase + string.punctuation.replace("*", ""), min_size=16, max_size=40
)
SECRET_VARIABLES = ("NEO4J_PASSWORD", "DRAWBRIDGE_ADMIN_TOKEN", "DRAWBRIDGE_TOKEN")


@settings(deadline=None)
@given(secret=SECRETS)
def test_no_secret_is_ever_shown(secret: str) -> None:
    for variable in SECRET_VARIABLES:
        # What is shown does not depend on the secret, so it cannot tell anything of it.
        assert list(one({variable: secret}).rows()) == list(
            one({variable: "another-of-16-and-more"}).rows()
        )
        assert row(one({variable: secret}), variable)[0] == "***"


@settings(deadline=None)
@given(secret=SECRETS, encoded=st.booleans())
def test_no_password_inside_an_address_is_ever_shown(secret: str, encoded: bool) -> None:
    password = quote(secret, safe="") if encoded else secret
    for variable, address in (
        ("REDIS_URL", f"redis://:{password}@host:6379/0"),
        ("REDIS_URL", f"redis+sentinel://user:{password}@a:1,b:2/main/0"),
        ("REDIS_URL", f"rediss+cluster://user:{password}@a:1,b:2"),
        ("DATABASE_URL", f"postgresql://user:{password}@/db?host=/run"),
        ("NEO4J_URI", f"bolt://user:{password}@host:7687"),
        ("DRAWBRIDGE_API", f"https://user:{password}@host"),
    ):
        assert not leaks(password, shown_of(variable, address))


@settings(deadline=None)
@given(secret=SECRETS)
def test_no_password_in_a_query_is_ever_shown(secret: str) -> None:
    password = quote(secret, safe=":/?@!$'()*,;")
    for name in ("password", "sslpassword", "sentinel_password", "PASSWORD"):
        address = f"unix:///run/redis?db=0&{name}={password}&x=1"
        assert not leaks(password, shown_of("REDIS_URL", address))


def shown_of(variable: str, address: str) -> str:
    """What anybody sees of an address: its row, or the refusal of it."""
    try:
        return row(one({variable: address}), variable)[0]
    except ConfigError as error:
        return str(error)


def leaks(password: str, text: str) -> bool:
    """Whether any five characters of the password in a row can be seen."""
    return any(password[at : at + 5] in text for at in range(len(password) - 4))


@pytest.mark.parametrize(
    ("address", "safe"),
    [
        ("redis://host:6379/0", "redis://host:6379/0"),
        ("redis://user@host", "redis://user@host"),
        ("redis://user:pw@host", "redis://user:***@host"),
        ("redis://:pw@host", "redis://:***@host"),
        ("postgresql:///db?user=me&password=pw&host=/run", "postgresql:///db?user=me&password=***&host=/run"),
        ("two: redis://a:b@c and bolt://d:e@f", "two: redis://a:***@c and bolt://d:***@f"),
    ],
)  # fmt: skip
def test_what_is_no_secret_stays_readable(address: str, safe: str) -> None:
    assert masked(address, secret=False) == safe
