"""One message, posted: what is taken for an answer, and where no message goes."""

import asyncio
import socket
from collections.abc import AsyncIterator
from contextlib import aclosing, asynccontextmanager
from typing import Any

import pytest
from aiohttp import web

from control.clock import SystemClock
from control.webhooks import sender
from control.webhooks.destinations import Destinations
from control.webhooks.sender import NotAnswered, Sender
from control.webhooks.signature import Signer
from tests.webhooks import SECRET, receiver

OPEN = ("127.0.0.0/8",)


@asynccontextmanager
async def sending(destinations: Destinations, *secrets: str) -> AsyncIterator[Sender]:
    async with (
        aclosing(destinations),
        aclosing(Sender(Signer(secrets), destinations, SystemClock())) as client,
    ):
        yield client


async def post(url: str, networks: tuple[str, ...] = OPEN) -> sender.Answer:
    async with sending(Destinations(networks), SECRET) as client:
        return await client.post(url, "msg_1", b'{"n": 1}')


async def test_a_message_arrives_signed() -> None:
    async with receiver() as there:
        assert (await post(there.url)).status == 204
    assert there.got == [("msg_1", {"n": 1})]


@pytest.mark.parametrize(
    ("header", "wait_s"),
    [("120", 120), ("", 0), ("-5", 0), ("soon", 0), ("Wed, 21 Oct 2015 07:28:00 GMT", 0),
     ("9" * 40, 999_999_999), ("Fri, 01 Jan 2100 00:00:00 GMT", pytest.approx(2.3e9, rel=0.2))],
)  # fmt: skip
async def test_the_receiver_says_when_to_come_back(header: str, wait_s: float) -> None:
    async with receiver() as there:
        there.answers = [web.Response(status=503, headers={"Retry-After": header})]
        answer = await post(there.url)
    assert (answer.status, answer.retry_after_s) == (503, wait_s)


async def test_a_redirect_is_an_answer_and_not_followed() -> None:
    async with receiver() as there, receiver() as elsewhere:
        there.answers = [web.Response(status=307, headers={"Location": elsewhere.url})]
        assert (await post(there.url)).status == 307
    assert elsewhere.got == []


async def test_the_body_of_an_answer_is_not_waited_for() -> None:
    async def endless(request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse()
        await response.prepare(request)
        await asyncio.Event().wait()
        return response

    async with receiver() as there:
        there.take_as(endless)
        assert (await post(there.url)).status == 200


async def test_a_receiver_that_says_nothing_is_given_up(monkeypatch: Any) -> None:
    monkeypatch.setattr(sender, "DEADLINE_S", 0.2)
    async with receiver() as there:
        there.held = asyncio.Event()
        with pytest.raises(NotAnswered, match=r"no answer within 0\.2 s") as caught:
            await post(there.url)
    assert not caught.value.final


async def test_a_closed_port_and_an_unknown_name_may_be_tried_again() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
    with pytest.raises(NotAnswered, match="cannot be reached") as closed:
        await post(f"http://127.0.0.1:{port}/?token=hidden")
    with pytest.raises(NotAnswered, match="cannot be resolved") as unknown:
        await post("http://nobody.invalid/")
    assert [closed.value.final, unknown.value.final] == [False, False]
    assert "hidden" not in str(closed.value)


async def test_nothing_is_posted_inside() -> None:
    async with receiver() as there:
        for url in (there.url, there.url.replace("127.0.0.1", "localhost")):
            with pytest.raises(NotAnswered, match="not a public one") as caught:
                await post(url, networks=())
            assert caught.value.final
    assert there.got == []


class Rebinding(Destinations):
    """A name that leads to a public address when it is checked, and inside when it counts."""

    asked = 0

    async def look_up(self, host: str, port: int, family: int = 0) -> Any:
        self.asked += 1
        where = ("93.184.215.14", "127.0.0.1")[self.asked > 1]
        return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", (where, port))]


async def test_a_name_that_changes_between_check_and_connection_leads_nowhere() -> None:
    async with receiver() as there:
        url = there.url.replace("127.0.0.1", "rebinding.example")
        destinations = Rebinding()
        async with sending(destinations, SECRET) as client:
            await destinations.check(url)
            with pytest.raises(NotAnswered, match="not a public one"):
                await client.post(url, "msg_1", b"{}")
        assert destinations.asked == 2
    assert there.got == []


async def test_without_a_secret_nothing_is_sent_unsigned() -> None:
    async with receiver() as there, sending(Destinations(OPEN)) as client:
        with pytest.raises(NotAnswered, match="DRAWBRIDGE_CALLBACK_SECRET"):
            await client.post(there.url, "msg_1", b"{}")
    assert there.got == []
