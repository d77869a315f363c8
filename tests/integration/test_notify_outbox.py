"""The outbox: what is told to whom, once, and who holds it meanwhile."""

import asyncio
import time
from datetime import timedelta

import asyncpg
import pytest

from control.clock import SystemClock
from control.ids import new_id
from control.stores.postgres import Database
from control.subscribers import outbox as outboxes
from control.subscribers.channel import Channel
from control.subscribers.claim import Claim
from control.subscribers.notice import Affected, Notice
from control.subscribers.outbox import IN_FLIGHT
from tests.clocks import ManualClock
from tests.mailroom import BROKEN, SETTINGS, room
from tests.timing import timed


async def test_a_notice_is_for_those_whom_it_concerns(told: Database) -> None:
    async with room(told) as made:
        everything = await made.subscriber("all@example.org")
        of_api = await made.subscriber("api@example.org", components=("api", "db"))
        of_mail = await made.subscriber("mail@example.org", components=("mail",))
        await made.roster.request(Channel.EMAIL, "nobody@example.org", ())
        for components, concerned in (
            (("api",), {everything.id, of_api.id}),
            (("mail", "db"), {everything.id, of_api.id, of_mail.id}),
            (("other",), {everything.id}),
            ((), {everything.id, of_api.id, of_mail.id}),
        ):
            affected = tuple(Affected(each, each) for each in components)
            notice = await made.publish(Notice(kind="incident.created", components=affected))
            rows = await told.fetch(
                "SELECT subscriber FROM drawbridge.deliveries WHERE notice = $1", notice
            )
            assert {row["subscriber"] for row in rows} == concerned


async def test_it_waits_if_and_only_if_what_it_tells_of_is_committed(told: Database) -> None:
    async with room(told) as made:
        await made.subscriber()
        notice_id, now = new_id(), SystemClock().now()
        async with told.acquire() as connection:
            transaction = connection.transaction()
            await transaction.start()
            await outboxes.announce(connection, notice_id, BROKEN, now)
            await transaction.rollback()
        assert await made.deliveries() == []
        async with told.acquire() as connection, connection.transaction():
            await outboxes.announce(connection, notice_id, BROKEN, now)
        assert len(await made.deliveries()) == 1
        with pytest.raises(asyncpg.UniqueViolationError):  # an event is told once
            async with told.acquire() as connection, connection.transaction():
                await outboxes.announce(connection, notice_id, BROKEN, now)


async def test_many_claim_at_once_and_nobody_gets_what_another_one_has(told: Database) -> None:
    async with room(told) as made:
        for number in range(30):
            await made.subscriber(f"u{number}@example.org")
        await told.execute("DELETE FROM drawbridge.notices")
        await made.publish()
        claims = await asyncio.gather(*(made.outbox.claim(9) for _ in range(5)))
        got = [claim.subscriber for each in claims for claim in each]
        assert len(got) == len(set(got)) == 30
        assert await made.outbox.claim(9) == []


async def test_a_claim_is_good_for_one_attempt(told: Database) -> None:
    async with room(told) as made:
        await made.subscriber()
        await told.execute("DELETE FROM drawbridge.notices")
        await made.publish()
        [claim] = await made.outbox.claim(9)
        both = await asyncio.gather(made.outbox.begin(claim), made.outbox.begin(claim))
        [begun] = [each for each in both if each is not None]
        await made.make_due()  # its claim has ended
        [later] = await made.outbox.claim(9)
        await made.outbox.sent(begun.claim)  # what the first holder says is too late
        assert await made.deliveries() == [("pending", None)]
        again = await made.outbox.begin(later)
        assert again is not None
        assert again.attempt == 2
        assert again.claim.message_id == begun.claim.message_id
        await made.outbox.sent(again.claim)
        assert await made.deliveries() == [("sent", None)]
        assert await made.outbox.begin(Claim(claim.notice, claim.subscriber, 9)) is None


async def test_an_attempt_that_never_ends_is_given_up_in_the_end(told: Database) -> None:
    async with room(told) as made:
        await made.subscriber()
        await made.publish()
        for _ in range(10):
            await made.make_due()
            for claim in await made.outbox.claim(9):
                await made.outbox.begin(claim)
        assert "failed" in await made.send(again=True)
        assert await made.deliveries() == [("failed", "no attempt came to an end")]


@timed
async def test_ten_thousand_subscribers_are_queued_within_a_second(told: Database) -> None:
    await told.execute(
        "INSERT INTO drawbridge.subscribers (id, channel, address, address_index, sealed_with, "
        "components, state) SELECT lpad(n::text, 26, '0'), 'email', 'x', n::text::bytea, 'x', "
        "CASE n % 2 WHEN 0 THEN '{}'::text[] ELSE '{api,mail}' END, 'active' "
        "FROM generate_series(1, 10000) AS n ON CONFLICT DO NOTHING"
    )
    async with room(told) as made:
        began = time.perf_counter()
        await made.publish()
        took_s = time.perf_counter() - began
        [(count,)] = await told.fetch("SELECT count(*) FROM drawbridge.deliveries")
        assert count % 10_000 == 0
        claimed = 0
        await made.make_due()
        while claims := await made.outbox.claim(200):
            claimed += len(claims)
        assert claimed == IN_FLIGHT  # no more than that are under way at once
        assert await made.outbox.next_due_s() == 0.0
        assert took_s < 1.0


async def test_a_new_secret_takes_over_what_the_old_one_sealed(told: Database) -> None:
    new, old = "the-secret-that-comes-after-the-first", SETTINGS["DRAWBRIDGE_SUBSCRIBER_SECRET"]
    async with room(told) as made:
        ada = await made.subscriber()
    async with room(told, DRAWBRIDGE_SUBSCRIBER_SECRET=f"{new} {old}") as made:
        assert await made.roster.get(ada.id) == ada
        assert await made.roster.seal_anew() == 1
        assert await made.roster.seal_anew() == 0
    async with room(told, DRAWBRIDGE_SUBSCRIBER_SECRET=new) as made:
        assert await made.roster.get(ada.id) == ada
        again = await made.subscriber("ADA@example.org")  # it is still found by its address
        assert again.id == ada.id
    async with room(told) as made:
        found = await made.roster.get(ada.id)
        assert found is not None
        assert (found.address, found.masked) == ("", "***")


async def test_requests_that_nobody_confirmed_and_old_notices_are_forgotten(told: Database) -> None:
    clock = ManualClock()
    async with room(told, clock) as made:
        await made.roster.request(Channel.EMAIL, "a@example.org", ())
        ada = await made.subscriber()
        clock.passed_s = timedelta(hours=49).total_seconds()
        assert await made.roster.confirm(ada.id) == ada
        assert await made.roster.forget_requests() == 1
        assert [each.id for each in (await made.roster.page(limit=9))[0]] == [ada.id]
        assert await made.outbox.prune(1) == 1  # that of the request; Ada's still waits
        await made.send()


async def test_a_request_cannot_be_confirmed_after_two_days(told: Database) -> None:
    clock = ManualClock()
    async with room(told, clock) as made:
        request = await made.roster.request(Channel.EMAIL, "a@example.org", ())
        clock.passed_s = timedelta(hours=49).total_seconds()
        assert await made.roster.confirm(request.id) is None


async def test_two_requests_for_one_address_become_one_subscriber(told: Database) -> None:
    async with room(told) as made:
        requests = [
            await made.roster.request(Channel.EMAIL, address, (each,))
            for each, address in (("api", "a@example.org"), ("mail", "A@Example.org"))
        ]
        confirmed = await asyncio.gather(*(made.roster.confirm(each.id) for each in requests))
        found, _ = await made.roster.page(limit=9)
        assert len([each for each in found if each.state == "active"]) == 1
        assert all(each is not None for each in confirmed)
