"""All flags as one small document, ordered by its position ``(epoch, version)``."""

import re
from datetime import datetime
from typing import Any, Literal, NamedTuple, Self

import msgspec

MAINTENANCE = "app_maintenance"
"""While it is on, the bridge is up: nothing is accepted, nothing is claimed."""

INGESTION = "app_data_ingestion"
"""On while a network is loaded."""

DECLARED = (MAINTENANCE, INGESTION)
"""The flags that every installation has; the configuration may declare more."""

Mode = Literal["full", "read_only"]

_POSITION = re.compile(r"(\d{1,18})\.(\d{1,18})")
_ON = frozenset({"1", "true", "on", "yes", "t", "y"})
_OFF = frozenset({"", "0", "false", "off", "no", "f", "n", "none", "null"})


class Flag(msgspec.Struct, frozen=True, kw_only=True):
    """One switch, and who moved it last. Times are aware, in UTC.

    ``until`` is when the operator expects to switch it off: an announcement, not a timer.
    ``mode`` means something for maintenance only: with ``read_only``, GET and HEAD still pass.
    """

    is_active: bool = False
    changed_at: datetime | None = None
    changed_by: str | None = None
    reason: str | None = None
    until: datetime | None = None
    mode: Mode = "full"


INACTIVE = Flag()


class Position(NamedTuple):
    """Where a document stands in the order of changes; a later one compares greater.

    ``epoch`` is milliseconds since 1970 at the making of the database (or the renewal of the
    order, after a backup came back); ``version`` counts the changes within it.
    """

    epoch: int
    version: int

    def __str__(self) -> str:
        return f"{self.epoch}.{self.version}"

    @classmethod
    def parse(cls, text: str) -> Self:
        """From ``epoch.version``. Raises :class:`ValueError`."""
        form = _POSITION.fullmatch(text)
        if form is None:
            raise ValueError(f"{text!r} is not a position such as 1763700000000.41")
        return cls(int(form[1]), int(form[2]))


class Document(msgspec.Struct, frozen=True):
    """Every flag by name. The whole of it travels each time, so that no gap can last."""

    epoch: int
    version: int
    flags: dict[str, Flag]

    @property
    def position(self) -> Position:
        """Its place in the order of changes."""
        return Position(self.epoch, self.version)

    def flag(self, name: str) -> Flag:
        """The flag, inactive where the document does not have it."""
        return self.flags.get(name, INACTIVE)

    def is_active(self, name: str) -> bool:
        """Whether the flag is on."""
        return self.flag(name).is_active


NOTHING = Document(0, 0, {})
"""What an instance holds before it knows anything; older than every real document."""

_DECODER = msgspec.json.Decoder(Document)


def encode(document: Document) -> bytes:
    """The document as JSON."""
    return msgspec.json.encode(document)


def decode(data: bytes) -> Document:
    """The document from JSON. Raises :class:`msgspec.DecodeError`."""
    return _DECODER.decode(data)


def redis_value_to_bool(value: Any) -> bool | None:
    """The boolean that a value in Redis means, whoever wrote it; ``None`` where it means none.

    ``"False"``, ``"0"``, ``"off"``, ``b"true"``, ``1``: the scripts of the job engine read the
    same way (``worker/jobs/lua/records.lua``).
    """
    if isinstance(value, bool):
        return value
    if isinstance(value, int | float):
        return value != 0
    if isinstance(value, bytes):
        value = value.decode("utf-8", "replace")
    if not isinstance(value, str):
        return None
    word = value.strip().strip("\"'").lower()
    if word in _ON:
        return True
    return False if word in _OFF else None
