"""/control over HTTP: reading and changing flags, the audit, and who may."""

from collections.abc import AsyncIterator

import pytest
from multidict import CIMultiDict

from control.clock import SystemClock
from control.config import Config
from control.flags.document import INGESTION, MAINTENANCE
from control.flags.errors import CommandTimedOut, NobodyListens
from control.principals import ApiKeys, Role
from control.stores.postgres import Database
from tests.serving import Served, served, with_database
from tests.steering import FLAG, ON, TOKEN, ask, etag, rested, settled

READING = ["/control/flags", "/control/replicas", "/control/events", "/control/audit"]
WRITING = [("PUT", FLAG), ("POST", FLAG + "/toggle"), ("POST", FLAG + "/reset"),
           ("POST", "/control/bypass")]  # fmt: skip


@pytest.fixture
async def config(stores, redis, database_url) -> Config:
    await settled(redis)
    return await with_database(stores.config, database_url)


@pytest.fixture
async def api(config: Config) -> AsyncIterator[Served]:
    async with served(config, admin_token="the-admin-token") as running:
        yield running


async def test_get_flags(api: Served) -> None:
    await api.put_flag(reason="db upgrade", mode="read_only")
    status, told, headers = await ask(api, "GET", "/control/flags")
    assert status == 200
    assert headers["ETag"] == f'"{told["epoch"]}.{told["version"]}"' == etag(api)
    assert headers["Cache-Control"] == "no-store"
    assert told["flags"].keys() >= {MAINTENANCE, INGESTION}
    flag = told["flags"][MAINTENANCE]
    assert (flag["is_active"], flag["reason"], flag["mode"]) == (True, "db upgrade", "read_only")
    assert flag["changed_by"] == "by-hand"
    freshness = told["freshness"]
    assert (freshness["source"], freshness["stale"], freshness["admits"]) == ("redis", False, True)
    assert 0 <= freshness["staleness_s"] < 5


async def test_put_sets_a_flag(api: Served) -> None:
    until = "2030-01-02T03:04:05Z"
    body = {**ON, "until": until, "mode": "read_only"}
    status, told, headers = await ask(api, "PUT", FLAG, body, X_Request_ID="r-3")
    assert (status, told["outcome"]) == (200, "applied")
    assert "acknowledged" not in told
    flag = told["document"]["flags"][MAINTENANCE]
    assert flag["until"] == until
    assert (flag["is_active"], flag["mode"], flag["changed_by"]) == (
        True, "read_only", "admin-token",
    )  # fmt: skip
    assert headers["ETag"] == etag(api)
    assert api.plane.replica.raised is not None
    (row,) = (await api.plane.audit.page(limit=1)).rows
    assert (row.actor, row.request_id, row.command_id) == ("admin-token", "r-3", told["command_id"])


async def test_put_again_is_unchanged(api: Served, redis) -> None:
    await ask(api, "PUT", FLAG, ON)
    await rested(redis)
    status, told, _ = await ask(api, "PUT", FLAG, ON)
    assert (status, told["outcome"]) == (200, "unchanged")


async def test_toggle_and_reset_with_and_without_a_body(api: Served, redis) -> None:
    for path, body, active, reason in (
        ("/toggle", {"reason": "x", "mode": "read_only"}, True, "x"),
        ("/toggle", None, False, None),
        ("/toggle", {}, True, None),
        ("/reset", {"reason": "y"}, False, "y"),
        ("/reset", None, False, "y"),
    ):
        sent = {} if body is None else {"json": body}
        async with api.http.post(FLAG + path, headers=TOKEN, **sent) as response:
            assert response.status == 200, await response.text()
            flag = (await response.json())["document"]["flags"][MAINTENANCE]
        assert (flag["is_active"], flag["reason"]) == (active, reason)
        await rested(redis)


async def test_if_match(api: Served, redis) -> None:
    before = etag(api)
    assert (await ask(api, "PUT", FLAG, ON, If_Match=before))[0] == 200
    await rested(redis)
    status, told, headers = await ask(api, "POST", FLAG + "/toggle", {}, If_Match=before)
    assert status == 412
    assert told["type"] == "/problems/version-mismatch"
    assert headers["ETag"] == etag(api)
    assert told["document"]["flags"][MAINTENANCE]["is_active"] is True
    await rested(redis)
    assert (await ask(api, "POST", FLAG + "/toggle", {}, If_Match="*"))[0] == 200


async def test_an_if_match_of_other_tags_is_a_conflict(api: Served, redis) -> None:
    """RFC 9110: of a list one must be the same to the letter, and a weak one never is."""
    now = api.plane.replica.position
    others = (
        '"abc"', '""', '"1"', f"W/{etag(api)}", f'"0{now}"', '"1.2","3.4"', '"0.0"',
        f'"a,b", W/{etag(api)} ,, "{now.epoch}.{now.version + 1}"', '"1.2é"',
    )  # fmt: skip
    for tags in others:
        status, told, headers = await ask(api, "PUT", FLAG, ON, If_Match=tags)
        assert (status, told["type"]) == (412, "/problems/version-mismatch"), tags
        assert headers["ETag"] == etag(api)
    assert api.plane.replica.raised is None
    rows = (await api.plane.audit.page(outcome="conflict")).rows
    assert len(rows) == len(others)


async def test_one_of_a_list_is_enough(api: Served, redis) -> None:
    for tags in ('"1.2", {now}', '{now},"9999999999999.7"', 'W/{now}, "abc" ,{now},'):
        listed = tags.format(now=etag(api))
        status, told, _ = await ask(api, "POST", FLAG + "/toggle", {}, If_Match=listed)
        assert (status, told["outcome"]) == (200, "applied"), tags
        await rested(redis)
    sent = [*TOKEN.items(), ("If-Match", '"1.2"'), ("If-Match", etag(api))]
    async with api.http.post(FLAG + "/toggle", headers=CIMultiDict(sent)) as response:
        assert response.status == 200


async def test_an_if_match_out_of_form_is_refused(api: Served) -> None:
    for bad in ("", "41", "1.2", '"1.2', 'w/"1.2"', '"1.2" "1.3"', '*, "1.2"', '"1 2"', ","):
        status, told, _ = await ask(api, "PUT", FLAG, ON, If_Match=bad)
        assert (status, told["field"]) == (422, "If-Match"), bad
    assert api.plane.replica.raised is None


async def test_debounced(api: Served) -> None:
    await ask(api, "PUT", FLAG, ON)
    status, told, headers = await ask(api, "PUT", FLAG, {"is_active": False})
    assert (status, told["type"]) == (429, "/problems/debounced")
    assert headers["Retry-After"] in ("1", "2")
    assert told["is_active"] is True
    assert told["document"]["flags"][MAINTENANCE]["reason"] == "db upgrade"
    assert (await ask(api, "PUT", f"/control/flags/{INGESTION}", {"is_active": True}))[0] == 200


async def test_an_idempotency_key_is_one_command(api: Served, redis) -> None:
    key = {"Idempotency_Key": "deploy-17"}
    _, first, _ = await ask(api, "POST", FLAG + "/toggle", {"reason": "a"}, **key)
    for _ in range(2):
        status, again, _ = await ask(api, "POST", FLAG + "/toggle", {"reason": "a"}, **key)
        assert (status, again["command_id"]) == (200, first["command_id"])
        assert api.plane.replica.raised is not None
    await rested(redis)
    status, told, _ = await ask(api, "POST", FLAG + "/toggle", {"reason": "b"}, **key)
    assert (status, told["type"]) == (422, "/problems/idempotency-key-reused")
    assert told["field"] == "Idempotency-Key"


async def test_what_is_bad_names_its_field_and_changes_nothing(api: Served) -> None:
    for body, field in (
        ({}, "is_active"), ({"is_active": "yes"}, "is_active"), ({**ON, "mode": "half"}, "mode"),
        ({**ON, "until": "tomorrow"}, "until"), ({**ON, "until": "2030-01-01T00:00:00"}, "until"),
        ({**ON, "reason": "x" * 501}, "reason"), ({**ON, "reason": "a\nb"}, "reason"),
        ({**ON, "value": True}, "value"),
    ):  # fmt: skip
        status, told, _ = await ask(api, "PUT", FLAG, body)
        assert (status, told["field"]) == (422, field), body
    for query in ("wait=later", "timeout=0", "timeout=601", "x=1"):
        status, told, _ = await ask(api, "PUT", f"{FLAG}?{query}", ON)
        assert (status, told["field"]) == (422, query.partition("=")[0])
    for query in ("limit=0", "limit=501", "since=x", "cursor=zz", "outcome=bogus", "x=1"):
        status, told, _ = await ask(api, "GET", f"/control/audit?{query}")
        assert (status, told["field"]) == (422, query.partition("=")[0])
        assert not query.startswith("outcome") or "applied, unchanged, deb" in told["detail"]
    assert api.plane.replica.raised is None


async def test_an_unknown_flag_is_404(api: Served) -> None:
    for flag in ("no_such_flag", "No-Flag", "%20", "a" * 64):
        for method, path in (("PUT", ""), ("POST", "/toggle"), ("POST", "/reset")):
            status, told, _ = await ask(
                api, method, f"/control/flags/{flag}{path}", ON if not path else {}
            )
            assert (status, told["type"]) == (404, "/problems/not-found"), flag
            assert told["flags"] == [INGESTION, MAINTENANCE]


async def test_a_reset_takes_no_terms_of_a_flag_that_is_on(api: Served) -> None:
    for name, value in (("until", "2030-01-01T00:00:00Z"), ("mode", "full")):
        status, told, _ = await ask(api, "POST", FLAG + "/reset", {name: value})
        assert (status, told["field"]) == (422, name)


async def test_without_postgres_a_change_is_refused(api: Served, stores) -> None:
    await stores.stop("postgres")
    try:
        status, told, headers = await ask(api, "PUT", FLAG, ON)
        assert (status, told["dependency"]) == (503, "database")
        assert int(headers["Retry-After"]) > 0
        assert api.plane.replica.raised is None
        assert (await ask(api, "GET", "/control/flags"))[0] == 200
        assert (await ask(api, "GET", "/control/audit"))[1]["dependency"] == "database"
    finally:
        await stores.restart("postgres")


@pytest.mark.parametrize(
    ("error", "status", "name"),
    [
        (NobodyListens(), 503, "nobody-listens"),
        (CommandTimedOut("01J0", 10), 504, "command-timeout"),
    ],
)
async def test_what_a_publisher_may_meet(
    api: Served, monkeypatch, error: Exception, status: int, name: str
) -> None:
    async def fails(*_arguments: object, **_terms: object) -> None:
        raise error

    monkeypatch.setattr(type(api.plane), "change", fails)
    found, told, _ = await ask(api, "PUT", FLAG, ON)
    assert (found, told["type"]) == (status, f"/problems/{name}")


async def test_audit(api: Served, redis) -> None:
    await ask(api, "PUT", FLAG, ON)
    await ask(api, "PUT", FLAG, {"is_active": False})
    await ask(api, "PUT", f"/control/flags/{INGESTION}", {"is_active": True})
    _, page, _ = await ask(api, "GET", "/control/audit")
    assert [(row["flag"], row["outcome"]) for row in page["rows"]] == [
        (INGESTION, "applied"), (MAINTENANCE, "debounced"), (MAINTENANCE, "applied"),
    ]  # fmt: skip
    assert page["rows"][0].keys() >= {"actor", "action", "before", "after", "reason", "command_id",
                                      "request_id", "outcome", "hash"}  # fmt: skip
    for query, count in (
        (f"flag={MAINTENANCE}", 2), ("outcome=debounced", 1), ("actor=admin-token", 3),
        ("actor=nobody", 0), ("since=2100-01-01T00:00:00Z", 0), ("since=2000-01-01T00:00:00Z", 3),
    ):  # fmt: skip
        _, found, _ = await ask(api, "GET", f"/control/audit?{query}")
        assert len(found["rows"]) == count, query
    seen, cursor = [], ""
    while cursor is not None:
        _, found, _ = await ask(api, "GET", "/control/audit?limit=2" + cursor)
        seen += [row["seq"] for row in found["rows"]]
        cursor = found["cursor"] and f"&cursor={found['cursor']}"
    assert seen == [row["seq"] for row in page["rows"]]


async def test_a_bypass_needs_a_secret(api: Served) -> None:
    status, told, _ = await ask(api, "POST", "/control/bypass", {})
    assert (status, told["setting"]) == (409, "DRAWBRIDGE_SECRET")


async def test_who_may(api: Served, config: Config) -> None:
    async with Database(config.postgres) as database:
        keyring = ApiKeys(database, SystemClock())
        _, viewer = await keyring.create("anna", Role.VIEWER)
    seeing = {"Authorization": f"Bearer {viewer}"}
    for method, path in (*(("GET", path) for path in READING), *WRITING):
        async with api.http.request(method, path) as response:
            assert response.status == 401, path
        async with api.http.request(method, path, headers=seeing) as response:
            assert response.status == (200 if method == "GET" else 403), path
            response.close()
