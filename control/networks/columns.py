"""How an arc is called where only its name travels: ``Lyon->Turin``, a second parallel one
``Lyon->Turin#2``.

Names are unambiguous: what could be taken for these signs in the id of a node is percent-encoded.
"""

import re

_WRITTEN = {"->": "%2D%3E", "#": "%23", "%": "%25"}
_READ = {written: sign for sign, written in _WRITTEN.items()}
_SIGN = re.compile("->|#|%(?=2D%3E|23|25)")
_PERCENT = re.compile("|".join(_READ))


def column(source: str, target: str, parallel: int = 1) -> str:
    """The name of the ``parallel``-th arc, counted from 1, from one node to another."""
    name = f"{_SIGN.sub(_write, source)}->{_SIGN.sub(_write, target)}"
    return name if parallel == 1 else f"{name}#{parallel}"


def ends(name: str) -> tuple[str, str]:
    """The two nodes of an arc by its name. Raises :class:`ValueError` for what is none."""
    source, arrow, rest = name.partition("->")
    if not arrow:
        raise ValueError(f"{name!r} names no arc")
    return _PERCENT.sub(_read, source), _PERCENT.sub(_read, rest.partition("#")[0])


def _write(sign: re.Match[str]) -> str:
    return _WRITTEN[sign[0]]


def _read(written: re.Match[str]) -> str:
    return _READ[written[0]]
