"""Subscribing over HTTP: asking, confirming, changing, ending; who may see what."""

import json
import re
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest
from redis.asyncio import Redis

from control import keys
from control.clock import SystemClock
from control.config import load
from control.ids import new_id
from control.stores.postgres import Database
from control.subscribers.notice import Notice
from tests.conftest import LiveStores
from tests.mailroom import SETTINGS, SITE, MailServer, Room, mail_server, room
from tests.serving import Served, problem, served

ADMIN = {"Authorization": "Bearer admin-of-the-tests"}
API = "/api/status/subscriptions"
HOOK = "http://127.0.0.1:9/hook"
MAIL = {"DRAWBRIDGE_SMTP_URL": "smtp://127.0.0.1:1"}


@asynccontextmanager
async def service(stores: LiveStores, database: Database, **settings: str) -> AsyncIterator[Served]:
    known = {
        **stores.environment, **SETTINGS, "DRAWBRIDGE_ADMIN_TOKEN": "admin-of-the-tests",
        "DRAWBRIDGE_SUBSCRIBE_PER_HOUR": "10000", **settings,
    }  # fmt: skip
    config = load(("test", known))
    url = database._section.url
    async with served(replace(config, postgres=replace(config.postgres, url=url))) as running:
        yield running


@pytest.fixture(scope="module")
async def api(stores: LiveStores, roll: Database) -> AsyncIterator[Served]:
    await roll.execute(
        "INSERT INTO drawbridge.status_components (id, name, position, created_at) "
        "VALUES ('api', 'API', 1, now()), ('mail', 'Mail <ü>', 2, now()) ON CONFLICT DO NOTHING"
    )
    async with service(stores, roll, **MAIL) as running:
        yield running


@pytest.fixture
async def mails() -> AsyncIterator[MailServer]:
    async with mail_server() as made:
        yield made


@pytest.fixture
async def post(redis: Redis, told: Database, mails: MailServer) -> AsyncIterator[Room]:
    """Who delivers what the service has written."""
    async with room(told, DRAWBRIDGE_SMTP_URL=mails.url) as made:
        yield made


async def ask(api: Served, **wanted: Any) -> tuple[int, dict[str, Any]]:
    body = {"channel": "email", "address": "ada@example.org", **wanted}
    async with api.http.post(API, json=body) as response:
        if response.status != 202:
            return response.status, await problem(response)
        return 202, await response.json()


@pytest.mark.parametrize("page", ["subscribe", "subscriptions/t", "subscriptions/t/confirm",
                                  "subscriptions/t/unsubscribe"])  # fmt: skip
async def test_a_form_that_cannot_be_read_is_refused_by_a_page(api: Served, page: str) -> None:
    kind = {"Content-Type": "application/x-www-form-urlencoded"}
    for status, headers, body in (
        (413, kind, b"x" * (17 << 10)),
        (415, {**kind, "Content-Encoding": "br"}, b"x"),
        (400, {**kind, "Content-Encoding": "gzip"}, b"x"),
    ):
        async with api.http.post(f"/status/{page}", headers=headers, data=body) as response:
            assert (response.status, response.content_type) == (status, "text/html")


async def token_in(post: Room, mails: MailServer, pattern: str) -> str:
    """The token of the newest message, once it is delivered."""
    await post.send(again=True)
    text = mails.got[-1].get_body(("plain",))
    assert text is not None
    found = re.search(rf"{SITE}/status/subscriptions/(\S+?){pattern}\s", text.get_content())
    assert found is not None
    return found[1]


async def test_from_asking_to_the_end(api: Served, post: Room, mails: MailServer) -> None:
    status, told = await ask(api, address="Ada@Example.ORG", components=["api", "api"])
    assert (status, told["status"], told["channel"]) == (202, "pending", "email")
    assert "secret" not in told
    confirm = await token_in(post, mails, "/confirm")
    assert mails.recipients == ["Ada@example.org"]
    await publish(post, "mail")
    assert await post.send() == []  # nobody has confirmed
    for _ in range(2):  # a second click changes nothing
        async with api.http.post(f"{API}/{confirm}/confirm") as response:
            assert response.status == 200, await response.text()
            found = await response.json()
    assert (found["status"], found["components"]) == ("active", ["api"])
    assert found["address"] == "A***@example.org"
    await publish(post, "mail")
    assert await post.send() == []
    await publish(post, "api")
    manage = await token_in(post, mails, "")
    assert found["manage_url"].startswith(f"{SITE}/status/subscriptions/m")
    async with api.http.patch(f"{API}/{manage}", json={"components": []}) as response:
        assert (response.status, (await response.json())["components"]) == (200, [])
    async with api.http.get(f"{API}/{manage}") as response:
        assert (await response.json())["components"] == []
        assert response.headers["Cache-Control"] == "no-store"
    await publish(post, "mail")
    assert await post.send() == ["sent"]
    for _ in range(2):
        async with api.http.delete(f"{API}/{manage}") as response:
            assert response.status == 204
    for method, path in (("GET", manage), ("PATCH", manage), ("POST", f"{confirm}/confirm")):
        async with api.http.request(
            method, f"{API}/{path}", json={"components": []} if method == "PATCH" else None
        ) as response:
            assert response.status == 404
            await problem(response)
    assert await post.roster.page(limit=10) == ([], None)


async def publish(post: Room, component: str) -> None:
    from control.subscribers.notice import Affected

    await post.publish(
        Notice(kind="incident.created", title="t", status="investigating",
               components=(Affected(component, component),))
    )  # fmt: skip


async def test_known_and_unknown_addresses_get_the_same(api: Served, post: Room) -> None:
    ada = await post.subscriber()
    answers = [await ask(api, address=who) for who in ("ada@example.org", "eve@example.org")]
    for _, told in answers:
        del told["expires_at"]
    assert answers[0] == answers[1]
    rows = await post.database.fetch(
        "SELECT state, count(*) FROM drawbridge.subscribers GROUP BY state ORDER BY state"
    )
    assert [tuple(row) for row in rows] == [("active", 1), ("pending", 2)]
    [known] = [each for each in (await post.roster.page(limit=9))[0] if each.state == "active"]
    assert known == ada  # nothing of it has changed


async def test_a_request_for_a_known_address_changes_it_once_confirmed(
    api: Served, post: Room, mails: MailServer
) -> None:
    ada = await post.subscriber(components=("mail",))
    await ask(api, address="ADA@example.org", components=["api"])
    token = await token_in(post, mails, "/confirm")
    async with api.http.post(f"{API}/{token}/confirm") as response:
        assert response.status == 200
    found = await post.roster.get(ada.id)
    assert found is not None
    assert (found.components, found.state) == (("api",), "active")
    assert len((await post.roster.page(limit=9))[0]) == 1


@pytest.mark.parametrize(
    ("wanted", "field"),
    [
        ({"address": "nobody"}, "address"),
        ({"address": "ada@example.org\r\nBcc: eve@example.org"}, "address"),
        ({"address": "ada@example.org, eve@example.org"}, "address"),
        ({"address": "a" * 65 + "@example.org"}, "address"),
        ({"address": "ada@localhost"}, "address"),
        ({"address": "ada@127.0.0.1"}, "address"),
        ({"address": "ädä@example.org"}, "address"),
        ({"components": ["nothing"]}, "components"),
        ({"components": "api"}, "components"),
        ({"channel": "fax"}, "channel"),
        ({"channel": "sms", "address": "+4915123456789"}, "channel"),  # not set up here
        ({"channel": "webhook", "address": "ftp://example.org"}, "address"),
        ({"channel": "webhook", "address": "http://10.1.2.3/hook"}, "address"),
        ({"channel": "webhook", "address": "http://user:pw@example.org/"}, "address"),
        ({"more": 1}, "more"),
    ],
)
async def test_what_is_wrong_is_named(api: Served, wanted: dict[str, Any], field: str) -> None:
    status, told = await ask(api, **wanted)
    assert status == 422
    assert told["field"] == field
    if isinstance(wanted.get("address"), str):
        assert wanted["address"] not in json.dumps(told)  # it may be somebody's


async def test_a_webhook_gets_its_secret_once(api: Served, post: Room) -> None:
    first, second = [
        (await ask(api, channel="webhook", address=HOOK))[1]["secret"] for _ in range(2)
    ]
    assert first.startswith("whsec_")
    assert first != second
    rows = await post.database.fetch("SELECT * FROM drawbridge.subscribers")
    stored = b" ".join(bytes(row[name]) for row in rows for name in ("address", "secret"))
    assert first.encode() not in stored
    assert HOOK.encode() not in stored


@pytest.mark.parametrize("without", ["DRAWBRIDGE_SUBSCRIBER_SECRET", "DRAWBRIDGE_STATUS_URL"])
async def test_where_it_is_not_set_up_it_says_so(
    stores: LiveStores, redis: Redis, told: Database, without: str
) -> None:
    async with service(stores, told, **{**MAIL, without: ""}) as bare:
        status, said = await ask(bare)
        assert (status, said["setting"]) == (503, without)
        async with bare.http.get("/status/subscribe") as response:
            assert response.status == 404
            assert "Nobody can subscribe here yet" in await response.text()


async def test_who_asks_too_often_waits(
    stores: LiveStores, redis: Redis, told: Database, api: Served
) -> None:
    for number in range(4):
        status, said = await ask(api)
        assert status == (202 if number < 3 else 429)
    assert said["retry_after_s"] > 600
    assert (await ask(api, address="eve@example.org"))[0] == 202
    limited = {**MAIL, "DRAWBRIDGE_SUBSCRIBE_PER_HOUR": "4", "DRAWBRIDGE_PROXIES": "127.0.0.0/8"}
    async with service(stores, told, **limited) as strict:
        for who, wanted in (("192.0.2.1", 202), ("192.0.2.1", 202), ("192.0.2.1", 429),
                            ("192.0.2.2", 202), ("192.0.2.1, 192.0.2.3", 202)):  # fmt: skip
            body = {"channel": "webhook", "address": f"{HOOK}/{new_id()}"}
            async with strict.http.post(
                API, json=body, headers={"X-Forwarded-For": who}
            ) as response:
                assert response.status == wanted
    names = [key.decode() async for key in redis.scan_iter("drawbridge:rate:*")]
    assert names
    assert all(keys.is_listed(name) for name in names)
    assert not [name for name in names if "192.0.2" in name or "example" in name]


async def test_administrators_see_who_subscribes_and_remove_them(api: Served, post: Room) -> None:
    ada = await post.subscriber(components=("api",))
    await post.subscriber("bob@example.org")
    where = "/api/status/subscribers"
    async with api.http.get(where) as response:
        assert response.status == 401
    async with api.http.get(where, params={"limit": 1}, headers=ADMIN) as response:
        page = await response.json()
    assert [each["address"] for each in page["subscribers"]] == ["b***@example.org"]
    query = {"limit": "1", "cursor": page["cursor"]}
    async with api.http.get(where, params=query, headers=ADMIN) as response:
        page = await response.json()
    [found] = page["subscribers"]
    assert (found["id"], found["components"], found["status"]) == (ada.id, ["api"], "active")
    assert page["cursor"] is None
    query = {"channel": "email", "address": "ADA@example.org"}
    async with api.http.get(where, params=query, headers=ADMIN) as response:
        assert [each["id"] for each in (await response.json())["subscribers"]] == [ada.id]
    for wanted in (204, 404):
        async with api.http.delete(f"{where}/{ada.id}", headers=ADMIN) as response:
            assert response.status == wanted
    await post.publish()
    assert sorted(await post.send()) == ["dropped", "sent"]


async def test_tokens_are_for_one_purpose_and_cannot_be_made(api: Served, post: Room) -> None:
    ada = await post.subscriber()
    now = SystemClock().now()
    confirm = post.tokens.make("confirm", ada.id, now)
    manage = post.tokens.make("manage", ada.id, now)
    old = post.tokens.make("manage", ada.id, now.replace(year=now.year - 2))
    forged = manage[:-3] + ("AAA" if manage[-3:] != "AAA" else "BBB")
    for token in (confirm, old, forged, "m", "%00", manage + "A"):
        async with api.http.delete(f"{API}/{token}") as response:
            assert response.status == 404, token
        async with api.http.post(f"/status/subscriptions/{token}/unsubscribe") as response:
            assert response.status == 404, token
            assert response.content_type == "text/html"
    assert await post.state(ada) == "active"


async def test_people_need_no_javascript(api: Served, post: Room, mails: MailServer) -> None:
    async with api.http.get("/status/subscribe/") as response:
        assert response.status == 200
    async with api.http.get("/status/subscribe") as response:
        page = await response.text()
        assert response.status == 200
        assert "Mail &lt;ü&gt;" in page
        assert "<script" not in page
        assert response.headers["Cache-Control"] == "no-store"
        assert "style-src 'sha256-" in response.headers["Content-Security-Policy"]
    wrong = {"channel": "email", "address": '"><b>x', "scope": "some", "component": "api"}
    async with api.http.post("/status/subscribe", data=wrong) as response:
        page = await response.text()
        assert response.status == 422
        assert 'role="alert"' in page
        assert "&#34;&gt;&lt;b&gt;x" in page
        assert 'value="api" checked' in page
    async with api.http.post("/status/subscribe", data={**wrong, "component": []}) as response:
        assert response.status == 422
        assert "Choose at least one" in await response.text()
    good = {**wrong, "address": "ada@example.org"}
    async with api.http.post("/status/subscribe", data=good) as response:
        assert response.status == 202, await response.text()
        assert "Now look at your messages" in await response.text()
    link = f"/status/subscriptions/{await token_in(post, mails, '/confirm')}/confirm"
    async with api.http.get(link) as response:  # as a program does that looks for viruses
        assert "a***@example.org" in await response.text()
    assert [each.state for each in (await post.roster.page(limit=9))[0]] == ["pending"]
    async with api.http.post(link) as response:
        page = await response.text()
        assert "You are subscribed" in page
    found = re.search(r'href="(/status/subscriptions/[^"]+)"', page)
    assert found is not None
    async with api.http.get(found[1]) as response:
        assert 'value="api" checked' in await response.text()
    async with api.http.post(found[1], data={"scope": "all"}) as response:
        assert "Saved." in await response.text()
    [ada] = (await post.roster.page(limit=9))[0]
    assert (ada.state, ada.components) == ("active", ())


async def test_one_click_unsubscribes_and_a_look_does_not(
    api: Served, post: Room, mails: MailServer
) -> None:
    ada = await post.subscriber()
    await post.publish()
    await post.send()
    [mail] = mails.got
    path = mail["List-Unsubscribe"].strip("<>").removeprefix(SITE)
    async with api.http.get(path) as response:
        assert response.status == 200
    assert await post.state(ada) == "active"
    how, _, word = mail["List-Unsubscribe-Post"].partition("=")
    for _ in range(2):
        async with api.http.post(path, data={how: word}) as response:
            assert response.status == 200
            assert "You are unsubscribed" in await response.text()
    assert await post.state(ada) == "gone"


async def test_it_goes_on_under_maintenance(api: Served, post: Room, redis: Redis) -> None:
    await api.put_flag(reason="upgrade")
    try:
        assert (await ask(api))[0] == 202
        async with api.http.get("/status/subscribe") as response:
            assert response.status == 200
    finally:
        await api.put_flag(value=False)


async def test_what_administrators_publish_is_told(
    api: Served, post: Room, mails: MailServer
) -> None:
    await post.subscriber(components=("api",))
    await post.send()
    incident = {"title": "API errors", "description": "We look into it.", "severity": "major",
                "affected_components": ["api"]}  # fmt: skip
    path = "/api/status/incidents"
    async with api.http.post(f"{path}/create", json=incident, headers=ADMIN) as response:
        assert response.status == 201, await response.text()
        made = await response.json()
    update = {"message": "Found it.", "status": "identified"}
    where = f"{path}/{made.get('incident', made)['id']}"
    async with api.http.post(f"{where}/updates", json=update, headers=ADMIN) as response:
        assert response.status in (200, 201), await response.text()
    ending = {"root_cause": "A cable.", "resolution": "Plugged in."}
    async with api.http.post(f"{where}/resolve", json=ending, headers=ADMIN) as response:
        assert response.status == 200, await response.text()
    end = SystemClock().now() + timedelta(hours=1)
    window = {"title": "Upgrade", "scheduled_end": end.isoformat(), "affected_components": ["mail"]}
    async with api.http.post("/api/status/maintenance", json=window, headers=ADMIN) as response:
        assert response.status == 201, await response.text()
    while await post.send():  # of each thing only what concerns them
        pass
    assert sorted(mail["Subject"] for mail in mails.got) == [
        "[Bridges] Identified: API errors",
        "[Bridges] Investigating: API errors",
        "[Bridges] Resolved: API errors",
    ]
    assert len({mail["References"] for mail in mails.got}) == 1  # one thread
