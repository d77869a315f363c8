"""E-mails: how they are put together, and SMTP, which brings them on their way."""

import asyncio
from contextlib import suppress
from email.message import EmailMessage
from email.policy import EmailPolicy
from email.utils import format_datetime, formataddr, parseaddr
from ipaddress import ip_address
from urllib.parse import unquote, urlsplit

import aiosmtplib
from aiosmtplib import SMTP

from control.tls import distrusts
from worker.notify.delivery import Delivery, Postponed, Refused
from worker.notify.letters import Letter, Letters, one_line

KEPT, KEPT_S = 20, 30.0
"""Connections that are kept open for the next message, and how long."""

_COMMAND_S, _MESSAGE_S = 15.0, 45.0
_SUBMISSION = {"smtp": 587, "smtps": 465}
_UNSUPPORTED = (aiosmtplib.SMTPNotSupported, aiosmtplib.SMTPException)
"""What the library raises where the server lacks STARTTLS, AUTH, or a method for that."""

_DISTRUSTED = "has a certificate that is not trusted"


class _Lines(EmailPolicy):
    """Leaves headers that programs read on one line. Python would fold what is longer than 78
    characters, and turn a long address in it into encoded words, which nobody decodes there."""

    def fold_binary(self, name: str, value: str) -> bytes:
        if name in _WHOLE:
            return f"{name}: {value}{self.linesep}".encode("ascii")
        folded: bytes = super().fold_binary(name, value)
        return folded


_WHOLE = frozenset({
    "List-Unsubscribe", "List-Id", "Message-ID", "In-Reply-To", "References"
})  # fmt: skip
_LINES = _Lines(linesep="\r\n")


def headers_of(delivery: Delivery, sender: str) -> dict[str, str]:
    """What is said of a message beside who gets it: one-click unsubscription (RFC 8058), that a
    machine wrote it (RFC 3834), and which messages belong together."""
    domain = parseaddr(sender)[1].rpartition("@")[2]
    host = urlsplit(delivery.links.page).hostname or domain
    headers = {
        "List-Unsubscribe": f"<{delivery.links.unsubscribe}>",
        "List-Unsubscribe-Post": "List-Unsubscribe=One-Click",
        "List-Id": f"<status.{host}>",
        "Auto-Submitted": "auto-generated",
        "Message-ID": f"<{delivery.id}@{domain}>",
    }
    if about := delivery.notice.about:
        thread = f"<{about}-{delivery.subscriber}@{domain}>"
        headers |= {"In-Reply-To": thread, "References": thread}
    return headers


def message_of(delivery: Delivery, letter: Letter, sender: str) -> EmailMessage:
    """The whole message."""
    message = EmailMessage(policy=_LINES)
    name, address = parseaddr(sender)
    message["From"] = formataddr((one_line(name), address))
    message["To"] = delivery.address
    message["Subject"] = letter.subject
    message["Date"] = format_datetime(delivery.at)
    for header, value in headers_of(delivery, sender).items():
        message[header] = value
    message.set_content(letter.text)
    message.add_alternative(letter.html, subtype="html")
    return message


class SmtpMail:
    """Through the server at ``url``: ``smtps://user:password@host`` or ``smtp://…``, which uses TLS
    where the server offers it, and must where there is a password."""

    def __init__(self, url: str, sender: str, letters: Letters) -> None:
        self._sender = sender
        self._letters = letters
        parts = urlsplit(url)
        secure = parts.scheme == "smtps"
        must = True if parts.password and not _is_loopback(parts.hostname or "") else None
        self._options = {
            "hostname": parts.hostname,
            "port": parts.port or _SUBMISSION[parts.scheme],
            "username": unquote(parts.username) if parts.username else None,
            "password": unquote(parts.password) if parts.password else None,
            "use_tls": secure,
            "start_tls": False if secure else must,
            "timeout": _COMMAND_S,
        }
        self._idle: list[tuple[SMTP, float]] = []
        """Each, and until when it is worth asking whether it still carries."""

    async def aclose(self) -> None:
        """Say goodbye on what is open."""
        while self._idle:
            await _quit(self._idle.pop()[0])

    async def carry(self, delivery: Delivery) -> None:
        """Hand it to the server."""
        message = message_of(delivery, self._letters.letter(delivery), self._sender)
        try:
            async with asyncio.timeout(_MESSAGE_S):
                await self._send(message, delivery.address)
        except TimeoutError:
            raise Postponed(f"the mail server took over {_MESSAGE_S:g} s", ours=True) from None
        except aiosmtplib.SMTPException as error:
            raise _meaning(error) from None
        except OSError as error:
            why = _DISTRUSTED if distrusts(error) else "cannot be reached"
            raise Postponed(f"the mail server {why}", ours=True) from None

    async def _send(self, message: EmailMessage, address: str) -> None:
        connection = await self._connection()
        good = False
        try:
            await connection.sendmail(parseaddr(self._sender)[1], [address], message.as_bytes())
            good = True
        except (aiosmtplib.SMTPResponseException, aiosmtplib.SMTPRecipientsRefused):
            good = connection.is_connected  # it said no, and may be asked about others
            raise
        finally:
            if good and len(self._idle) < KEPT:
                self._idle.append((connection, _now() + KEPT_S))
            else:
                connection.close()

    async def _connection(self) -> SMTP:
        while self._idle:
            kept, until = self._idle.pop()
            if until < _now():
                kept.close()
                continue
            with suppress(aiosmtplib.SMTPException, OSError):
                await kept.noop()
                return kept
            kept.close()
        fresh = SMTP(**self._options)  # type: ignore[arg-type]
        await fresh.connect()
        return fresh


def _meaning(error: aiosmtplib.SMTPException) -> Postponed | Refused:
    """What the server's answer means; its text is not repeated, it may hold the address."""
    why = _DISTRUSTED if distrusts(error) else "cannot be reached"
    match error:
        case aiosmtplib.SMTPRecipientsRefused(recipients=[refused, *_]):
            return _refusal("its mailbox was refused", refused.code)
        case aiosmtplib.SMTPDataError():
            return _refusal("the message was refused", error.code)
        case aiosmtplib.SMTPAuthenticationError() | aiosmtplib.SMTPSenderRefused():
            why = f"does not let us send ({error.code})"
        case aiosmtplib.SMTPResponseException():
            why = f"answered {error.code}"
        case aiosmtplib.SMTPTimeoutError():
            why = "does not answer"
        case _ if type(error) in _UNSUPPORTED:
            why = "offers no TLS, or no login that we know"
    return Postponed(f"the mail server {why}", ours=True)


def _refusal(what: str, code: int) -> Postponed | Refused:
    return Refused(f"{what} ({code})") if code >= 500 else Postponed(f"{what} ({code})")


def _now() -> float:
    return asyncio.get_running_loop().time()


def _is_loopback(host: str) -> bool:
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


async def _quit(connection: SMTP) -> None:
    try:
        async with asyncio.timeout(1):
            await connection.quit()
    except (aiosmtplib.SMTPException, OSError, TimeoutError):
        connection.close()
