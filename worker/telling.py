"""What the code of a job says of itself, in a form that can always be stored and shown."""

import numbers
from typing import Any

import msgspec

LONGEST_MESSAGE = 500


def encoded(value: Any) -> bytes:
    """``value`` as JSON: numbers of other libraries as numbers, what JSON has no form for as text,
    halves of surrogate pairs as ``?``.

    Raises what its own code raises, and :class:`RecursionError` and :class:`ValueError` for what
    holds itself.
    """
    try:
        return msgspec.json.encode(value, enc_hook=_plain)
    except UnicodeEncodeError:
        import json  # noqa: PLC0415 - rare, and each job process would load it

        plain = msgspec.to_builtins(value, enc_hook=_plain)
        return _clean(json.dumps(plain, ensure_ascii=False, allow_nan=False))


def text(error: BaseException) -> str:
    """What an exception says; empty where it cannot be told."""
    try:
        return _clean(str(error)).decode()
    except Exception:  # its own code, too
        return ""


def message(error: BaseException) -> str:
    """The first line of it."""
    return text(error).strip().partition("\n")[0][:LONGEST_MESSAGE]


def _plain(value: Any) -> Any:
    if isinstance(value, numbers.Integral):
        return int(value)
    return float(value) if isinstance(value, numbers.Real) else str(value)


def _clean(said: str) -> bytes:
    return said.encode("utf-8", "replace")
