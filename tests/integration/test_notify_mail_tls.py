"""E-mails over TLS: with a certificate that is trusted, with one that is not, and with none."""

import ssl
from pathlib import Path
from typing import Any

import pytest
from aiosmtpd.smtp import AuthResult

from control.stores.postgres import Database
from tests.certificates import Authority
from tests.mailroom import mail_server, room

NOT_TRUSTED = "the mail server has a certificate that is not trusted"
NO_TLS = "the mail server offers no TLS, or no login that we know"


@pytest.fixture
def authority(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Authority:
    """One that clients trust."""
    made = Authority.of(tmp_path, "localhost")
    monkeypatch.setenv("SSL_CERT_FILE", str(made.path))
    return made


async def sent(told: Database, url: str) -> list[tuple[str, str | None]]:
    """What becomes of one message to one subscriber."""
    async with room(told, DRAWBRIDGE_SMTP_URL=url) as made:
        await made.subscriber()
        await made.publish()
        await made.send()
        return await made.deliveries()


async def test_a_server_that_speaks_tls_from_the_first_byte(
    told: Database, authority: Authority
) -> None:
    async with mail_server(authority.server) as mails:
        assert await sent(told, mails.url) == [("sent", None)]
    assert mails.encrypted
    assert all(mails.encrypted)


async def test_tls_is_used_where_it_is_offered(told: Database, authority: Authority) -> None:
    async with mail_server(tls_context=authority.server) as mails:
        assert await sent(told, mails.url) == [("sent", None)]
    assert mails.encrypted
    assert all(mails.encrypted)


async def test_a_password_goes_over_tls_alone(told: Database, authority: Authority) -> None:
    logins = []

    def check(_server: Any, session: Any, _envelope: Any, _mechanism: str, data: Any) -> AuthResult:
        logins.append((session.ssl is not None, data.login, data.password))
        return AuthResult(success=True)

    options = {"authenticator": check, "auth_required": True, "tls_context": authority.server}
    async with mail_server(**options) as mails:
        url = mails.url.replace("//", "//us%65r:p%40ss@")
        assert await sent(told, url) == [("sent", None)]
    assert set(logins) == {(True, b"user", b"p@ss")}
    assert all(mails.encrypted)

    del logins[:]
    options = {"authenticator": check, "auth_require_tls": False}
    async with mail_server(**options) as mails:
        # A name that our code does not take for this machine's, though the resolver does.
        url = mails.url.replace("//localhost", "//user:pass@127.1")
        assert await sent(told, url) == [("sent", None), ("pending", NO_TLS)]
    assert (logins, mails.got) == ([], [])


@pytest.mark.parametrize("way", ["from the first byte", "offered"])
@pytest.mark.parametrize("fault", ["unknown authority", "another name"])
async def test_nothing_is_said_to_a_server_that_is_not_trusted(
    told: Database, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, way: str, fault: str
) -> None:
    authority = Authority.of(tmp_path, "elsewhere.example" if "name" in fault else "localhost")
    if "name" in fault:
        monkeypatch.setenv("SSL_CERT_FILE", str(authority.path))
    context: ssl.SSLContext = authority.server
    server = mail_server(context) if way != "offered" else mail_server(tls_context=context)
    async with server as mails:
        assert await sent(told, mails.url) == [("pending", NOT_TRUSTED)]
    assert mails.got == []
