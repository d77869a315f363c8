"""Messages to subscribers on their way out: what is sent, and what each answer leads to."""

import json
from collections.abc import AsyncIterator
from urllib.parse import urlsplit

import pytest
from aiohttp import web

from control.stores.postgres import Database
from control.subscribers.channel import Channel
from control.subscribers.notice import Notice
from control.webhooks.signature import new_secret
from tests.mailroom import (
    BROKEN,
    SITE,
    MailServer,
    Provider,
    mail_server,
    provider,
    resend,
    room,
    twilio,
)
from tests.webhooks import Receiver, receiver
from worker.notify import short


@pytest.fixture
async def mails() -> AsyncIterator[MailServer]:
    async with mail_server() as made:
        yield made


@pytest.fixture
async def api() -> AsyncIterator[Provider]:
    async with provider() as made:
        yield made


@pytest.fixture
async def hook() -> AsyncIterator[Receiver]:
    async with receiver() as made:
        made.secret = new_secret()
        yield made


async def test_an_email_says_all_and_can_be_unsubscribed_from_with_one_click(
    told: Database, mails: MailServer
) -> None:
    async with room(told, DRAWBRIDGE_SMTP_URL=mails.url) as made:
        ada = await made.subscriber()
        await made.subscriber("bob@bücher.example")
        notice = await made.publish()
        assert sorted(await made.send()) == ["dropped", "dropped", "sent", "sent"]
        assert await made.send(again=True) == []
    assert sorted(mails.recipients) == ["ada@example.org", "bob@xn--bcher-kva.example"]
    [mail] = [each for each in mails.got if each["To"] == "ada@example.org"]
    assert mail["Subject"] == "[Bridges] Investigating: API errors"
    assert mail["From"] == "Bridges <status@bridges.example>"
    assert mail["Message-ID"] == f"<{notice}-{ada.id}@bridges.example>"
    assert mail["List-Unsubscribe-Post"] == "List-Unsubscribe=One-Click"
    assert mail["Auto-Submitted"] == "auto-generated"
    link = mail["List-Unsubscribe"].strip("<>")
    assert link.startswith(f"{SITE}/status/subscriptions/m{ada.id}")
    assert link.endswith("/unsubscribe")
    token = urlsplit(link).path.split("/")[3]
    assert made.tokens.read(token, "manage").subscriber == ada.id
    # As it is read by programs: whole, and not as encoded words.
    assert f"\r\nList-Unsubscribe: <{SITE}/".encode() in mails.raw[mails.got.index(mail)]
    text, html = mail.get_body(("plain",)), mail.get_body(("html",))
    assert text is not None
    assert html is not None
    for part in (text.get_content(), html.get_content()):
        for wanted in ("We look into it.", "API: major outage", f"{SITE}{BROKEN.path}", token):
            assert wanted in part
    assert mails.connections == 1  # kept for the next message


async def test_a_title_cannot_add_a_header_nor_markup(told: Database, mails: MailServer) -> None:
    evil = Notice(
        kind="incident.updated",
        status="identified",
        title="Größer\r\nBcc: mallory@example.org\r\n\r\n<b>hi</b>" + "ü" * 300,
        message="<script>alert(1)</script>\0\r\n.\r\nQUIT\r\n",
    )
    async with room(told, DRAWBRIDGE_SMTP_URL=mails.url) as made:
        await made.subscriber()
        await made.publish(evil)
        assert "sent" in await made.send()
    [mail] = mails.got
    assert mail["Bcc"] is None
    assert mails.recipients == ["ada@example.org"]
    assert mail["Subject"].startswith("[Bridges] Identified: Größer Bcc: mallory@example.org <b>")
    assert len(mail["Subject"]) <= 150
    html, text = mail.get_body(("html",)), mail.get_body(("plain",))
    assert html is not None
    assert text is not None
    assert "<script>" not in html.get_content()
    assert "&lt;script&gt;" in html.get_content()
    assert "QUIT" in text.get_content()


@pytest.mark.parametrize(
    ("answer", "outcome", "why"),
    [
        ("RCPT 550 no such user", "failed", "its mailbox was refused (550)"),
        ("RCPT 450 try later", "postponed", "its mailbox was refused (450)"),
        ("554 spam", "failed", "the message was refused (554)"),
        ("451 busy", "postponed", "the message was refused (451)"),
        ("421 closing", "postponed", "the message was refused (421)"),
    ],
)
async def test_what_a_mail_server_says(
    told: Database, mails: MailServer, answer: str, outcome: str, why: str
) -> None:
    mails.answers = [answer]
    async with room(told, DRAWBRIDGE_SMTP_URL=mails.url) as made:
        ada = await made.subscriber()
        await made.publish()
        assert outcome in await made.send()
        assert await made.deliveries() == [("failed" if outcome == "failed" else "pending", why)]
        assert await made.state(ada) == "active"
        assert await made.send(again=True) == (["sent"] if outcome == "postponed" else [])
    ids = {mail["Message-ID"] for mail in mails.got}
    assert len(ids) <= 1  # under the same id


async def test_a_mail_server_that_is_away_is_not_the_subscribers_fault(
    told: Database, mails: MailServer
) -> None:
    url = "smtp://user:pässword@127.0.0.1:1"
    async with room(told, DRAWBRIDGE_SMTP_URL=url) as made:
        ada = await made.subscriber()
        await made.publish()
        outcomes = await made.send()
        for _ in range(9):
            outcomes += await made.send(again=True)
        assert outcomes.count("postponed") == 9
        assert outcomes[-1] == "failed"
        assert await made.deliveries() == [("failed", "the mail server cannot be reached")]
        found = await made.roster.get(ada.id)
        assert found is not None
        assert (found.state, found.failures) == ("active", 0)
    async with room(told, DRAWBRIDGE_SMTP_URL=mails.url.replace("//", "//u:p@")) as made:
        await made.publish()  # a server that knows no login
        assert await made.send() == ["postponed"]
    assert mails.got == []


async def test_resend_gets_one_key_and_one_body_however_often(
    told: Database, api: Provider
) -> None:
    api.answers = [
        web.json_response({}, status=429, headers={"Retry-After": "7200"}),
        web.json_response({}, status=500),
        web.json_response({"name": "invalid_api_key"}, status=401),
    ]
    async with room(told, **resend(api)) as made:
        await made.subscriber()
        notice = await made.publish()
        assert "postponed" in await made.send()
        [waits] = await told.fetch(
            "SELECT due_at > now() + interval '119 minutes' AS long FROM drawbridge.deliveries "
            "WHERE notice = $1", notice,
        )  # fmt: skip
        assert waits["long"]
        assert await made.send(again=True) == ["postponed"]
        assert await made.send(again=True) == ["postponed"]
        api.deaf = True
        assert await made.send(again=True) == ["postponed"]
        assert await made.send(again=True) == ["sent"]
    assert len(api.sent) == 1
    assert len({json.dumps(each, sort_keys=True) for each in api.asked}) == 1
    [first, *_] = api.asked
    assert first["key"].startswith(notice)
    assert first["headers"]["List-Unsubscribe-Post"] == "List-Unsubscribe=One-Click"
    assert first["to"] == ["ada@example.org"]


async def test_resend_may_refuse_a_message_for_good(told: Database, api: Provider) -> None:
    api.answers = [web.json_response({"name": "validation_error"}, status=422)]
    async with room(told, **resend(api)) as made:
        await made.subscriber()
        await made.publish()
        assert "failed" in await made.send()
        assert await made.deliveries() == [("failed", "Resend refused the message (422)")]


async def test_an_sms_is_short_and_not_sent_twice_where_the_answer_was_lost(
    told: Database, api: Provider
) -> None:
    long = Notice(
        kind="incident.updated", status="monitoring", title="€" * 400, message="x" * 3000,
        path="/status/incidents/01KB0000000000000000000000",
    )  # fmt: skip
    api.deaf = True
    async with room(told, **twilio(api)) as made:
        await made.subscriber("+49 (151) 234-56789", Channel.SMS)
        await made.publish(long)
        assert "postponed" in await made.send()
        assert await made.send(again=True) == ["sent"]
    [sms] = api.sent
    assert (sms["To"], sms["From"]) == ("+4915123456789", "+15005550006")
    assert sms["Body"].startswith("Bridges: Monitoring: €€")
    assert f"... {SITE}{long.path} Stop: {SITE}/status/subscriptions/m" in sms["Body"]
    assert short.segments(sms["Body"]) <= short.SEGMENTS


async def test_stop_ends_a_subscription_by_sms(told: Database, api: Provider) -> None:
    api.answers = [web.json_response({"code": 21610}, status=400)]
    async with room(told, **twilio(api)) as made:
        bob = await made.subscriber("+15005550001", Channel.SMS)
        await made.publish()
        await made.publish()
        assert "ended" in await made.send()
        assert await made.state(bob) == "ended"
        assert [state for state, _ in await made.deliveries()] == ["failed", "dropped"]


async def test_a_webhook_gets_an_event_under_its_own_secret(told: Database, hook: Receiver) -> None:
    hook.answers = [web.Response(status=500)]
    async with room(told) as made:
        one = await made.subscriber(hook.url, Channel.WEBHOOK, secret=hook.secret)
        notice = await made.publish()
        assert "postponed" in await made.send()
        assert await made.send(again=True) == ["sent"]
    [(first, event), (second, again)] = hook.got
    assert first == second == f"{notice}-{one.id}"
    assert event == again
    assert event["type"] == "incident.created"
    data = event["data"]
    assert (data["title"], data["status"]) == ("API errors", "investigating")
    assert data["components"] == [{"id": "api", "name": "API", "status": "major_outage"}]
    assert data["url"] == f"{SITE}{BROKEN.path}"
    assert data["unsubscribe_url"].startswith(f"{SITE}/status/subscriptions/m")


async def test_gone_ends_a_webhook(told: Database, hook: Receiver) -> None:
    hook.answers = [web.Response(status=410)]
    async with room(told) as made:
        one = await made.subscriber(hook.url, Channel.WEBHOOK, secret=hook.secret)
        await made.publish()
        assert "ended" in await made.send()
        assert await made.state(one) == "ended"
        await made.publish()
        assert await made.send() == []


async def test_a_webhook_inside_is_never_called(told: Database, hook: Receiver) -> None:
    """Its name may lead inside long after it was looked at."""
    async with room(told, DRAWBRIDGE_CALLBACK_NETWORKS="10.0.0.0/8") as made:
        await made.subscriber(hook.url, Channel.WEBHOOK, secret=hook.secret)
        await made.publish()
        assert "failed" in await made.send()
        [(_, why)] = await made.deliveries()
        assert why is not None
        assert "not a public one" in why
    assert hook.got == []


async def test_who_fails_three_times_is_in_quarantine_until_they_say_otherwise(
    told: Database, mails: MailServer
) -> None:
    async with room(told, DRAWBRIDGE_SMTP_URL=mails.url) as made:
        ada = await made.subscriber()
        mails.answers = ["RCPT 550 no"] * 2
        for _ in range(2):
            await made.publish()
            assert "failed" in await made.send()
        await made.publish()
        assert await made.send() == ["sent"]  # which is forgiven
        mails.answers = ["RCPT 550 no"] * 3
        for _ in range(3):
            assert await made.state(ada) == "active"
            await made.publish()
            assert await made.send() == ["failed"]
        assert await made.state(ada) == "quarantined"
        await made.publish()
        assert await made.send() == []
        assert await made.roster.change(ada.id, ()) is not None
        await made.publish()
        assert await made.send() == ["sent"]


async def test_a_channel_that_this_worker_lacks_waits_for_one_that_has_it(
    told: Database, mails: MailServer
) -> None:
    async with room(told) as made:
        await made.subscriber()
        await made.publish()
        assert "postponed" in await made.send()
    async with room(told, DRAWBRIDGE_SMTP_URL=mails.url) as made:
        assert await made.send(again=True) == ["sent"]


async def test_the_request_to_confirm_comes_first_and_holds_a_link(
    told: Database, mails: MailServer
) -> None:
    async with room(told, DRAWBRIDGE_SMTP_URL=mails.url) as made:
        await made.subscriber("bob@example.org")
        await made.publish()
        asked = await made.roster.request(Channel.EMAIL, "ada@example.org", ())
        [first] = await made.outbox.claim(1)
        assert first.subscriber == asked.id or await made.courier.deliver(first) == "dropped"
        await made.send(again=True)
        [mail] = [each for each in mails.got if each["To"] == "ada@example.org"]
        text = mail.get_body(("plain",))
        assert text is not None
        [link] = [line for line in text.get_content().splitlines() if line.startswith(SITE)]
        token = urlsplit(link).path.split("/")[3]
        assert made.tokens.read(token, "confirm").subscriber == asked.id
        assert await made.roster.confirm(asked.id) is not None
