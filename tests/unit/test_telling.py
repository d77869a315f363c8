"""What the code of jobs says of itself can always be stored."""

from decimal import Decimal
from fractions import Fraction
from typing import Any

import msgspec
import pytest

from worker import telling

HALF = "\ud800"


class Ratio(float):
    """As numbers of other libraries are: of a class of their own."""


class Mute(Exception):
    """Fails when it is asked."""

    def __str__(self) -> str:
        raise RuntimeError("not now")


@pytest.mark.parametrize(
    ("value", "told"),
    [
        ({"gap": Ratio(0.5), "of": Fraction(1, 4)}, {"gap": 0.5, "of": 0.25}),
        ({"cost": Decimal("1.5"), "at": 1j}, {"cost": "1.5", "at": "1j"}),
        ({"name": f"x{HALF}", HALF: [HALF]}, {"name": "x?", "?": ["?"]}),
        ({"name": HALF, "gap": Ratio(0.5)}, {"name": "?", "gap": 0.5}),
        ({"plain": [1, None, "ä"]}, {"plain": [1, None, "ä"]}),
    ],
)
def test_whatever_it_is_it_is_told(value: Any, told: Any) -> None:
    assert msgspec.json.decode(telling.encoded(value)) == told


def test_what_holds_itself_is_refused() -> None:
    ring: list[Any] = []
    ring.append(ring)
    with pytest.raises(RecursionError):
        telling.encoded(ring)


@pytest.mark.parametrize(
    ("error", "told"),
    [
        (ValueError("first\nsecond"), "first"), (ValueError(f"bad {HALF} name"), "bad ? name"),
        (Mute(), ""), (ValueError("y" * 900), "y" * 500), (KeyError(), ""),
    ],
)  # fmt: skip
def test_the_message_of_an_error(error: Exception, told: str) -> None:
    assert telling.message(error) == told
