"""The ways to reach a subscriber, and how their addresses are written."""

import re
from enum import StrEnum

from control.errors import InvalidInput
from control.webhooks import destinations

_FIELD = "address"
_LONGEST_EMAIL, _LONGEST_LOCAL, _LONGEST_LABEL = 254, 64, 63
# The dot-atom of RFC 5322. What may stand within quotes is allowed too, and used by nobody.
_LOCAL = re.compile(r"[A-Za-z0-9!#$%&'*+/=?^_`{|}~-]+(?:\.[A-Za-z0-9!#$%&'*+/=?^_`{|}~-]+)*")
_LABEL = re.compile(r"[a-z0-9](?:[a-z0-9-]*[a-z0-9])?")
_PHONE = re.compile(r"\+[1-9][0-9]{6,14}")
_SPACING = re.compile(r"[\s().\-/\u2010-\u2015]+")


class Channel(StrEnum):
    """How somebody is told."""

    EMAIL = "email"
    SMS = "sms"
    WEBHOOK = "webhook"

    def normal(self, address: str) -> str:
        """``address`` as it is kept and sent to.

        Raises :class:`InvalidInput`, which does not repeat it.
        """
        match self:
            case Channel.EMAIL:
                return _email(address.strip(" "))
            case Channel.SMS:
                return _phone(address)
        return _url(address.strip(" "))

    def identity(self, address: str) -> str:
        """What two spellings of one address have in common. By the letter of RFC 5321 capitals
        may part two mailboxes; they never do."""
        return address.lower() if self is Channel.EMAIL else address

    def masked(self, address: str) -> str:
        """``address`` as operators may see it: enough to tell two apart."""
        match self:
            case Channel.EMAIL:
                local, _, domain = address.rpartition("@")
                return f"{local[:1]}***@{domain}"
            case Channel.SMS:
                return f"{address[:3]}***{address[-2:]}"
        return f"{destinations.parsed(address).origin()}/***"


def _email(address: str) -> str:
    local, at, domain = address.rpartition("@")
    if not at or not local or not domain:
        raise InvalidInput("must be an address such as ada@example.org", _FIELD)
    if not local.isascii():
        raise InvalidInput("may have other than ASCII characters only after the @", _FIELD)
    try:
        labels = [_ascii(label) for label in domain.split(".")]
    except UnicodeError:
        labels = []
    host = ".".join(labels)
    good = len(labels) > 1 and all(map(_LABEL.fullmatch, labels)) and not labels[-1].isdigit()
    if not good or _LOCAL.fullmatch(local) is None:
        raise InvalidInput("is no e-mail address that can be reached", _FIELD)
    if len(local) > _LONGEST_LOCAL or len(local) + 1 + len(host) > _LONGEST_EMAIL:
        raise InvalidInput(f"is longer than {_LONGEST_EMAIL} characters", _FIELD)
    return f"{local}@{host}"


def _ascii(label: str) -> str:
    made = label.lower() if label.isascii() else label.encode("idna").decode()
    if len(made) > _LONGEST_LABEL:
        raise UnicodeError
    return made


def _phone(address: str) -> str:
    number = _SPACING.sub("", address)
    if number.startswith("00"):
        number = "+" + number[2:]
    if _PHONE.fullmatch(number) is None:
        raise InvalidInput("must be a number with its country, such as +49 151 23456789", _FIELD)
    return number


def _url(address: str) -> str:
    if not address.isprintable():
        raise InvalidInput("holds characters that cannot be printed", _FIELD)
    try:
        return str(destinations.parsed(address).with_fragment(None))
    except ValueError as error:
        raise InvalidInput(str(error), _FIELD) from None
