"""The frames that a worker and the process of a CPU-bound job exchange over two pipes.

A frame is one byte of type, four bytes of length (network order) and the body, so payloads and
results travel as they are, whatever bytes they hold. No I/O here: :class:`Decoder` takes the bytes
as they come and gives whole frames back.
"""

import struct
from collections.abc import Iterator
from enum import IntEnum
from typing import Any

import msgspec

HEADER = struct.Struct("!BI")
LONGEST = 1 << 30
"""The longest body, in bytes; a longer one means that the stream is corrupt."""


OUT_OF_MEMORY = "the job needs more memory than it may use"
_SIGNS_OF_THAT = (
    "bad_alloc",
    "failed to map segment",
    "Cannot allocate memory",
    "Memory allocation still failed",
)


class FrameError(Exception):
    """The stream holds something that is no frame; nothing after it can be trusted."""


class FrameType(IntEnum):
    """What a frame holds."""

    # To the job's process.
    START = 1  # Start
    PAYLOAD = 2  # JSON text, as submitted
    CHECKPOINT = 3  # JSON text; in both directions
    CANCEL = 4  # the reason, as text
    SUBMITTED = 5  # Submitted, the answer to SUBMIT
    # From the job's process.
    PROGRESS = 16  # a JSON object
    LOG = 17  # LogLine
    RESULT = 18  # JSON text
    PARTIAL = 19  # JSON text: what a function that was cut short had by then
    FAILURE = 20  # Failure
    SUBMIT = 21  # Submission


LAST = (FrameType.RESULT, FrameType.PARTIAL, FrameType.FAILURE)
"""One of these ends the conversation."""


class GraphAccess(msgspec.Struct, frozen=True):
    """Where Neo4j is, for a kind that asks for it. It comes by a frame, for the environment of a
    process holds no secrets."""

    uri: str
    user: str
    password: str
    database: str


class Start(msgspec.Struct, frozen=True):
    """The first frame: which kind runs and in what surroundings. A PAYLOAD frame follows."""

    kind: str
    modules: tuple[str, ...]
    memory: int
    """Address space of the process, in bytes."""
    run_id: str
    attempt: int
    correlation_id: str
    traceparent: str | None
    has_checkpoint: bool
    """Whether a CHECKPOINT frame follows the PAYLOAD."""
    graph: GraphAccess | None = None


class LogLine(msgspec.Struct, frozen=True):
    """A line for the worker's log."""

    level: str
    event: str
    fields: dict[str, Any] = {}


class Failure(msgspec.Struct, frozen=True):
    """The function raised; ``interrupted`` says whether it had noticed a cancellation."""

    class_: str
    message: str
    retryable: bool
    interrupted: bool


class Submission(msgspec.Struct, frozen=True):
    """The function submits another job; ``terms`` as JSON has them."""

    kind: str
    payload: Any
    terms: dict[str, Any]


class Submitted(msgspec.Struct, frozen=True):
    """The run id of that job; or why there is none, and whether that may pass."""

    run_id: str | None = None
    why: str = ""
    passing: bool = False


def header(kind: FrameType, body: bytes) -> bytes:
    """What goes before ``body``. Raises :class:`FrameError` where that is too long."""
    if len(body) > LONGEST:
        raise FrameError(f"{len(body)} bytes are too long for one {kind.name} frame")
    return HEADER.pack(kind, len(body))


def lacks_memory(text: str) -> bool:
    """Whether an error's message, or what a library wrote before it died, tells of that."""
    return any(sign in text for sign in _SIGNS_OF_THAT)


class Decoder:
    """Takes a stream apart into frames."""

    def __init__(self) -> None:
        self._buffer = bytearray()

    def feed(self, data: bytes) -> Iterator[tuple[FrameType, bytes]]:
        """The frames that ``data`` completes. Raises :class:`FrameError`."""
        self._buffer += data
        while len(self._buffer) >= HEADER.size:
            kind, length = HEADER.unpack_from(self._buffer)
            if length > LONGEST:
                raise FrameError(f"a frame claims to be {length} bytes long")
            end = HEADER.size + length
            if len(self._buffer) < end:
                return
            try:
                known = FrameType(kind)
            except ValueError:
                raise FrameError(f"there is no frame of type {kind}") from None
            with memoryview(self._buffer) as view:
                body = bytes(view[HEADER.size : end])
            del self._buffer[:end]
            yield known, body

    @property
    def pending(self) -> int:
        """Bytes of a frame that is not complete yet; more than 0 at the end means a cut stream."""
        return len(self._buffer)
