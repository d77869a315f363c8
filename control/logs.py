"""Structured logs: JSON lines on stdout, or a readable form on a terminal.

Identifiers that belong to the work at hand (``request_id``, ``run_id``) are bound with
:func:`structlog.contextvars.bound_contextvars`; ``instance`` and ``process`` are on every line.
"""

import functools
import json
import logging
import sys
from collections.abc import MutableMapping
from typing import Any, TextIO

import msgspec
import structlog
from structlog.typing import FilteringBoundLogger

from control.config import LogSection
from control.settings import masked

Logger = FilteringBoundLogger
_SECRET_WORDS = ("password", "token", "secret", "authorization", "api_key", "cookie")
_ENCODER = msgspec.json.Encoder(enc_hook=repr)


def configure(
    section: LogSection, *, process: str, instance: str, stream: TextIO | None = None
) -> None:
    """Send this process's logs, its libraries' included, to ``stream`` (stdout)."""
    out = stream or sys.stdout
    console = section.format == "console" or (section.format == "auto" and out.isatty())
    shared: list[Any] = [
        structlog.contextvars.merge_contextvars,
        structlog.stdlib.add_log_level,
        structlog.stdlib.add_logger_name,
        structlog.processors.TimeStamper(fmt="iso", utc=True, key="timestamp"),
        _Identity(process, instance),
        structlog.processors.format_exc_info,  # as text, without the frames' variables
        redact,
    ]
    final: Any = (
        structlog.dev.ConsoleRenderer(
            colors=out.isatty(), exception_formatter=structlog.dev.plain_traceback
        )
        if console
        else _as_json
    )
    _take_libraries(out, section.level.upper(), shared, final)
    # Our own lines take a short way past the standard library's, which costs twice as much.
    structlog.configure(
        processors=[*shared, final],
        logger_factory=lambda *names: _Lines(out, *names),
        wrapper_class=structlog.make_filtering_bound_logger(section.level),
        cache_logger_on_first_use=True,
    )


def get(name: str) -> Logger:
    """The logger of a module."""
    logger: Logger = structlog.get_logger(name)
    return logger


def _take_libraries(out: TextIO, level: str, shared: list[Any], final: Any) -> None:
    """Give what libraries log the same form."""
    handler = logging.StreamHandler(out)
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=[structlog.stdlib.ExtraAdder(), *shared],
            processors=[structlog.stdlib.ProcessorFormatter.remove_processors_meta, final],
        )
    )
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(level)
    # The drivers tell of each failed attempt; we log a lost dependency once, as a change of state.
    for chatty in ("neo4j", "asyncio", "aiohttp.access"):
        logging.getLogger(chatty).setLevel(logging.ERROR)


def _as_json(_logger: Any, _method: str, event: MutableMapping[str, Any]) -> str:
    try:
        return _ENCODER.encode(event).decode()
    except (UnicodeEncodeError, TypeError):  # half a character, or a key that is no text
        return json.dumps(event, default=repr, skipkeys=True)


class _Lines:
    """Writes each line in one piece, and at once."""

    def __init__(self, out: TextIO, name: str = "") -> None:
        self._out = out
        self.name = name

    def _write(self, line: str) -> None:
        self._out.write(line + "\n")
        self._out.flush()

    debug = info = warning = error = critical = exception = fatal = warn = log = msg = _write


class _Identity:
    """Puts on each line which process and which instance speaks."""

    def __init__(self, process: str, instance: str) -> None:
        self._fields = {"process": process, "instance": instance}

    def __call__(
        self, _logger: Any, _method: str, event: MutableMapping[str, Any]
    ) -> MutableMapping[str, Any]:
        event.update(self._fields)
        return event


def redact(_logger: Any, _method: str, event: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
    """Mask what is named like a secret, and passwords inside URLs; keep a line a line."""
    for key, value in event.items():
        if isinstance(value, str):
            secret = _secret(key)
            event[key] = (
                masked(value, secret=secret) if secret or "=" in value or "@" in value else value
            )
    return event


@functools.lru_cache(1024)
def _secret(key: str) -> bool:
    return any(word in key.lower() for word in _SECRET_WORDS)
