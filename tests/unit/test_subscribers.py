"""Addresses, what is kept of them, links, and texts that fit."""

import base64
import hashlib
import json
import re
from datetime import UTC, datetime, timedelta

import pytest

from control.errors import InvalidInput
from control.subscribers.channel import Channel
from control.subscribers.notice import CONFIRM, Affected, Notice
from control.subscribers.tokens import CONFIRM_WITHIN, BadToken, Tokens
from control.subscribers.vault import Unreadable, Vault
from service.statuspage.subscribing import POLICY
from tests.clocks import ManualClock
from tests.mailroom import BROKEN, SITE, links
from tests.status_states import subscription_pages
from worker.notify import short
from worker.notify.delivery import Delivery
from worker.notify.letters import Letters
from worker.notify.mail import message_of

OLD, NEW = "an-old-secret-of-more-than-32-characters", "a-new-secret-of-more-than-32-characters"
ADA = "01KB0000000000000000000001"
AT = datetime(2026, 11, 21, tzinfo=UTC)


@pytest.mark.parametrize(
    ("channel", "written", "kept"),
    [
        ("email", " Ada.L+x@Example.ORG ", "Ada.L+x@example.org"),
        ("email", "o'hara@straße.example", "o'hara@strasse.example"),
        ("email", "x@bücher.example", "x@xn--bcher-kva.example"),
        ("sms", "+49 (0151) 23-45.67", "+4901512345 67".replace(" ", "")),
        ("sms", "0049 151 2345678", "+491512345678"),
        ("webhook", "HTTPS://Example.org:443/a?b=c#d", "https://example.org/a?b=c"),
    ],
)
def test_addresses_are_kept_in_one_form(channel: str, written: str, kept: str) -> None:
    assert Channel(channel).normal(written) == kept
    assert Channel(channel).normal(kept) == kept


@pytest.mark.parametrize(
    ("channel", "written"),
    [
        *(("email", each) for each in (
            "", "ada", "@example.org", "ada@", "ada@org", "a b@example.org", "ada@exam ple.org",
            "ada@example.org\n", "ada@example.org\r\nBcc: x@example.org", "ada@example..org",
            "<ada@example.org>", "Ada <ada@example.org>", "ada@[127.0.0.1]", "ada@1.2.3.4",
            ".ada@example.org", "ada..l@example.org", "ada@-example.org", "a@b@example.org;",
            "ada@example.org,eve@example.org", "ada@" + "x" * 64 + ".org", "a" * 65 + "@a.org",
            "a@" + ".".join(["x" * 60] * 5), "ädä@example.org", "ada@example.org\0",
            '"ada"@example.org', "ada@\u2024.org",
        )),
        *(("sms", each) for each in (
            "", "+", "123", "0151 2345678", "+0151234567", "+49151abc", "+1234567890123456",
            "+４９１５１２３４５６７", "+49151234567;ext=1", "+49\n151234567x",
        )),
        *(("webhook", each) for each in (
            "", "example.org", "ftp://example.org", "https://", "http://u:p@example.org/",
            "https://example.org/" + "x" * 2100, "https://example.org/\r\nX: y", "javascript:1",
        )),
    ],
)  # fmt: skip
def test_what_cannot_be_reached_is_refused_and_not_repeated(channel: str, written: str) -> None:
    with pytest.raises(InvalidInput) as error:
        Channel(channel).normal(written)
    assert error.value.where == "address"
    assert len(written) < 13 or written not in str(error.value)


def test_what_operators_see_tells_addresses_apart_and_no_more() -> None:
    assert Channel.EMAIL.masked("ada@example.org") == "a***@example.org"
    assert Channel.SMS.masked("+491512345678") == "+49***78"
    assert Channel.WEBHOOK.masked("https://example.org/hook?token=t") == "https://example.org/***"


def test_a_vault_opens_what_it_sealed_and_nothing_else() -> None:
    vault = Vault([NEW])
    sealed = vault.seal("ada@example.org", "1:address")
    assert vault.open(sealed, "1:address") == "ada@example.org"
    assert b"ada" not in sealed
    assert vault.seal("ada@example.org", "1:address") != sealed
    broken = sealed[:-1] + bytes([sealed[-1] ^ 1])
    for text, owner in ((sealed, "2:address"), (sealed, "1:secret"), (broken, "1:address"),
                        (b"", "1:address"), (b"\0" * 40, "1:address")):  # fmt: skip
        with pytest.raises(Unreadable):
            vault.open(text, owner)
    with pytest.raises(Unreadable):
        Vault([OLD]).open(sealed, "1:address")


def test_a_secret_is_changed_by_naming_the_new_one_before_the_old_one() -> None:
    before, between, after = Vault([OLD]), Vault([NEW, OLD]), Vault([NEW])
    sealed = before.seal("x", "1")
    assert between.open(sealed, "1") == "x"
    assert after.open(between.seal("x", "1"), "1") == "x"
    assert between.indices("email", "x") == [after.index("email", "x"), before.index("email", "x")]
    assert before.index("email", "x") != before.index("sms", "x")
    clock = ManualClock()
    token = Tokens(before, clock).make("manage", ADA, clock.now())
    assert Tokens(between, clock).read(token, "manage").subscriber == ADA
    with pytest.raises(BadToken):
        Tokens(after, clock).read(token, "manage")


def test_tokens_expire_are_for_one_purpose_and_cannot_be_changed() -> None:
    clock = ManualClock()
    tokens = Tokens(Vault([NEW]), clock)
    token = tokens.make("confirm", ADA, clock.now())
    assert token == tokens.make("confirm", ADA, clock.now())
    assert tokens.read(token, "confirm") == ("confirm", ADA)
    assert len(token) < 60
    others = [token[:at] + ("B" if token[at] != "B" else "C") + token[at + 1 :]
              for at in range(len(token))]  # fmt: skip
    for wrong in (*others, token[:-1], token + "A", "m" + token[1:], "", "c" * 57):
        with pytest.raises(BadToken):
            tokens.read(wrong, "confirm", "manage")
    with pytest.raises(BadToken):
        tokens.read(token, "manage")
    clock.passed_s = CONFIRM_WITHIN.total_seconds() - 1
    tokens.read(token, "confirm")
    clock.passed_s += 1
    with pytest.raises(BadToken):
        tokens.read(token, "confirm")


@pytest.mark.parametrize(
    ("said", "most"),
    [("short", 1), ("x" * 5_000, 3), ("€[]" * 500, 3), ("ü" * 500, 3), ("ж" * 500, 3),
     ("🌉" * 500, 3), ("x" * 500 + "🌉", 3), ("", 1)],
)  # fmt: skip
def test_an_sms_costs_few_segments_and_keeps_its_link(said: str, most: int) -> None:
    text = short.fit(said, "https://status.example.org/s/1")
    assert text.endswith("https://status.example.org/s/1")
    assert short.segments(text) <= most
    assert text.encode("utf-16").decode("utf-16") == text  # no half of a character


def test_typographic_marks_do_not_make_an_sms_dear() -> None:
    assert short.is_plain(short.fit("It’s “down” — for now…", "https://a.b"))
    assert short.fit("x" * 999, "https://a.b/" + "y" * 600).endswith("y")


def delivery(notice: Notice, **parts: object) -> Delivery:
    told = {
        "id": f"01KB0000000000000000000002-{ADA}", "subscriber": ADA, "attempt": 1,
        "address": "ada@example.org", "secret": None, "notice": notice, "at": AT,
        "links": links(ManualClock()).of(ADA, notice.path, AT), **parts,
    }  # fmt: skip
    return Delivery(**told)  # type: ignore[arg-type]


def test_a_message_is_the_same_to_the_letter_however_often_it_is_made() -> None:
    letters = Letters("Bridges")
    one, two = delivery(BROKEN, attempt=1), delivery(BROKEN, attempt=2)
    assert letters.letter(one) == letters.letter(two)
    assert letters.sms(one) == letters.sms(two)
    assert letters.event(one) == letters.event(two)


@pytest.mark.parametrize("end", ["\r\n", "\n", "\r", "\0", "\x0b", "\x85", "\u2028"])
def test_nothing_said_of_an_incident_ends_a_header(end: str) -> None:
    notice = Notice(
        kind="incident.updated", status="identified", title=f"a{end}Bcc: eve@example.org",
        message=f"b{end}c", components=(Affected("a", f"A{end}B", "degraded"),),
    )  # fmt: skip
    letters = Letters(f"Bri{end}dges")
    raw = message_of(delivery(notice), letters.letter(delivery(notice)), "Ü <s@example.org>")
    head, _, _ = raw.as_bytes().partition(b"\r\n\r\n")
    names = [line.partition(b":")[0] for line in head.split(b"\r\n") if not line[:1].isspace()]
    assert sorted(names) == sorted((
        b"From", b"To", b"Subject", b"Date", b"List-Unsubscribe", b"List-Unsubscribe-Post",
        b"List-Id", b"Auto-Submitted", b"Message-ID", b"MIME-Version", b"Content-Type",
    ))  # fmt: skip
    assert b"\r" not in letters.sms(delivery(notice)).encode()
    assert json.loads(letters.event(delivery(notice)))["data"]["title"] == notice.title


def test_a_maintenance_window_is_told_with_its_times() -> None:
    notice = Notice(
        kind="maintenance.scheduled", title="Upgrade", status="scheduled",
        starts_at=AT, ends_at=AT + timedelta(hours=2),
    )  # fmt: skip
    letter = Letters("Bridges").letter(delivery(notice))
    assert letter.subject == "[Bridges] Maintenance scheduled: Upgrade"
    for part in (letter.text, letter.html):
        assert "21 Nov 2026, 00:00 UTC" in part
        assert "21 Nov 2026, 02:00 UTC" in part


def test_a_request_to_confirm_has_links_for_people_and_for_programs() -> None:
    letters, asked = Letters("Bridges"), delivery(Notice(kind=CONFIRM))
    event = json.loads(letters.event(asked))
    assert event["type"] == "subscription.confirm"
    assert event["data"]["confirm_url"].startswith(f"{SITE}/api/status/subscriptions/c{ADA}")
    assert event["data"]["page_url"] in letters.letter(asked).text
    assert letters.sms(asked).endswith(event["data"]["page_url"])


@pytest.mark.parametrize("text", subscription_pages().values(), ids=subscription_pages().keys())
def test_each_page_needs_no_script_and_sends_its_forms_to_us_alone(text: str) -> None:
    assert "<script" not in text
    assert not re.findall(r"<[^>]* (?:style|on\w+)=", text)
    styles = re.findall(r"<style>(.*?)</style>", text, flags=re.DOTALL)
    assert len(styles) == 2
    for style in styles:
        digest = base64.b64encode(hashlib.sha256(style.encode()).digest()).decode()
        assert f"'sha256-{digest}'" in POLICY
    actions = re.findall(r'<form method="post" action="([^"]*)"', text)
    assert len(actions) == text.count("<form")
    assert all(action.startswith("/status/subscri") for action in actions)
    labelled = set(re.findall(r'<label class="label" for="(\w+)"', text))
    assert set(re.findall(r'<input type="text" id="(\w+)"', text)) == labelled
    assert '<meta name="robots" content="noindex">' in text
