"""Who sends and takes messages in tests: a mail server, what stands for Resend and Twilio, and a
courier with all that it needs."""

import asyncio
import base64
import contextlib
import email
import socket
import ssl
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from email.message import EmailMessage
from email.policy import default as modern
from typing import Any

from aiohttp import web
from aiosmtpd.smtp import SMTP, Envelope, Session

from control.clock import Clock, SystemClock
from control.config import Config, load
from control.ids import new_id
from control.lifespan import Lifespan
from control.listener import serving, url_of
from control.stores.postgres import Database
from control.subscribers import outbox as outboxes
from control.subscribers.channel import Channel
from control.subscribers.links import Links
from control.subscribers.notice import Affected, Notice
from control.subscribers.outbox import Outbox
from control.subscribers.roster import Roster, Subscriber
from control.subscribers.tokens import Tokens
from control.subscribers.vault import Vault
from control.webhooks.destinations import Destinations
from control.webhooks.sender import Sender
from control.webhooks.signature import Signer, new_secret
from worker.notify import wiring
from worker.notify.courier import Courier

SITE = "https://status.example.org"
SETTINGS = {
    "DRAWBRIDGE_SUBSCRIBER_SECRET": "a-secret-of-the-tests-and-long-enough",
    "DRAWBRIDGE_STATUS_URL": SITE,
    "DRAWBRIDGE_STATUS_TITLE": "Bridges",
    "DRAWBRIDGE_MAIL_FROM": "Bridges <status@bridges.example>",
    "DRAWBRIDGE_CALLBACK_NETWORKS": "127.0.0.0/8",
}
BROKEN = Notice(
    kind="incident.created", about="01KB0000000000000000000000", title="API errors",
    message="We look into it.", status="investigating", impact="major",
    path="/status/incidents/01KB0000000000000000000000",
    components=(Affected("api", "API", "major_outage"),),
)  # fmt: skip


class MailServer:
    """Takes e-mails. ``answers`` are what the next ones are answered with, at RCPT where they begin
    with ``RCPT``; after the last one all are taken."""

    def __init__(self) -> None:
        self.got: list[EmailMessage] = []
        self.raw: list[bytes] = []
        self.recipients: list[str] = []
        self.encrypted: list[bool] = []
        """Whether each message came over TLS."""
        self.connections = 0
        self.answers: list[str] = []
        self.url = ""
        self._grown = asyncio.Condition()

    async def handle_EHLO(  # noqa: N802 - named by aiosmtpd
        self, _server: SMTP, session: Session, _envelope: Envelope, hostname: str,
        responses: list[str],
    ) -> list[str]:  # fmt: skip
        session.host_name = hostname
        self.connections += 1
        return responses

    async def handle_RCPT(  # noqa: N802
        self, _server: SMTP, _session: Session, envelope: Envelope, address: str, _options: Any
    ) -> str:
        if self.answers and self.answers[0].startswith("RCPT"):
            return self.answers.pop(0).removeprefix("RCPT ")
        envelope.rcpt_tos.append(address)
        return "250 OK"

    async def handle_DATA(  # noqa: N802
        self, server: SMTP, _session: Session, envelope: Envelope
    ) -> str:
        assert server.transport is not None
        self.encrypted.append(server.transport.get_extra_info("ssl_object") is not None)
        async with self._grown:
            assert isinstance(envelope.content, bytes)
            message: Any = email.message_from_bytes(envelope.content, policy=modern)
            self.got.append(message)
            self.raw.append(envelope.content)
            self.recipients += envelope.rcpt_tos
            self._grown.notify_all()
        return self.answers.pop(0) if self.answers else "250 taken"

    async def came(self, count: int = 1) -> list[EmailMessage]:
        """The first ``count`` messages, once they are there."""
        async with asyncio.timeout(60), self._grown:
            await self._grown.wait_for(lambda: len(self.got) >= count)
        return self.got[:count]


@contextlib.asynccontextmanager
async def mail_server(
    implicit: ssl.SSLContext | None = None, **options: Any
) -> AsyncIterator[MailServer]:
    """One that listens on loopback while the block lasts; with ``implicit`` TLS, or aiosmtpd's
    ``options``."""
    made, loop = MailServer(), asyncio.get_running_loop()

    def session() -> SMTP:
        return SMTP(made, loop=loop, **options)

    server = await loop.create_server(session, "127.0.0.1", 0, ssl=implicit)
    scheme = "smtps" if implicit else "smtp"
    made.url = f"{scheme}://localhost:{server.sockets[0].getsockname()[1]}"
    try:
        yield made
    finally:
        server.close()


@dataclass
class Provider:
    """Stands for Resend, which sends what comes under one key once, and for Twilio, which does not.

    ``answers`` are what the next messages are answered with; after the last one all are taken.
    ``deaf``: takes the next message, and breaks the connection instead of saying so.
    """

    url: str
    asked: list[dict[str, Any]] = field(default_factory=list)
    sent: list[dict[str, Any]] = field(default_factory=list)
    answers: list[web.Response] = field(default_factory=list)
    deaf: bool = False
    _keys: dict[str, Any] = field(default_factory=dict)

    async def mail(self, request: web.Request) -> web.StreamResponse:
        """Resend's POST /emails."""
        assert request.headers["Authorization"] == "Bearer re_123"
        key, body = request.headers["Idempotency-Key"], await request.json()
        self.asked.append({"key": key, **body})
        if self.answers:
            return self.answers.pop(0)
        if key in self._keys:
            if self._keys[key] != body:
                return web.json_response({"name": "invalid_idempotent_request"}, status=409)
        else:
            self._keys[key] = body
            self.sent.append(body)
        return self._said(request, web.json_response({"id": "1"}))

    async def sms(self, request: web.Request) -> web.StreamResponse:
        """Twilio's POST Messages.json."""
        wanted = base64.b64encode(b"AC1:token").decode()
        assert request.headers["Authorization"] == f"Basic {wanted}"
        body = dict(await request.post())
        self.asked.append(body)
        if self.answers:
            return self.answers.pop(0)
        self.sent.append(body)
        return self._said(request, web.json_response({"sid": "SM1"}, status=201))

    async def listing(self, request: web.Request) -> web.StreamResponse:
        """Twilio's GET Messages.json."""
        found = [
            {"body": each["Body"], "status": "sent"}
            for each in self.sent
            if each["To"] == request.query["To"]
        ]
        return web.json_response({"messages": found})

    def _said(self, request: web.Request, answer: web.Response) -> web.StreamResponse:
        if self.deaf:
            self.deaf = False
            assert request.transport is not None
            request.transport.abort()
        return answer


@contextlib.asynccontextmanager
async def provider() -> AsyncIterator[Provider]:
    """One that listens on loopback while the block lasts."""
    listening = socket.create_server(("127.0.0.1", 0))
    made = Provider(url_of(listening))
    app = web.Application()
    app.router.add_post("/emails", made.mail)
    app.router.add_post("/2010-04-01/Accounts/AC1/Messages.json", made.sms)
    app.router.add_get("/2010-04-01/Accounts/AC1/Messages.json", made.listing)
    async with serving(app, listening):
        yield made


def resend(there: Provider) -> dict[str, str]:
    """Settings that send e-mails by it."""
    return {"DRAWBRIDGE_RESEND_KEY": "re_123", "DRAWBRIDGE_RESEND_URL": there.url}


def twilio(there: Provider) -> dict[str, str]:
    """Settings that send SMS by it."""
    return {
        "DRAWBRIDGE_TWILIO_SID": "AC1", "DRAWBRIDGE_TWILIO_TOKEN": "token",
        "DRAWBRIDGE_TWILIO_FROM": "+15005550006", "DRAWBRIDGE_TWILIO_URL": there.url,
    }  # fmt: skip


@dataclass
class Room:
    """A roster, an outbox, and a courier that empties it."""

    database: Database
    config: Config
    vault: Vault
    tokens: Tokens
    roster: Roster
    outbox: Outbox
    courier: Courier

    async def subscriber(
        self,
        address: str = "ada@example.org",
        channel: Channel = Channel.EMAIL,
        components: tuple[str, ...] = (),
        secret: str | None = None,
    ) -> Subscriber:
        """One who has confirmed."""
        if channel is Channel.WEBHOOK:
            secret = secret or new_secret()
        made = await self.roster.request(channel, channel.normal(address), components, secret)
        confirmed = await self.roster.confirm(made.id)
        assert confirmed is not None
        return confirmed

    async def publish(self, notice: Notice = BROKEN) -> str:
        """Have everybody told whom it concerns; its id."""
        notice_id = new_id()
        async with self.database.acquire() as connection, connection.transaction():
            now = SystemClock().now()
            await outboxes.announce(connection, notice_id, notice, now)
        return notice_id

    async def send(self, *, again: bool = False) -> list[str]:
        """Make an attempt at all that is due, or waits for another attempt; what became of each."""
        if again:
            await self.make_due()
        claims = await self.outbox.claim(100)
        return [await self.courier.deliver(claim) for claim in claims]

    async def make_due(self) -> None:
        """Let all that waits be due, and every claim have ended."""
        await self.database.execute(
            "UPDATE drawbridge.deliveries SET due_at = now(), claimed_until = NULL "
            "WHERE state = 'pending'"
        )

    async def deliveries(self) -> list[tuple[str, str | None]]:
        """How each notice but requests to confirm stands, and why."""
        rows = await self.database.fetch(
            "SELECT d.state, d.detail FROM drawbridge.deliveries d JOIN drawbridge.notices n "
            "ON n.id = d.notice WHERE n.kind <> 'subscription.confirm' ORDER BY n.id, d.subscriber"
        )
        return [tuple(row) for row in rows]

    async def state(self, subscriber: Subscriber) -> str:
        """How a subscriber stands."""
        found = await self.roster.get(subscriber.id)
        return "gone" if found is None else found.state


@contextlib.asynccontextmanager
async def room(
    database: Database, clock: Clock | None = None, **settings: str
) -> AsyncIterator[Room]:
    """One on ``database``, which has the schema."""
    clock = clock or SystemClock()
    config = load(("test", {**SETTINGS, **settings}))
    vault = Vault(config.notify.secrets)
    async with Lifespan(signals=False) as life:
        destinations = await life.enter(contextlib.aclosing(
            Destinations(config.callbacks.networks)
        ))  # fmt: skip
        sender = await life.enter(contextlib.aclosing(Sender(Signer(()), destinations, clock)))
        courier = await wiring.courier(life, config, database, sender, clock)
        yield Room(
            database, config, vault, Tokens(vault, clock), Roster(database, vault, clock),
            Outbox(database, clock), courier,
        )  # fmt: skip


def links(clock: Clock) -> Links:
    """Those of the tests' site."""
    return Links(SITE, Tokens(Vault([SETTINGS["DRAWBRIDGE_SUBSCRIBER_SECRET"]]), clock))
