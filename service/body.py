"""Bodies of requests, read within limits.

aiohttp is told to leave bodies as they were sent (``auto_decompress=False``): its own decompression
knows no limit of the whole and takes a truncated gzip for complete. Decompression happens here, in
a thread, a block at a time, and stops at the first byte over the limit; so neither a bomb nor a
large model holds up the loop.
"""

import asyncio
import re
import zlib
from collections.abc import AsyncIterator, Awaitable, Sequence
from typing import TypeVar

import msgspec
from aiohttp import HttpVersion11, web

from service.appkeys import ENTRANCE
from service.problems import MALFORMED, OTHER, TOO_LARGE, TOO_SLOW, UNSUPPORTED, Problem
from worker.jobs.misfit import invalid

T = TypeVar("T")
ENCODINGS = ("gzip", "deflate")
SLOWEST = 16 << 10
"""Bytes a second at which a body of any size is still read to its end."""

REFUSALS = (MALFORMED, TOO_SLOW, TOO_LARGE, UNSUPPORTED)
"""How any body may be refused."""

_BLOCK = 256 << 10
_MAX_MEMBERS = 10_000
_LONE = re.compile(rb"(?<!\\)\\u[dD][89abAB][0-9a-fA-F]{2}(?!\\u)")
"""The first half of a surrogate pair, escaped, without a second one."""
_GZIP_WINDOW = 16 + zlib.MAX_WBITS


async def read(request: web.Request, *, max_body: int) -> bytes:
    """The whole body, decompressed. ``max_body`` bytes bound it before and after decompression.

    Raises :class:`Problem`: 400 empty or broken, 408 too slow, 413 too large, 415 unknown encoding.
    """
    body = b"".join([block async for block in stream(request, max_body=max_body)])
    if not body:
        raise Problem(MALFORMED, "The body is empty.")
    return body


async def stream(request: web.Request, *, max_body: int) -> AsyncIterator[bytes]:
    """The body in blocks, decompressed, none of which is kept here. Raises as :func:`read` does."""
    inflater = _inflater(request, max_body)
    await begin(request, max_body=max_body)
    received = 0
    async for block in _blocks(request):
        received += len(block)
        if received > max_body:
            raise too_large(max_body)
        yield await asyncio.to_thread(inflater.feed, block) if inflater else block
    if inflater and received:
        inflater.finish()


async def begin(request: web.Request, *, max_body: int) -> None:
    """Have the client send the body. Raises :class:`Problem` 413 where it says it is larger."""
    if request.content_length is not None and request.content_length > max_body:
        raise too_large(max_body)
    await _invite(request)


def media_type(request: web.Request, accepted: Sequence[str]) -> str:
    """The body's media type, one of ``accepted``. Raises :class:`Problem` 415."""
    named = request.content_type if "Content-Type" in request.headers else "none"
    if named not in accepted:
        raise Problem(
            UNSUPPORTED,
            f"Content-Type is {named}; accepted are {', '.join(accepted)}.",
            {"accepted": list(accepted)},
            {"Accept-Post": ", ".join(accepted)},
        )
    if (request.charset or "utf-8").lower() not in ("utf-8", "utf8", "us-ascii"):
        raise Problem(
            UNSUPPORTED, "The charset must be utf-8.", {"accepted": [f"{named}; charset=utf-8"]}
        )
    return named


def text(body: bytes) -> str:
    """The body as UTF-8. Raises :class:`Problem` 400 with the line and the byte."""
    try:
        return body.decode("utf-8")
    except UnicodeDecodeError as error:
        raise Problem(
            MALFORMED,
            f"The body is not UTF-8: byte {error.start}, in line {_line(body, error.start)}.",
            {"byte": error.start, "line": _line(body, error.start)},
        ) from None


def json(body: bytes, kind: type[T]) -> T:
    """The JSON body as ``kind``.

    Raises :class:`Problem` 400 for what is not JSON, and
    :class:`control.errors.InvalidInput` naming the field for what does not fit ``kind``.
    """
    try:
        return msgspec.json.decode(body, type=kind)
    except msgspec.ValidationError as error:
        raise invalid(error, kind) from None
    except UnicodeDecodeError:
        text(body)  # raises, with the place in the whole body
        raise
    except msgspec.DecodeError as error:
        raise _not_json(body, str(error)) from None
    except RecursionError:
        raise Problem(
            MALFORMED, "The body is not JSON that can be read: nested too deep."
        ) from None


def too_large(limit: int) -> Problem:
    """The 413 that names the limit; the connection ends, as the rest of the body is unwanted."""
    return Problem(TOO_LARGE, f"The body is over the limit of {limit} bytes.", {"limit": limit})


def _too_slow(size: int) -> Problem:
    """The 408; the connection ends, as the rest may never come."""
    return Problem(
        TOO_SLOW, f"Only {size} bytes of the body came in time.", headers={"Connection": "close"}
    )


class Patience:
    """How long a client is waited for: ``within_s`` in all, and a second more for every
    :data:`SLOWEST` bytes that came. What we do between them does not count."""

    def __init__(self, request: web.Request) -> None:
        self._size = 0
        self._left_s = request.app[ENTRANCE].body_s

    async def of(self, coming: Awaitable[T]) -> T:
        """What comes next. Raises :class:`Problem` 408."""
        loop = asyncio.get_running_loop()
        began = loop.time()
        try:
            async with asyncio.timeout(max(0.0, self._left_s)):
                return await coming
        except TimeoutError:
            raise _too_slow(self._size) from None
        finally:
            self._left_s -= loop.time() - began

    def add(self, piece: bytes) -> bytes:
        """``piece``, which came."""
        self._size += len(piece)
        self._left_s += len(piece) / SLOWEST
        return piece


class Inflater:
    """Decompresses one body, in pieces, to at most ``limit`` bytes."""

    def __init__(self, encoding: str, limit: int) -> None:
        self._gzip = encoding == "gzip"
        self._encoding = encoding
        self._limit = limit
        self._stream = zlib.decompressobj(_GZIP_WINDOW) if self._gzip else None
        self._members = 1
        self._size = 0

    def feed(self, data: bytes) -> bytes:
        """What ``data`` decompresses to. Raises :class:`Problem` 413 and 400."""
        pieces: list[bytes] = []
        while data:
            stream = self._next_stream(data)
            if stream is None:
                break
            try:
                piece = stream.decompress(data, self._limit - self._size + 1)
            except zlib.error:
                raise self._broken("is corrupt") from None
            self._size += len(piece)
            if self._size > self._limit:
                raise too_large(self._limit)
            pieces.append(piece)
            data = stream.unused_data or stream.unconsumed_tail
        return b"".join(pieces)

    def finish(self) -> None:
        """Say that the body is over. Raises :class:`Problem` 400 if it was cut off."""
        if self._stream is None or not self._stream.eof:
            raise self._broken("ends before it is complete")

    def _next_stream(self, data: bytes) -> "zlib._Decompress | None":
        """The stream that ``data`` belongs to; ``None`` for the zeros that may pad a gzip file."""
        if self._stream is None:  # deflate comes with a zlib header by RFC 9110, without by habit
            wrapped = data[0] & 0x0F == 8
            self._stream = zlib.decompressobj(zlib.MAX_WBITS if wrapped else -zlib.MAX_WBITS)
        elif self._stream.eof:
            if self._gzip and not data.strip(b"\0"):
                return None
            self._members += 1
            if not self._gzip or self._members > _MAX_MEMBERS:
                raise self._broken("has bytes after its end")
            self._stream = zlib.decompressobj(_GZIP_WINDOW)
        return self._stream

    def _broken(self, how: str) -> Problem:
        return Problem(MALFORMED, f"The {self._encoding} encoding of the body {how}.")


def _inflater(request: web.Request, limit: int) -> Inflater | None:
    encoding = request.headers.get("Content-Encoding", "identity").strip().lower()
    if encoding in ("identity", ""):
        return None
    if encoding == "x-gzip":
        encoding = "gzip"
    if encoding not in ENCODINGS:
        raise Problem(
            UNSUPPORTED,
            f"Content-Encoding is not understood; accepted are {', '.join(ENCODINGS)}.",
            {"accepted": list(ENCODINGS)},
            {"Accept-Encoding": ", ".join(ENCODINGS)},
        )
    return Inflater(encoding, limit)


async def _blocks(request: web.Request) -> AsyncIterator[bytes]:
    """The body in blocks of about 256 KiB, so that a thread is not asked for each packet."""
    waiting: list[bytes] = []
    size = 0
    patience = Patience(request)
    while piece := patience.add(await patience.of(request.content.readany())):
        waiting.append(piece)
        size += len(piece)
        if size >= _BLOCK:
            yield b"".join(waiting)
            waiting, size = [], 0
    if waiting:
        yield b"".join(waiting)


async def expect_later(_request: web.Request) -> None:
    """The expect handler of every route: the client is told to go on only by :func:`read`.

    Until then the request may still be refused for its token, its type or its announced length.
    """


async def _invite(request: web.Request) -> None:
    expected = request.headers.get("Expect")
    if expected is None or request.version < HttpVersion11:
        return
    if expected.lower() != "100-continue":
        raise Problem(OTHER, "Only 100-continue can be expected.", status=417)
    await request.writer.write(b"HTTP/1.1 100 Continue\r\n\r\n")
    request.writer.output_size = 0  # the answer itself has not begun


def _not_json(body: bytes, reason: str) -> Problem:
    members: dict[str, int] = {}
    _, _, after = reason.rpartition("(byte ")
    byte = len(body)
    if after.rstrip(")").isdigit():
        byte = int(after.rstrip(")"))
        members = {"byte": byte, "line": _line(body, byte)}
    # Where little follows a lone one, the decoder says that the body ends too soon.
    if "surrogate" in reason or _LONE.search(body[max(0, byte - 12) : byte + 2]):
        return Problem(MALFORMED, "The body is no valid Unicode: it has a lone surrogate.", members)
    return Problem(MALFORMED, f"The body is not JSON: {reason}.", members)


def _line(body: bytes, byte: int) -> int:
    return body.count(b"\n", 0, byte) + 1
