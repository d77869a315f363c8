"""PostgreSQL away, Redis away, both away, each coming back; and an audit that was tampered with."""

import asyncio
import time

import asyncpg
import pytest

from control import ids
from control.flags.document import INGESTION, MAINTENANCE, Position
from tests.conftest import LiveStores
from tests.faults.fleet import SPARE, Fleet
from tests.faults.proxy import Way
from tests.faults.witness import observed
from tests.stack import clean_environment, drawbridge, wait_until


async def test_without_postgresql_a_change_is_refused_and_nothing_is_half_done(
    fleet: Fleet,
) -> None:
    raised = await fleet.change(MAINTENANCE, True, reason="kept")
    await fleet.agreed(raised)
    for one in fleet.all:
        one.database.cut()
    await fleet.undebounce(MAINTENANCE)
    status, said = await fleet.put(MAINTENANCE, False)
    assert status == 503, said
    sent = await fleet.publish("set", MAINTENANCE, value=False)
    answer = await fleet.events.first(command_id=sent)
    assert answer["outcome"]["verdict"] == "unavailable"
    assert (answer["epoch"], answer["version"]) == raised
    for number in range(len(fleet.services)):
        document = await fleet.document(number)
        assert (document.position, document.is_active(MAINTENANCE)) == (raised, True)
    for one in fleet.all:
        one.database.heal()
    lowered = await fleet.change(MAINTENANCE, False)
    assert lowered == (raised.epoch, raised.version + 1)
    await fleet.agreed(lowered)


async def test_without_redis_a_change_goes_through_postgresql(fleet: Fleet) -> None:
    for one in fleet.all:
        one.redis.cut()
    status, said = await fleet.put(MAINTENANCE, True, wait="applied", timeout_s=15)
    returned = time.monotonic()
    assert status == 200, said
    async with observed([one.url for one in fleet.services]) as observer:
        position = (await fleet.document(0)).position
        await fleet.agreed(position)
        await observer.all_say(refused=True, since=returned)
        assert observer.admitted_after(returned) == []
    sources = [(await fleet.freshness(number))["source"] for number in range(2)]
    assert sources == ["database", "database"]
    assert not await fleet.projected(fleet.redis)
    for one in fleet.all:
        one.redis.heal()
    await wait_until(lambda: fleet.projected(fleet.redis))


async def test_a_frozen_redis_is_no_different(fleet: Fleet) -> None:
    """Its connections stay open and nothing comes. The usual patience of a caller is enough."""
    async with observed([one.url for one in fleet.services]) as observer:
        fleet.server.freeze()
        try:
            status, said = await fleet.put(MAINTENANCE, True, wait="applied", timeout_s=10)
            returned = time.monotonic()
            assert status == 200, said
            await observer.all_say(refused=True, since=returned)
        finally:
            fleet.server.thaw()
        await wait_until(lambda: fleet.projected(fleet.redis))
        assert observer.admitted_after(returned) == []


async def test_a_frozen_postgresql_refuses_and_does_nothing_later(
    fleet: Fleet, stores: LiveStores
) -> None:
    before = await fleet.change(SPARE[3], True)
    stores.freeze("postgres")
    try:
        status, said = await fleet.put(SPARE[3], False)
        assert status == 503, said
    finally:
        stores.thaw("postgres")
    after = await fleet.change(SPARE[4], True)
    assert after == (before.epoch, before.version + 1)
    await fleet.agreed(after)
    assert (await fleet.document(0)).is_active(SPARE[3])


async def test_a_commit_whose_answer_is_lost_is_known_all_the_same(fleet: Fleet) -> None:
    """PostgreSQL committed; its word on it never arrives, and the connection breaks."""
    known = max(one.position for one in fleet.all)
    sent = ids.new_id()
    asked = {one.id: one.database.hold_at(sent.encode()) for one in fleet.all}
    await fleet.publish("set", SPARE[5], id=sent, value=True)
    controller = await wait_until(
        lambda: next((one for one in fleet.all if asked[one.id].sprung.is_set()), None)
    )
    trap = controller.database.hold_at(sent.encode(), Way.DOWN)  # the statement answers with it
    for gate in asked.values():
        gate.let_go()
    await trap.caught()
    controller.database.kill()
    trap.let_go()
    answer = await fleet.events.first(command_id=sent)
    assert answer["outcome"]["verdict"] == "applied", answer["outcome"]
    after = Position(answer["epoch"], answer["version"])
    assert after == (known.epoch, known.version + 1)
    await fleet.agreed(after)


async def test_a_postgresql_that_lost_commits_is_declared_anew(fleet: Fleet) -> None:
    """As when a backup comes back, or a standby takes over: its state is older than the fleet's."""
    lost = await fleet.change(SPARE[6], True)
    await fleet.agreed(lost)
    connection = await asyncpg.connect(fleet.database_url)
    try:
        await connection.execute("UPDATE drawbridge.flags_state SET version = version - 1")
        await connection.execute(
            "UPDATE base_pricing.bp_app_status_master SET is_active = FALSE WHERE name = $1",
            SPARE[6],
        )
    finally:
        await connection.close()
    for one in fleet.all:
        one.database.kill()
    await fleet.agreed(Position(lost.epoch + 1, 0))
    for number in range(len(fleet.services)):
        assert not (await fleet.document(number)).is_active(SPARE[6])
    after = await fleet.change(SPARE[6], True)
    assert after.epoch > lost.epoch
    await fleet.agreed(after)


async def test_debounce_holds_without_redis(fleet: Fleet) -> None:
    for one in fleet.all:
        one.redis.cut()
    await wait_until(lambda: _has_left_redis(fleet))
    flag = SPARE[1]
    assert (await fleet.put(flag, True))[0] == 200
    async with fleet.http.put(
        f"{fleet.services[0].url}/control/flags/{flag}", json={"is_active": False}
    ) as response:
        assert response.status == 429
        assert 1 <= int(response.headers["Retry-After"]) <= 2
    assert (await fleet.document(0)).is_active(flag)


async def test_without_both_the_state_is_kept_and_the_doors_close(fleet: Fleet) -> None:
    known = await fleet.change(INGESTION, True)
    await fleet.agreed(known)
    async with observed([one.url for one in fleet.services]) as observer:
        for one in fleet.all:
            one.cut_off()
        cut = time.monotonic()
        for number in range(len(fleet.services)):
            answer = await observer.says(number, refused=True, since=cut)
            assert answer.problem == "control_state_stale"
            document = await fleet.document(number)
            assert (document.position, document.is_active(INGESTION)) == (known, True)
            assert (await fleet.freshness(number))["source"] == "memory"
        status, _ = await fleet.put(INGESTION, False)
        assert status == 503
        for one in fleet.all:
            one.database.heal()
        for number in range(len(fleet.services)):
            await observer.says(number, refused=False, since=time.monotonic())
        for one in fleet.all:
            one.redis.heal()
        await wait_until(lambda: _all_on_redis(fleet))
    after = await fleet.change(INGESTION, False)
    assert after == (known.epoch, known.version + 1)
    await fleet.agreed(after)


async def test_stores_that_are_killed_come_back_with_the_fleet(
    fleet: Fleet, stores: LiveStores
) -> None:
    before = await fleet.change(INGESTION, True)
    await asyncio.gather(fleet.server.kill(), stores.kill("postgres"))
    try:
        for number in range(len(fleet.services)):
            assert (await fleet.document(number)).position == before
    finally:
        await asyncio.gather(fleet.server.start(), stores.restart("postgres"))

    async def changed() -> bool:
        status, _ = await fleet.put(INGESTION, False, wait="applied")
        return status == 200

    await wait_until(changed)
    assert (await fleet.document(1)).position == (before.epoch, before.version + 1)


async def test_a_byte_changed_in_the_audit_is_found(fleet: Fleet) -> None:
    """By somebody who owns the database; the application itself may not even try."""
    position = await fleet.change(SPARE[2], True, reason="approved by the board")
    await fleet.agreed(await fleet.change(SPARE[2], False))
    environ = clean_environment(REDIS_URL=fleet.server.url, DATABASE_URL=fleet.database_url)
    forge = "UPDATE drawbridge.audit SET reason = $2 WHERE version = $1 AND outcome = 'applied'"
    connection = await asyncpg.connect(fleet.database_url)
    try:
        assert await verified(environ) == (0, "")
        with pytest.raises(asyncpg.InsufficientPrivilegeError):
            await connection.execute(forge, position.version, "approved by the bored")
        await connection.execute("GRANT UPDATE ON drawbridge.audit TO CURRENT_USER")
        with pytest.raises(asyncpg.InsufficientPrivilegeError):
            await connection.execute(forge, position.version, "approved by the bored")
        await connection.execute("ALTER TABLE drawbridge.audit DISABLE TRIGGER append_only")
        await connection.execute(forge, position.version, "Approved by the board")
        seq = await connection.fetchval(
            "SELECT seq FROM drawbridge.audit WHERE version = $1 AND outcome = 'applied'",
            position.version,
        )
        status, said = await verified(environ)
        assert status == 1
        assert str(seq) in said
        await connection.execute(forge, position.version, "approved by the board")
        assert await verified(environ) == (0, "")
    finally:
        await connection.close()


async def verified(environ: dict[str, str]) -> tuple[int, str]:
    """Exit status of `drawbridge audit verify`, and what it said where it found something."""
    status, out, err = await drawbridge("audit", "verify", environ=environ)
    return status, out + err if status else ""


async def _has_left_redis(fleet: Fleet) -> bool:
    return (await fleet.freshness(0))["source"] == "database"


async def _all_on_redis(fleet: Fleet) -> bool:
    return all([(await fleet.freshness(n))["source"] == "redis" for n in range(2)])
