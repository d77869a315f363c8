"""Texts as long as an SMS may be.

A message of several segments has 153 characters in each while all are of the GSM alphabet (3GPP
TS 23.038, 6.2.1; some count twice), and 67 UTF-16 units once a single one is not.
"""

SEGMENTS = 3
"""As many as one message may cost, unless its links alone are longer."""

_BASIC = frozenset(
    "@£$¥èéùìòÇ\nØø\rÅåΔ_ΦΓΛΩΠΨΣΘΞÆæßÉ !\"#¤%&'()*+,-./0123456789:;<=>?"
    "¡ABCDEFGHIJKLMNOPQRSTUVWXYZÄÖÑÜ§¿abcdefghijklmnopqrstuvwxyzäöñüà"
)
_EXTENDED = frozenset("^{}\\[~]|€")
_SINGLE, _EACH = {True: 160, False: 70}, {True: 153, False: 67}
_CUT = "..."
_ALIKE = str.maketrans({"‘": "'", "’": "'", "“": '"', "”": '"', "–": "-", "—": "-", "…": _CUT,
                        "\N{NO-BREAK SPACE}": " "})  # fmt: skip


def fit(said: str, link: str) -> str:
    """``said``, cut where it must be, and ``link`` whole."""
    said = said.translate(_ALIKE)
    plain = is_plain(said + link)
    room = SEGMENTS * _EACH[plain] - length(f" {link}", plain=plain)
    if length(said, plain=plain) > room:
        room -= len(_CUT)
        kept = []
        for character in said:
            room -= length(character, plain=plain)
            if room < 0:
                break
            kept.append(character)
        said = "".join(kept).rstrip() + _CUT if kept else ""
    return f"{said} {link}".strip()


def is_plain(text: str) -> bool:
    """Whether every character is of the GSM alphabet."""
    return all(each in _BASIC or each in _EXTENDED for each in text)


def length(text: str, *, plain: bool) -> int:
    """How much ``text`` takes: septets of the GSM alphabet, or UTF-16 units."""
    if plain:
        return len(text) + sum(each in _EXTENDED for each in text)
    return len(text.encode("utf-16-le")) // 2


def segments(text: str) -> int:
    """How many segments ``text`` is sent in."""
    plain = is_plain(text)
    units = length(text, plain=plain)
    return 1 if units <= _SINGLE[plain] else -(-units // _EACH[plain])
