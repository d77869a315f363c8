"""How one setting is declared, read from text, and shown without its secrets."""

import re
from collections.abc import Callable
from dataclasses import dataclass, field
from email.utils import formataddr, parseaddr
from ipaddress import ip_network
from typing import Any
from urllib.parse import urlsplit

from control.webhooks.signature import key_of

_SIZE = re.compile(r"(\d+)\s*(B|KiB|MiB|GiB|K|M|G)?", re.IGNORECASE)
_SIZE_UNIT = {"": 1, "b": 1, "k": 1 << 10, "m": 1 << 20, "g": 1 << 30}
_SERVICE = re.compile(r"([a-z][a-z0-9_-]{0,31})|([a-z][a-z0-9_-]{0,31}=)?(?P<url>https?://[^/]\S*)")
_BEARER = re.compile(r"[!-~]+")
_RATE = re.compile(r"[1-9]\d{0,8}/[smh](?::[1-9]\d{0,8})?")
_USERINFO = re.compile(r"(?<=://)([^\s:/@]*)(:\S*)?@")
_PASSWORD_PARAM = re.compile(r"((?:password|passwd|pwd|token|secret)=)[^&\s]+", re.IGNORECASE)


@dataclass(frozen=True)
class Setting:
    """One setting: its environment variable, what it means and how its text is read."""

    env: str
    help: str
    parse: Callable[[str], Any]
    secret: bool


def setting(
    env: str,
    default: Any,
    summary: str,
    parse: Callable[[str], Any] = str,
    *,
    secret: bool = False,
) -> Any:
    """A dataclass field that is read from the environment variable ``env``.

    ``parse`` turns the text into the value and raises :class:`ValueError` with a reason that
    completes the sentence "NAME: …".
    """
    return field(default=default, metadata={"setting": Setting(env, summary, parse, secret)})


def masked(value: Any, *, secret: bool) -> str:
    """The value as it may be shown: secrets as ``***``, passwords inside URLs too."""
    text = str(value)
    if secret:
        return "***" if text else ""
    text = _USERINFO.sub(lambda m: f"{m[1]}:***@" if m[2] else f"{m[1]}@", text)
    return _PASSWORD_PARAM.sub(r"\1***", text)


def flag(text: str) -> bool:
    """``true``/``false`` in the spellings that people use."""
    match text.strip().lower():
        case "1" | "true" | "yes" | "on":
            return True
        case "0" | "false" | "no" | "off":
            return False
    raise ValueError(f"must be true or false, not {text!r}")


def number(low: float, high: float, unit: str = "") -> Callable[[str], float]:
    """A number from ``low`` to ``high``."""

    def parse(text: str) -> float:
        try:
            value = float(text)
        except ValueError:
            value = float("nan")
        if not low <= value <= high:
            what = f" of {unit}" if unit else ""
            raise ValueError(f"must be a number{what} from {low:g} to {high:g}, not {text!r}")
        return value

    return parse


def whole(low: int, high: int) -> Callable[[str], int]:
    """A whole number from ``low`` to ``high``."""

    def parse(text: str) -> int:
        if not re.fullmatch(r"-?\d{1,18}", text.strip()) or not low <= int(text) <= high:
            raise ValueError(f"must be a whole number from {low} to {high}, not {text!r}")
        return int(text)

    return parse


def size(text: str) -> int:
    """Bytes: ``33554432``, ``32MiB``, ``64 KiB``."""
    match = _SIZE.fullmatch(text.strip())
    if match is None:
        raise ValueError(f"must be a size such as 33554432 or 32MiB, not {text!r}")
    return int(match[1]) * _SIZE_UNIT[(match[2] or "")[:1].lower()]


def one_of(*choices: str) -> Callable[[str], str]:
    """One of a few words."""

    def parse(text: str) -> str:
        if text not in choices:
            raise ValueError(f"must be one of {', '.join(choices)}, not {text!r}")
        return text

    return parse


def url(*schemes: str) -> Callable[[str], str]:
    """A URL with one of the schemes; the message never repeats the text, it may hold a password."""

    def parse(text: str) -> str:
        try:
            scheme = urlsplit(text).scheme
        except ValueError:
            scheme = ""
        if scheme not in schemes:
            starts = " or ".join(f"{scheme}://" for scheme in schemes)
            raise ValueError(f"must be a URL that starts with {starts}")
        return text

    return parse


def http_url(text: str) -> str:
    """The URL of a service; the message does not repeat it, it may hold a password."""
    try:
        parts = urlsplit(text)
        good = parts.scheme in ("http", "https") and parts.hostname and parts.port != 0
    except ValueError:  # a port that is none, or half an IPv6 address
        good = False
    if not good or not text.isprintable() or " " in text:
        raise ValueError("must be an http(s) URL such as http://127.0.0.1:8080")
    return text


def words(text: str) -> tuple[str, ...]:
    """Words divided by commas or blanks."""
    return tuple(text.replace(",", " ").split())


def names(text: str) -> tuple[str, ...]:
    """Names in small letters, digits and underscores, divided by commas or blanks."""
    found = words(text)
    for name in found:
        if re.fullmatch(r"[a-z][a-z0-9_]{0,62}", name) is None:
            raise ValueError(f"must be names such as beta_search, not {name!r}")
    return found


def path(text: str) -> str:
    """The path of a URL, without a slash at its end."""
    if re.fullmatch(r"(/[A-Za-z0-9._~-]+)+/?", text) is None:
        raise ValueError(f"must be a path such as /status/v1, not {text!r}")
    return text.rstrip("/")


def secret_text(least: int) -> Callable[[str], str]:
    """A secret of at least ``least`` characters; the message does not repeat it."""

    def parse(text: str) -> str:
        if len(text) < least:
            raise ValueError(f"must be at least {least} characters long")
        return text

    return parse


def secrets_text(least: int) -> Callable[[str], tuple[str, ...]]:
    """One secret of at least ``least`` characters or several, divided by commas or blanks."""
    one = secret_text(least)

    def parse(text: str) -> tuple[str, ...]:
        return tuple(one(secret) for secret in words(text))

    return parse


def tokens(least: int) -> Callable[[str], str]:
    """One secret of at least ``least`` characters, or several with blanks between them: the first
    is the one to use, the others are good as well. None is repeated."""

    def parse(text: str) -> str:
        if any(len(one) < least for one in text.split()):
            raise ValueError(f"must be at least {least} characters long; blanks divide several")
        return text

    return parse


def bearer(text: str) -> str:
    """A token that can be sent as ``Authorization: Bearer …``; the message does not repeat it."""
    if _BEARER.fullmatch(text) is None:
        raise ValueError("cannot be sent in a header: it must be printable ASCII without blanks")
    return text


def bearers(least: int) -> Callable[[str], str]:
    """As :func:`tokens`, of those that callers send."""
    read = tokens(least)

    def parse(text: str) -> str:
        for one in text.split():
            bearer(one)
        return read(text)

    return parse


def rate(text: str) -> str:
    """``600/m``, ``10/s``, ``5000/h``, or with how many may come at once ``600/m:50``."""
    if _RATE.fullmatch(text) is None:
        raise ValueError(f"must be such as 600/m, 10/s or 5000/h:200, not {text!r}")
    return text


def mailbox(text: str) -> str:
    """An e-mail address, with or without a name before it."""
    name, address = parseaddr(text)
    if not text.isprintable() or re.fullmatch(r"[!-~]+@[!-~]+\.[!-~]+", address) is None:
        raise ValueError(f"must be such as Status <status@example.org>, not {text!r}")
    return formataddr((name, address))


def webhook_secrets(text: str) -> tuple[str, ...]:
    """One secret ``whsec_…`` or several, divided by commas or blanks; none is repeated."""
    found = words(text)
    for secret in found:
        key_of(secret)
    return found


def networks(text: str) -> tuple[str, ...]:
    """Networks such as ``10.0.0.0/8`` or ``::1``, divided by commas or blanks."""
    found = words(text)
    for network in found:
        try:
            ip_network(network)
        except ValueError:
            raise ValueError(f"must be networks such as 10.0.0.0/8, not {network!r}") from None
    return found


def shares(text: str) -> tuple[str, ...]:
    """``kind=number``, divided by commas or blanks; numbers from 1."""
    found = words(text)
    for entry in found:
        if re.fullmatch(r"[a-z][a-z0-9_.-]{0,63}=[1-9]\d{0,8}", entry) is None:
            raise ValueError(f"must be such as optimize=2,report=1, not {entry!r}")
    return found


def services(text: str) -> tuple[str, ...]:
    """``name``, ``name=URL`` or a URL, divided by commas or blanks.

    A URL may hold no password; the message does not repeat it.
    """
    found = words(text)
    for entry in found:
        match = _SERVICE.fullmatch(entry)
        if match is None:
            raise ValueError("must be names, name=URL or URLs, such as stripe,shop=https://a.b/up")
        if match["url"] and "@" in urlsplit(match["url"]).netloc:
            raise ValueError("must be URLs without a user and password")
    return found
