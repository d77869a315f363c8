"""What a request says beside its body: query parameters and headers, decoded into types."""

import contextlib
import re
from datetime import UTC, datetime
from typing import Annotated, TypeVar

import msgspec
from aiohttp import web

from control.errors import InvalidInput
from control.flags.document import NOTHING, Position
from service.appkeys import TRACEPARENT
from worker.jobs.misfit import invalid

T = TypeVar("T", bound=msgspec.Struct)
Moment = Annotated[str, msgspec.Meta(extra_json_schema={"format": "date-time"})]
"""What :func:`moment` reads: msgspec's own would take bare numbers too, as epochs."""

MAX_IDEMPOTENCY_KEY = 255
_TAG = r'(?:W/)?"[!#-~\x80-\U0010ffff]*"'
_TAGS = re.compile(rf"[ \t,]*{_TAG}(?:[ \t]*,[ \t,]*{_TAG})*[ \t,]*")
_STRONG = re.compile(r'(W/)?"([^"]*)"')
_TRACEPARENT = re.compile(
    r"(?!ff)[0-9a-f]{2}-(?!0{32})[0-9a-f]{32}-(?!0{16})[0-9a-f]{16}-[0-9a-f]{2}(?:-.*)?"
)


class NoQuery(msgspec.Struct, forbid_unknown_fields=True):
    """Where the body says everything."""


def query(request: web.Request, kind: type[T]) -> T:
    """The query as ``kind``. Parameters that it does not know are ignored unless it forbids them.

    Raises :class:`InvalidInput` naming the parameter that is unknown, wrong or given twice.
    """
    given = dict(request.query)
    if not kind.__struct_config__.forbid_unknown_fields:
        given = {name: given[name] for name in kind.__struct_encode_fields__ if name in given}
    for name in given:
        if len(request.query.getall(name)) > 1:
            raise InvalidInput("is given more than once", name)
    try:
        return msgspec.convert(given, kind, strict=False)
    except msgspec.ValidationError as error:
        raise invalid(error, kind) from None


def idempotency_key(request: web.Request) -> str | None:
    """The header ``Idempotency-Key``, if it is there. Raises :class:`InvalidInput`."""
    key = request.headers.get("Idempotency-Key")
    if key is not None and not (1 <= len(key) <= MAX_IDEMPOTENCY_KEY and key.isprintable()):
        raise InvalidInput(
            f"must be 1 to {MAX_IDEMPOTENCY_KEY} printable characters", "Idempotency-Key"
        )
    return key


def if_match(request: web.Request, held: Position) -> Position | None:
    """Where the flags must stand by the header ``If-Match``; ``None`` without it, and for ``*``.

    Of several positions it is ``held``, where they stand as far as this instance knows, else the
    newest: a command can expect one only. Tags that none of ours can equal by strong comparison
    (RFC 9110, 8.8.3.2) make it the position of no document, so that the change comes to be a
    conflict like any other. Raises :class:`InvalidInput` for what is no list of entity tags.
    """
    header = ", ".join(request.headers.getall("If-Match", ["*"])).strip()
    if header == "*":
        return None
    if not _TAGS.fullmatch(header):
        raise InvalidInput('must be an ETag such as "1763700000000.41", or *', "If-Match")
    named = {_position(tag) for weak, tag in _STRONG.findall(header) if not weak}
    return held if held in named else max(named, default=NOTHING.position)


def _position(tag: str) -> Position:
    """What an entity tag names: to the letter, or nothing."""
    with contextlib.suppress(ValueError):
        position = Position.parse(tag)
        if str(position) == tag:
            return position
    return NOTHING.position


def traceparent(request: web.Request) -> str | None:
    """What names the request's span, or else whose it is part of: the header ``traceparent`` if it
    has the form that W3C Trace Context gives it.

    A wrong one is ignored, as the recommendation asks, never an error.
    """
    own: str | None = request.get(TRACEPARENT)
    if own is not None:
        return own
    header = request.headers.get("traceparent", "")
    if len(header) > 512 or not _TRACEPARENT.fullmatch(header):
        return None
    return header if len(header) == 55 or not header.startswith("00") else None


def moment_ms(text: str, where: str) -> int:
    """Milliseconds since 1970 of an RFC 3339 time with a zone. Raises :class:`InvalidInput`."""
    return int(moment(text, where).timestamp() * 1000)


def moment(text: str, where: str) -> datetime:
    """An RFC 3339 time with a zone, in UTC. Raises :class:`InvalidInput`."""
    wrong = InvalidInput("must be an RFC 3339 time with a zone, as 2026-11-21T03:04:05Z", where)
    try:
        found = msgspec.convert(text, datetime)
        if found.tzinfo is None:
            raise wrong
        return found.astimezone(UTC)
    except (msgspec.ValidationError, OverflowError):
        raise wrong from None


def below(error: InvalidInput, path: str) -> InvalidInput:
    """``error`` as seen from outside, where what it looked at is called ``path``."""
    message = str(error).removeprefix(f"{error.where}: ")
    where = f"{path} {error.where}" if error.where.startswith("line ") else f"{path}.{error.where}"
    return InvalidInput(message, where.rstrip("."))
