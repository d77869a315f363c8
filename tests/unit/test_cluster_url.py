"""The address of a Redis Cluster, and which keys lie together."""

import pytest

from control import keys
from control.errors import ConfigError
from control.job_keys import shards
from control.stores.cluster import Cluster, is_cluster, slot_of


@pytest.mark.parametrize(
    "url",
    [
        "redis+cluster://a:1,b:2",
        "redis+cluster://a,b:2/0",
        "rediss+cluster://user:p%40ss@a:1,[::1]:2/?ssl_ca_certs=/ca.crt",
    ],
)
def test_addresses_that_are_taken(url: str) -> None:
    assert is_cluster(url)
    assert Cluster(url).known(0) is None


@pytest.mark.parametrize(
    ("url", "why"),
    [
        ("redis+cluster://a:1/1", "no other database than 0"),
        ("redis+cluster://", "needs host:port"),
        ("redis+cluster://a:1,,b:2", "needs host:port"),
        ("redis+cluster://a:port", "needs host:port"),
        ("redis+cluster://a:1?socket_timeout=soon", "socket_timeout"),
    ],
)
def test_addresses_that_are_refused(url: str, why: str) -> None:
    with pytest.raises(ConfigError, match=why):
        Cluster(url)


def test_what_a_script_touches_lies_in_one_slot() -> None:
    for each in shards(3):
        assert slot_of(each.prefix) == slot_of(each.flags) == slot_of(each.offers("io"))
    assert slot_of(keys.CONTROL) == slot_of(keys.LEASES) == slot_of(keys.HOME_FLAGS)
    for flag in ("app_maintenance", "spare"):
        assert slot_of(keys.status(flag)) == slot_of(keys.status_copy(flag))
