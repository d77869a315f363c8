"""API keys and the keyring against a real PostgreSQL."""

import asyncio
import hashlib
import json
from collections.abc import AsyncIterator
from datetime import datetime, timedelta

import pytest
from click.testing import CliRunner

from control import migrations
from control.cli.api_keys import keys as command
from control.config import PostgresSection
from control.errors import InvalidInput, StoreUnavailable
from control.principals import (
    KNOWN_S,
    UNKNOWN_S,
    ApiKeys,
    Keyring,
    Principal,
    Role,
)
from control.stores.postgres import Database
from tests.clocks import ManualClock
from tests.conftest import LiveStores

ADMIN = "the-configured-token"


@pytest.fixture
async def database(database_url: str) -> AsyncIterator[Database]:
    await migrations.migrate(database_url)
    section = PostgresSection(url=database_url)
    async with Database(section, connect_s=1.5, query_s=1.5) as opened:
        yield opened


@pytest.fixture
def clock() -> ManualClock:
    return ManualClock()


@pytest.fixture
def stored(database: Database, clock: ManualClock) -> ApiKeys:
    return ApiKeys(database, clock)


@pytest.fixture
def keyring(stored: ApiKeys, clock: ManualClock) -> Keyring:
    return Keyring(stored, admin_token=ADMIN, clock=clock)


def test_roles_are_ordered_and_named() -> None:
    assert Role.VIEWER < Role.OPERATOR < Role.ADMINISTRATOR
    assert [str(role) for role in Role] == ["viewer", "operator", "administrator"]
    assert Role.named("operator") is Role.OPERATOR
    with pytest.raises(ValueError, match="must be one of viewer, operator, administrator"):
        Role.named("root")


async def test_a_key_is_found_and_only_its_hash_is_stored(
    stored: ApiKeys, keyring: Keyring, database: Database
) -> None:
    key, secret = await stored.create("ci", Role.OPERATOR)
    assert secret.startswith("dbk_")
    assert len(secret) == 4 + 43
    assert await keyring.identify(secret) == Principal("ci", Role.OPERATOR)
    row = await database.fetchrow("SELECT * FROM drawbridge.api_keys")
    assert row is not None
    assert row["digest"] == hashlib.sha256(secret.encode()).digest()
    assert secret not in repr(dict(row))
    assert (row["id"], row["last_four"]) == (key.id, secret[-4:])
    assert [k.name for k in await stored.all()] == ["ci"]


async def test_the_configured_token_works_without_postgresql(stores: LiveStores) -> None:
    clock = ManualClock()
    async with Database(PostgresSection(url="postgresql://127.0.0.1:1/x")) as away:
        keyring = Keyring(ApiKeys(away, clock), admin_token=ADMIN, clock=clock)
        assert await keyring.identify(ADMIN) == Principal("admin-token", Role.ADMINISTRATOR)
        assert await keyring.identify(ADMIN + "x") is None
        without = Keyring(ApiKeys(away, clock), admin_token="", clock=clock)
        assert await without.identify("") is None


async def test_one_configured_token_replaces_another() -> None:
    clock = ManualClock()
    async with Database(PostgresSection(url="postgresql://127.0.0.1:1/x")) as away:
        keyring = Keyring(ApiKeys(away, clock), admin_token=f"{ADMIN} before-{ADMIN}", clock=clock)
        for token in (ADMIN, f"before-{ADMIN}"):
            assert await keyring.identify(token) == Principal("admin-token", Role.ADMINISTRATOR)
            assert keyring.knows(token)
        for token in (f"{ADMIN} before-{ADMIN}", "before-", " "):
            assert await keyring.identify(token) is None


@pytest.mark.parametrize("token", ["", "x", "dbk_", "dbk_" + "a" * 42, "dbk_" + "ä" * 43, "\udcff"])
async def test_what_cannot_be_a_key_is_refused_without_a_question(token: str) -> None:
    clock = ManualClock()
    async with Database(PostgresSection(url="postgresql://127.0.0.1:1/x")) as away:
        assert (
            await Keyring(ApiKeys(away, clock), admin_token=ADMIN, clock=clock).identify(token)
            is None
        )


async def test_a_key_that_nobody_made_is_unknown(keyring: Keyring) -> None:
    assert await keyring.identify("dbk_" + "a" * 43) is None


async def test_an_expired_key_is_refused_also_from_memory(
    stored: ApiKeys, keyring: Keyring, clock: ManualClock
) -> None:
    _, secret = await stored.create(
        "brief", Role.VIEWER, expires_at=clock.now() + timedelta(seconds=30)
    )
    assert await keyring.identify(secret) == Principal("brief", Role.VIEWER)
    clock.passed_s = 29.9
    assert await keyring.identify(secret) is not None
    clock.passed_s = 30.0
    assert await keyring.identify(secret) is None
    assert (await stored.all())[0].state(clock.now()) == "expired"


async def test_a_revoked_key_is_refused_once_memory_is_stale(
    stored: ApiKeys, keyring: Keyring, clock: ManualClock
) -> None:
    key, secret = await stored.create("gone", Role.VIEWER)
    assert await keyring.identify(secret) is not None
    assert await stored.revoke(key.id)
    assert not await stored.revoke(key.id)
    clock.passed_s = KNOWN_S - 0.1
    assert await keyring.identify(secret) is not None
    clock.passed_s = KNOWN_S
    assert await keyring.identify(secret) is None
    assert (await stored.all())[0].state(clock.now()) == "revoked"


async def test_memory_serves_while_postgresql_is_away(
    stores: LiveStores, stored: ApiKeys, keyring: Keyring, clock: ManualClock
) -> None:
    _, known = await stored.create("known", Role.OPERATOR)
    _, unseen = await stored.create("unseen", Role.OPERATOR)
    unknown = "dbk_" + "b" * 43
    assert await keyring.identify(known) is not None
    assert await keyring.identify(unknown) is None
    stores.freeze("postgres")
    try:
        assert await keyring.identify(known) == Principal("known", Role.OPERATOR)
        clock.passed_s = 10 * KNOWN_S  # long stale, still the best that is known
        assert await keyring.identify(known) == Principal("known", Role.OPERATOR)
        assert await keyring.identify(unknown) is None
        with pytest.raises(StoreUnavailable) as caught:
            await keyring.identify(unseen)
        assert caught.value.dependency == "database"
    finally:
        stores.thaw("postgres")
    assert await keyring.identify(unseen) == Principal("unseen", Role.OPERATOR)


async def test_an_unknown_key_is_asked_for_again_soon(
    stored: ApiKeys, keyring: Keyring, database: Database, clock: ManualClock
) -> None:
    secret = "dbk_" + "c" * 43
    assert await keyring.identify(secret) is None
    key, _ = await stored.create("late", Role.VIEWER)
    await database.execute(
        "UPDATE drawbridge.api_keys SET digest = $1 WHERE id = $2",
        hashlib.sha256(secret.encode()).digest(),
        key.id,
    )
    clock.passed_s = UNKNOWN_S - 0.1
    assert await keyring.identify(secret) is None
    clock.passed_s = UNKNOWN_S
    assert await keyring.identify(secret) == Principal("late", Role.VIEWER)


async def test_a_flood_of_made_up_keys_does_not_push_out_a_real_one(
    stores: LiveStores, stored: ApiKeys, clock: ManualClock
) -> None:
    keyring = Keyring(stored, admin_token="", clock=clock, remembered=3)
    _, real = await stored.create("real", Role.VIEWER)
    assert await keyring.identify(real) is not None
    for number in range(10):
        assert await keyring.identify(f"dbk_{number:043d}") is None
    stores.freeze("postgres")
    try:
        assert await keyring.identify(real) is not None
        assert await keyring.identify(f"dbk_{9:043d}") is None  # remembered
        with pytest.raises(StoreUnavailable):
            await keyring.identify(f"dbk_{0:043d}")  # forgotten: memory is bounded
    finally:
        stores.thaw("postgres")


async def test_a_database_without_its_schema_says_what_to_do(database_url: str) -> None:
    async with Database(PostgresSection(url=database_url)) as bare:
        with pytest.raises(StoreUnavailable, match="run `drawbridge migrate`"):
            await ApiKeys(bare, ManualClock()).all()


async def test_the_command(
    database: Database, database_url: str, keyring: Keyring, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DATABASE_URL", database_url)

    async def run(*arguments: str, status: int = 0) -> str:
        result = await asyncio.to_thread(CliRunner().invoke, command, arguments)
        assert result.exit_code == status, result.output
        return result.stdout

    made = json.loads(await run("create", "ci", "--role", "operator", "--expires", "90d", "--json"))
    assert made["name"] == "ci"
    assert made["state"] == "active"
    lifetime = datetime.fromisoformat(made["expires_at"]) - datetime.fromisoformat(
        made["created_at"]
    )
    assert abs(lifetime - timedelta(days=90)) < timedelta(seconds=5)
    assert await keyring.identify(made["key"]) == Principal("ci", Role.OPERATOR)
    plain = (await run("create", "two", "--role", "viewer")).strip()
    assert await keyring.identify(plain) == Principal("two", Role.VIEWER)

    listed = await run("list", "--json")
    assert [entry["name"] for entry in json.loads(listed)] == ["ci", "two"]
    for text in (listed, await run("list")):
        assert made["key"] not in text
        assert plain not in text
    assert json.loads(await run("revoke", made["id"], "--json")) == {
        "id": made["id"],
        "revoked": True,
    }
    states = {entry["name"]: entry["state"] for entry in json.loads(await run("list", "--json"))}
    assert states == {"ci": "revoked", "two": "active"}

    await run("create", "x", "--role", "emperor", status=2)
    await run("create", "x", "--role", "viewer", "--expires", "soon", status=2)
    await run("create", "", "--role", "viewer", status=2)
    again = await asyncio.to_thread(CliRunner().invoke, command, ["revoke", made["id"]])
    assert isinstance(again.exception, InvalidInput)


@pytest.mark.parametrize("name", ["anonymous", "admin-token", "jwt:ada"])
async def test_no_key_passes_for_another_kind_of_caller(stored: ApiKeys, name: str) -> None:
    with pytest.raises(InvalidInput, match="other callers"):
        await stored.create(name, Role.OPERATOR)
