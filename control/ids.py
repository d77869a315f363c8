"""Identifiers: ULIDs for what we name, and the check of what callers bring."""

import os
import re
import time

MAX_CORRELATION = 128
_ALPHABET = "0123456789ABCDEFGHJKMNPQRSTVWXYZ"  # Crockford's base 32
_PAIRS = [high + low for high in _ALPHABET for low in _ALPHABET]
_ULID = re.compile(r"[0-7][0-9A-HJKMNP-TV-Z]{25}")
# Printable ASCII: safe in a header and in a log line.
_CORRELATION = re.compile(rf"[ -~]{{1,{MAX_CORRELATION}}}")


def new_id() -> str:
    """A fresh ULID: 26 characters, sorted by time of making."""
    return id_at(time.time_ns() // 1_000_000, os.urandom(10))


def id_at(at_ms: int, rest: bytes = bytes(10)) -> str:
    """The ULID of a moment; without ``rest`` the first that can have been made then."""
    # Ten bits at a time are two characters. Written out: every job and every request has an id.
    p, a, b = _PAIRS, int.from_bytes(rest[:5]), int.from_bytes(rest[5:])
    return (
        f"{p[at_ms >> 40]}{p[at_ms >> 30 & 1023]}{p[at_ms >> 20 & 1023]}"
        f"{p[at_ms >> 10 & 1023]}{p[at_ms & 1023]}"
        f"{p[a >> 30]}{p[a >> 20 & 1023]}{p[a >> 10 & 1023]}{p[a & 1023]}"
        f"{p[b >> 30]}{p[b >> 20 & 1023]}{p[b >> 10 & 1023]}{p[b & 1023]}"
    )


def last_digit(ulid: str) -> int:
    """The number that its last character stands for, from 0 to 31; 0 for what is no ULID."""
    return max(0, _ALPHABET.find(ulid[-1:]))


def with_last_digit(ulid: str, remainder: int, divisor: int) -> str:
    """``ulid`` with the last digit changed so that it has ``remainder`` when divided by
    ``divisor``, 32 at most."""
    digit = last_digit(ulid)
    digit += remainder - digit % divisor
    return ulid[:-1] + _ALPHABET[digit if digit < len(_ALPHABET) else remainder]


def moment_ms(ulid: str) -> int:
    """When a ULID was made."""
    ms = 0
    for character in ulid[:10]:
        ms = ms * 32 + _ALPHABET.index(character)
    return ms


def is_id(text: str) -> bool:
    """Whether ``text`` has the form of a ULID."""
    return _ULID.fullmatch(text) is not None


def correlation_id(*candidates: str | None) -> str:
    """The first candidate that is 1 to 128 printable characters, else a new ULID."""
    for candidate in candidates:
        if candidate and _CORRELATION.fullmatch(candidate):
            return candidate
    return new_id()
