"""Decompression within limits, and texts and JSON that say where they are broken."""

import gzip
import zlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

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
