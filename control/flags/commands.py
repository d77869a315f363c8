"""Commands: the only way in which a flag changes, and the pure rule of how it does."""

import hashlib
import re
from datetime import UTC, datetime
from typing import Any, Literal

import msgspec
from ulid import ULID

from control import ids
from control.errors import InvalidInput
from control.flags.document import Flag, Mode, Position

MAX_BYTES = 8 << 10
"""The largest command that is read at all."""

MAX_REASON = 500
MAX_ACTOR = 200

Verb = Literal["toggle", "set", "reset"]
_NAME = re.compile(r"[a-z][a-z0-9_]{0,62}")


class BadCommand(InvalidInput):
    """What came over the channel is no command; it is logged and dropped."""


class Command(msgspec.Struct, frozen=True, kw_only=True):
    """One wish to change one flag. ``id`` (a ULID) makes it idempotent: it is granted once.

    ``expected_version`` and ``expected_epoch`` refuse it where the flags have changed meanwhile.
    """

    v: int
    id: str
    command: Verb
    flag: str
    value: bool | None = None
    actor: str = "unknown"
    reason: str | None = None
    until: datetime | None = None
    mode: Mode | None = None
    expected_version: int | None = None
    expected_epoch: int | None = None
    request_id: str | None = None

    def digest(self) -> bytes:
        """SHA-256 of what is asked: two commands of one id must ask for the same."""
        asked = msgspec.structs.replace(self, id="", request_id=None)
        return hashlib.sha256(msgspec.json.encode(asked)).digest()

    def attempt(self) -> str:
        """Names this sending of the command: its copies share it, a later request does not."""
        return hashlib.sha256(msgspec.json.encode(self)).hexdigest()[:16]


_DECODER = msgspec.json.Decoder(Command)


def parse(data: bytes) -> Command:
    """The command in a message. Raises :class:`BadCommand`, whatever the bytes are."""
    if len(data) > MAX_BYTES:
        raise BadCommand(f"is {len(data)} bytes long, more than {MAX_BYTES}")
    try:
        command = _DECODER.decode(data)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise BadCommand(str(error)) from None
    try:
        return _checked(command)
    except InvalidInput as error:
        raise BadCommand(str(error)) from None


def new(
    command: Verb,
    flag: str,
    *,
    actor: str,
    id: str | None = None,  # noqa: A002 - the contract's name
    value: bool | None = None,
    reason: str | None = None,
    until: datetime | None = None,
    mode: Mode | None = None,
    expected: Position | None = None,
    request_id: str | None = None,
) -> Command:
    """A command of our own making. Raises :class:`InvalidInput` that names the field."""
    return _checked(
        Command(
            v=1,
            id=id or ids.new_id(),
            command=command,
            flag=flag,
            value=value,
            actor=actor,
            reason=reason,
            until=until,
            mode=mode,
            expected_version=expected.version if expected else None,
            expected_epoch=expected.epoch if expected else None,
            request_id=request_id,
        )
    )


def encode(command: Command) -> bytes:
    """The command as it is published."""
    return msgspec.json.encode(command)


def id_of_key(actor: str, key: str) -> str:
    """The command id that an Idempotency-Key stands for: same caller and key, same command."""
    digest = hashlib.sha256(f"{actor}\0{key}".encode("utf-8", "surrogatepass")).digest()
    return str(ULID(digest[:16]))


def changed(flag: Flag, command: Command, now: datetime) -> Flag:
    """The flag after ``command``; the same object where the command changes nothing.

    A reset switches off. A set repeats harmlessly: where nothing would differ, nothing changes.
    """
    active = {"toggle": not flag.is_active, "set": bool(command.value), "reset": False}
    wanted = active[command.command]
    after = Flag(
        is_active=wanted,
        changed_at=flag.changed_at,
        changed_by=flag.changed_by,
        reason=command.reason,
        until=command.until if wanted else None,
        mode=(command.mode or "full") if wanted else "full",
    )
    same = after == flag if wanted else not flag.is_active
    if same:
        return flag
    return msgspec.structs.replace(after, changed_at=now, changed_by=command.actor)


def _checked(command: Command) -> Command:
    """The command, every field looked at. Raises :class:`InvalidInput`."""
    if command.v != 1:
        raise InvalidInput(f"version {command.v} is not known here", "v")
    if not ids.is_id(command.id):
        raise InvalidInput("is not a ULID", "id")
    if _NAME.fullmatch(command.flag) is None:
        raise InvalidInput("is not the name of a flag", "flag")
    if (command.command == "set") is not (command.value is not None):
        needed = "is needed by set" if command.command == "set" else "belongs to set only"
        raise InvalidInput(needed, "value")
    _text(command.actor, "actor", MAX_ACTOR)
    if not command.actor:
        raise InvalidInput("is empty", "actor")
    _text(command.reason, "reason", MAX_REASON)
    _text(command.request_id, "request_id", ids.MAX_CORRELATION)
    for name in ("expected_version", "expected_epoch"):
        number: Any = getattr(command, name)
        if number is not None and not 0 <= number < 1 << 62:
            raise InvalidInput("is out of range", name)
    if command.until is None:
        return command
    if command.until.tzinfo is None:
        raise InvalidInput("has no time zone", "until")
    try:
        return msgspec.structs.replace(command, until=command.until.astimezone(UTC))
    except OverflowError:
        raise InvalidInput("is out of range", "until") from None


def _text(text: str | None, where: str, longest: int) -> None:
    """Any language, but nothing that a log line or a terminal would obey."""
    if text is None:
        return
    if len(text) > longest:
        raise InvalidInput(f"is longer than {longest} characters", where)
    if not all(character.isprintable() for character in text):
        raise InvalidInput("holds characters that cannot be printed", where)
