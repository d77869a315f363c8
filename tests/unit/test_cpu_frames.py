"""The frames between a worker and the process of a CPU-bound job."""

import contextlib
import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from worker.cpu.frames import HEADER, LONGEST, Decoder, FrameError, FrameType, header

FRAMES = st.lists(st.tuples(st.sampled_from(FrameType), st.binary(max_size=300)), max_size=8)


def pieces(stream: bytes, cuts: list[int]) -> list[bytes]:
    """``stream`` cut at ``cuts``, each taken modulo its length."""
    at = sorted({0, len(stream), *(cut % (len(stream) + 1) for cut in cuts)})
    return [stream[start:end] for start, end in itertools.pairwise(at)]


@given(FRAMES, st.lists(st.integers(min_value=0), max_size=20))
def test_frames_come_out_as_they_went_in_however_the_stream_is_cut(
    frames: list[tuple[FrameType, bytes]], cuts: list[int]
) -> None:
    stream = b"".join(header(kind, body) + body for kind, body in frames)
    decoder = Decoder()
    out = [frame for piece in pieces(stream, cuts) for frame in decoder.feed(piece)]
    assert out == frames
    assert decoder.pending == 0


@given(st.lists(st.binary(max_size=64), max_size=10))
def test_noise_is_refused_or_waited_on_and_nothing_else(noise: list[bytes]) -> None:
    decoder = Decoder()
    with contextlib.suppress(FrameError):
        for piece in noise:
            for kind, body in decoder.feed(piece):
                assert isinstance(kind, FrameType)
                assert isinstance(body, bytes)


def test_a_cut_stream_leaves_something_pending() -> None:
    decoder = Decoder()
    assert list(decoder.feed(header(FrameType.RESULT, b"12345") + b"123")) == []
    assert decoder.pending == HEADER.size + 3
    assert list(decoder.feed(b"45")) == [(FrameType.RESULT, b"12345")]


def test_an_unknown_type_is_refused() -> None:
    with pytest.raises(FrameError, match="no frame of type 99"):
        list(Decoder().feed(HEADER.pack(99, 0)))


def test_a_frame_that_is_too_long_is_refused_before_it_is_read() -> None:
    with pytest.raises(FrameError, match="claims to be"):
        list(Decoder().feed(HEADER.pack(FrameType.RESULT, LONGEST + 1)))


def test_a_long_body_takes_no_quadratic_time() -> None:
    body = bytes(32 << 20)
    decoder = Decoder()
    stream = header(FrameType.PAYLOAD, body) + body
    out = [f for at in range(0, len(stream), 4096) for f in decoder.feed(stream[at : at + 4096])]
    assert out == [(FrameType.PAYLOAD, body)]
