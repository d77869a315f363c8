"""Decompression within limits, and texts and JSON that say where they are broken."""

import gzip
import zlib
from enum import Enum
from typing import Annotated, Literal

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from control.errors import InvalidInput
from service import body
from service.problems import Problem
from service.submission import Terms


def inflate(data: bytes, *, limit: int = 1 << 20, encoding: str = "gzip", step: int = 7) -> bytes:
    inflater = body.Inflater(encoding, limit)
    parts = [inflater.feed(data[at : at + step]) for at in range(0, len(data), step)]
    inflater.finish()
    return b"".join(parts)


@given(st.binary(max_size=2000), st.integers(1, 300), st.integers(0, 40))
def test_any_gzip_in_any_pieces(data: bytes, step: int, padding: int) -> None:
    assert inflate(gzip.compress(data) + bytes(padding), step=step) == data


@given(st.lists(st.binary(max_size=200), min_size=1, max_size=5), st.integers(1, 50))
def test_members_follow_one_another(parts: list[bytes], step: int) -> None:
    assert inflate(b"".join(map(gzip.compress, parts)), step=step) == b"".join(parts)


@given(st.binary(max_size=2000), st.sampled_from([15, -15]), st.integers(1, 300))
def test_deflate_with_and_without_header(data: bytes, wbits: int, step: int) -> None:
    packer = zlib.compressobj(wbits=wbits)
    packed = packer.compress(data) + packer.flush()
    assert inflate(packed, encoding="deflate", step=step) == data


@given(st.binary(min_size=1, max_size=500), st.data())
def test_any_truncation_is_noticed(data: bytes, draw: st.DataObject) -> None:
    packed = gzip.compress(data)
    cut = draw.draw(st.integers(1, len(packed) - 1))
    with pytest.raises(Problem) as caught:
        inflate(packed[:cut])
    assert caught.value.status == 400


@pytest.mark.parametrize("size", [99, 100])
def test_up_to_the_limit(size: int) -> None:
    assert len(inflate(gzip.compress(bytes(size)), limit=100)) == size


@pytest.mark.parametrize("parts", [[101], [100, 1], [50, 50, 1]])
def test_over_the_limit(parts: list[int]) -> None:
    packed = b"".join(gzip.compress(bytes(size)) for size in parts)
    with pytest.raises(Problem) as caught:
        inflate(packed, limit=100)
    assert caught.value.status == 413


def test_a_million_empty_members_are_not_worth_unpacking() -> None:
    with pytest.raises(Problem) as caught:
        inflate(gzip.compress(b"") * 20_000, step=1 << 18)
    assert caught.value.status == 400


@pytest.mark.parametrize("tail", [b"x", b"\0x", gzip.compress(b"x", mtime=0)[:5]])
def test_what_follows_a_gzip_must_be_one(tail: bytes) -> None:
    with pytest.raises(Problem) as caught:
        inflate(gzip.compress(b"data") + tail)
    assert caught.value.status == 400


def test_text_says_where_it_is_broken() -> None:
    with pytest.raises(Problem) as caught:
        body.text(b"NAME\nROWS\n N \xffcost\n")
    assert caught.value.members == {"byte": 13, "line": 3}


def test_json_says_where_it_is_broken() -> None:
    with pytest.raises(Problem) as caught:
        body.json(b'{\n"priority": NaN}', Terms)
    assert caught.value.status == 400
    assert caught.value.members["line"] == 2


@pytest.mark.parametrize("text", [
    r"\ud800", r"\ud800 and more of it", r"\ud800\n", r"\ud800\u0041", r"\udc00", r"\uDFFF.",
    r"\ud83d\ude00\uDBFF",
])  # fmt: skip
def test_json_says_that_it_has_a_lone_surrogate(text: str) -> None:
    for field in ("unique", "unknown"):
        with pytest.raises(Problem) as caught:
            body.json(f'{{"{field}": "{text}"}}'.encode(), dict[str, str])
        assert caught.value.status == 400
        assert "lone surrogate" in caught.value.detail


@pytest.mark.parametrize("text", [r"\ud83d\ude00", r"\\ud800", "a", r"\u0041"])
def test_json_that_ends_too_soon_is_said_to(text: str) -> None:
    with pytest.raises(Problem) as caught:
        body.json(f'{{"unique": "{text}'.encode(), Terms)
    assert "truncated" in caught.value.detail


class Fruit(Enum):
    PEAR = "pear"
    APPLE = "apple"


class Basket(msgspec.Struct):
    one: Fruit | None = None
    many: list[Fruit] = []
    by_name: dict[str, Fruit] = {}
    size: Annotated[Literal["s", "m", 3], msgspec.Meta(title="Size")] = "m"
    inside: list["str | Basket"] = []
    pair: tuple[int, Fruit] = (0, Fruit.PEAR)


@pytest.mark.parametrize(("text", "where", "allowed"), [
    ('{"one": "high"}', "one", "pear, apple"),
    ('{"many": ["pear", "high"]}', "many[1]", "pear, apple"),
    ('{"by_name": {"x": "high"}}', "by_name[...]", "pear, apple"),
    ('{"size": "xl"}', "size", "3, m, s"),
    ('{"inside": ["x", {"inside": [{"one": "high"}]}]}', "inside[1].inside[0].one", "pear, apple"),
    ('{"pair": [1, "high"]}', "pair[1]", "pear, apple"),
])  # fmt: skip
def test_json_says_which_values_are_allowed(text: str, where: str, allowed: str) -> None:
    with pytest.raises(InvalidInput) as caught:
        body.json(text.encode(), Basket)
    assert caught.value.where == where
    assert str(caught.value).endswith(f"; allowed are {allowed}")
