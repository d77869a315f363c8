"""Signatures of webhooks, and the addresses they may go to."""

from contextlib import aclosing
from datetime import UTC, datetime, timedelta

import pytest
from standardwebhooks import Webhook, WebhookVerificationError

from control.config import load
from control.errors import ConfigError
from control.webhooks.destinations import Destinations, parsed
from control.webhooks.signature import Signer, new_secret

PUBLIC = ("93.184.215.14", "2606:2800:21f:cb07:6820:80da:af6b:8b2c", "64:ff9b::5db8:d70e")
PRIVATE = (
    "127.0.0.1", "127.9.9.9", "0.0.0.0", "10.1.2.3", "172.16.0.1", "192.168.1.1", "100.64.0.1",
    "169.254.169.254", "168.63.129.16", "100.100.100.200", "192.0.0.192", "224.0.0.1",
    "239.1.1.1", "255.255.255.255", "240.0.0.1", "198.18.0.1",
    "::1", "::", "fe80::1", "fe80::1%eth0", "fc00::1", "fd00:ec2::254", "fec0::1", "ff02::1",
    "ff0e::1", "::ffff:127.0.0.1", "::ffff:a9fe:a9fe", "64:ff9b::7f00:1", "2002:7f00:1::",
    "2001:0:0:0:0:0:80ff:fffe", "2001:db8::1",
)  # fmt: skip


def test_the_vector_of_the_specification() -> None:
    signer = Signer(["whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"])
    at = datetime.fromtimestamp(1614265330, UTC)
    assert signer.headers("msg_p5jXN8AQM9LWM0D4loKWxJek", at, b'{"test": 2432232314}') == {
        "webhook-id": "msg_p5jXN8AQM9LWM0D4loKWxJek",
        "webhook-timestamp": "1614265330",
        "webhook-signature": "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE=",
    }


def test_either_secret_verifies_while_one_replaces_the_other() -> None:
    old, new, body = new_secret(), new_secret(), '{"grüße": 1}'.encode()
    headers = Signer([new, old]).headers("m", datetime.now(UTC), body)
    for secret in (old, new):
        Webhook(secret).verify(body, headers)
    with pytest.raises(WebhookVerificationError):
        Webhook(new_secret()).verify(body, headers)
    late = Signer([new]).headers("m", datetime.now(UTC) - timedelta(hours=1), body)
    with pytest.raises(WebhookVerificationError):
        Webhook(new).verify(body, late)


@pytest.mark.parametrize(
    "bad", ["plain", "whsec_", "whsec_c2hvcnQ=", "whsec_%%%", "whsec_" + "A" * 200]
)
def test_a_bad_secret_stops_the_start_and_is_not_shown(bad: str) -> None:
    with pytest.raises(ConfigError) as caught:
        load(("environment", {"DRAWBRIDGE_CALLBACK_SECRET": f"{new_secret()} {bad}"}))
    assert bad == "whsec_" or bad not in str(caught.value)
    config = load(("environment", {"DRAWBRIDGE_CALLBACK_SECRET": new_secret()}))
    assert not [row for row in config.rows() if "whsec_" in row[1]]


async def test_only_public_addresses_are_allowed() -> None:
    async with aclosing(Destinations()) as anywhere:
        assert [ip for ip in PUBLIC if not anywhere.allows(ip)] == []
        assert [ip for ip in PRIVATE if anywhere.allows(ip)] == []
    async with aclosing(Destinations(["10.1.0.0/16", "::1"])) as some:
        assert some.allows("10.1.2.3")
        assert some.allows("::1")
        assert not some.allows("10.2.0.1")
        assert not some.allows("127.0.0.1")


@pytest.mark.parametrize(
    "url",
    [
        "", "example.org", "//example.org/", "ftp://example.org/", "file:///etc/passwd",
        "https://", "https:///x", "https://user@example.org/", "https://:secret@example.org/",
        "https://example.org:0x50/", "https://example.org:99999/", "https://[::1/",
        "https://example.org/" + "x" * 2048,
    ],
)  # fmt: skip
def test_what_is_no_address_is_refused_without_being_repeated(url: str) -> None:
    with pytest.raises(ValueError, match=r"^(cannot|must|is longer)") as caught:
        parsed(url)
    assert "secret" not in str(caught.value)


@pytest.mark.parametrize(
    "url",
    [
        "http://127.0.0.1/", "http://localhost:6379/", "http://[::1]/", "http://2130706433/",
        "http://0x7f.1/", "http://127.1/", "http://[::ffff:10.0.0.1]/", "http://0/",
        "http://169.254.169.254/latest/meta-data/",
    ],
)  # fmt: skip
async def test_a_url_that_leads_inside_is_refused_where_it_is_named(url: str) -> None:
    async with aclosing(Destinations()) as anywhere:
        with pytest.raises(ValueError, match="not a public one"):
            await anywhere.check(url)
