"""Identifiers: ULIDs for what we name, and the check of what callers bring."""

import re

from ulid import ULID

MAX_CORRELATION = 128
_ULID = re.compile(r"[0-7][0-9A-HJKMNP-TV-Z]{25}")
# Printable ASCII: safe in a header and in a log line.
_CORRELATION = re.compile(rf"[ -~]{{1,{MAX_CORRELATION}}}")


def new_id() -> str:
    """A fresh ULID: 26 characters, sorted by time of making."""
    return str(ULID())


def is_id(text: str) -> bool:
    """Whether ``text`` has the form of a ULID."""
    return _ULID.fullmatch(text) is not None


def correlation_id(*candidates: str | None) -> str:
    """The first candidate that is 1 to 128 printable characters, else a new ULID."""
    for candidate in candidates:
        if candidate and _CORRELATION.fullmatch(candidate):
            return candidate
    return new_id()
