"""Structured logs: JSON lines on stdout, or a readable form on a terminal.

Identifiers that belong to the work at hand (``request_id``, ``run_id``) are bound with
:func:`structlog.contextvars.bound_contextvars`; ``instance`` and ``process`` are on every line.

Every request is a line, so our own lines go straight from structlog to one write; only those of
libraries pass through :mod:`logging`.
"""

import asyncio
import atexit
import contextlib
import json
import logging
import sys
from collections import deque
from collections.abc import Callable, MutableMapping
from datetime import UTC, datetime
from functools import lru_cache, partial
from typing import Any, TextIO

import msgspec

from control.config import LogSection
from control.imports import without
from control.settings import masked

# structlog would draw tracebacks with it, for 4 MB in each process.
with without("rich"):
    import structlog
    from structlog.typing import FilteringBoundLogger

Logger = FilteringBoundLogger
Event = MutableMapping[str, Any]
_SECRET_WORDS = ("password", "token", "secret", "authorization", "api_key", "cookie")
_ESCAPES = {code: f"\\x{code:02x}" for code in (*range(32), *range(127, 160))} | {
    code: f"\\u{code:04x}"
    for code in (0x2028, 0x2029, *range(0x202A, 0x202F), *range(0x2066, 0x206A))
}
"""Control characters, and those that break lines or turn the direction of text."""

SOON_S = 0.008
"""How much later a line may be written than what it tells of: see :func:`soon`. 0: at once."""

_encode = msgspec.json.Encoder(enc_hook=repr).encode


def configure(
    section: LogSection, *, process: str, instance: str, stream: TextIO | None = None
) -> None:
    """Send this process's logs, its libraries' included, to ``stream`` (stdout)."""
    out = stream or sys.stdout
    console = section.format == "console" or (section.format == "auto" and out.isatty())
    level = logging.getLevelNamesMapping()[section.level.upper()]
    write = _Writer(out)
    identity = _Identity(process, instance)
    # Text, without the frames' variables.
    last: tuple[Any, ...] = (structlog.processors.format_exc_info, redact)
    render: Any = _json
    if console:
        last = (*last, visible)
        render = structlog.dev.ConsoleRenderer(
            colors=out.isatty(), exception_formatter=structlog.dev.plain_traceback
        )
    structlog.configure(
        processors=[identity, *last, render],
        logger_factory=lambda name="": _Output(name, write),
        wrapper_class=structlog.make_filtering_bound_logger(level),
        cache_logger_on_first_use=True,
    )
    foreign = structlog.stdlib.ProcessorFormatter(
        foreign_pre_chain=[structlog.stdlib.ExtraAdder(), identity],
        processors=[structlog.stdlib.ProcessorFormatter.remove_processors_meta, *last, render],
    )
    root = logging.getLogger()
    root.handlers[:] = [_Foreign(foreign, write)]
    root.setLevel(level)
    # The drivers tell of each failed attempt; we log a lost dependency once, as a change of state.
    for chatty in ("neo4j", "asyncio", "aiohttp.access"):
        logging.getLogger(chatty).setLevel(logging.ERROR)


def get(name: str) -> Logger:
    """The logger of a module."""
    logger: Logger = structlog.get_logger(name)
    return logger


def soon(say: Callable[..., None], *what: Any) -> None:
    """Call ``say(*what, timestamp=…)`` in :data:`SOON_S`, with the time of now for its line.

    Writing a line takes longer than what it tells of, and others may wait for the processor.
    Without an event loop it is called at once.
    """
    call = partial(say, *what, timestamp=_now())
    if not SOON_S:
        call()
        return
    try:
        asyncio.get_running_loop().call_later(SOON_S, call)
    except RuntimeError:
        call()


def _now() -> str:
    return datetime.now(UTC).isoformat().replace("+00:00", "Z")


class _Identity:
    """Puts on each line when it was said, by whom, and for which work."""

    def __init__(self, process: str, instance: str) -> None:
        self._fields = {"process": process, "instance": instance}

    def __call__(self, logger: Any, method: str, event: Event) -> Event:
        return {
            "timestamp": _now(),
            "level": method,
            "logger": logger.name if logger is not None else event["_record"].name,
            **self._fields,
            **structlog.contextvars.get_contextvars(),
            **event,
        }


class _Output:
    """What a module's logger ends in."""

    def __init__(self, name: str, write: Callable[[str], None]) -> None:
        self.name = name
        self.debug = self.info = self.warning = self.error = self.critical = write


class _Foreign(logging.Handler):
    """The lines of libraries."""

    def __init__(self, formatter: logging.Formatter, write: Callable[[str], None]) -> None:
        super().__init__()
        self.setFormatter(formatter)
        self._write = write

    def emit(self, record: logging.LogRecord) -> None:
        try:
            self._write(self.format(record))
        except Exception:
            self.handleError(record)


class _Writer:
    """Writes lines to ``out``: those of one turn of the event loop together, others at once.

    A log that nobody takes must not stop the work.
    """

    def __init__(self, out: TextIO) -> None:
        self._out = out
        self._raw = getattr(out, "buffer", None)
        self._waiting: deque[str] = deque()
        self._due = False
        atexit.register(self._flush)

    def __call__(self, line: str) -> None:
        self._waiting.append(line)
        try:
            loop = asyncio.get_running_loop()
        except (
            RuntimeError
        ):  # another thread, or no loop: what waits for a loop that is held goes too
            self._flush()
            return
        if not self._due:
            self._due = True
            loop.call_soon(self._flush)

    def _flush(self) -> None:
        self._due = False
        lines: list[str] = []
        with contextlib.suppress(IndexError):
            while True:
                lines.append(self._waiting.popleft())
        if not lines:
            return
        text = "\n".join((*lines, ""))
        with contextlib.suppress(OSError, ValueError):
            if self._raw is None:
                self._out.write(text)
            else:
                self._raw.write(text.encode(errors="backslashreplace"))
                self._raw.flush()


def _json(_logger: Any, _method: str, event: Event) -> str:
    """In ASCII, so that whatever splits text into lines takes it as one."""
    with contextlib.suppress(Exception):
        line = _encode(event)
        if line.isascii():
            return line.decode()
    return json.dumps(event, default=repr, skipkeys=True)


def redact(_logger: Any, _method: str, event: Event) -> Event:
    """Mask what is named like a secret, and passwords inside URLs."""
    for key, value in event.items():
        if isinstance(value, str):
            if _is_secret(key):
                event[key] = masked(value, secret=True)
            elif "=" in value or "@" in value:
                event[key] = masked(value, secret=False)
    return event


def visible(_logger: Any, _method: str, event: Event) -> Event:
    """Show control characters as escapes: what callers sent must not steer a terminal, nor begin
    a line of its own. JSON does so anyway."""
    for key, value in event.items():
        if isinstance(value, str) and not value.isprintable():
            lines = value.split("\n") if key == "exception" else [value]
            event[key] = "\n".join(line.translate(_ESCAPES) for line in lines)
    return event


@lru_cache(maxsize=1024)
def _is_secret(key: str) -> bool:
    name = key.lower()
    return any(word in name for word in _SECRET_WORDS)
