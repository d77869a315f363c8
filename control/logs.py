"""Structured logs: JSON lines on stdout, or a readable form on a terminal.

Identifiers that belong to the work at hand (``request_id``, ``run_id``) are bound with
:func:`structlog.contextvars.bound_contextvars`; ``instance`` and ``process`` are on every line.
"""

import logging
import sys
from collections.abc import MutableMapping
from typing import Any, TextIO

import structlog

from control.config import LogSection
from control.settings import masked

Logger = structlog.stdlib.BoundLogger
_SECRET_WORDS = ("password", "token", "secret", "authorization", "api_key", "cookie")


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
    final: list[Any] = (
        [
            structlog.dev.ConsoleRenderer(
                colors=out.isatty(), exception_formatter=structlog.dev.plain_traceback
            )
        ]
        if console
        else [structlog.processors.JSONRenderer()]
    )
    handler = logging.StreamHandler(out)
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=[structlog.stdlib.ExtraAdder(), *shared],
            processors=[structlog.stdlib.ProcessorFormatter.remove_processors_meta, *final],
        )
    )
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(section.level.upper())
    # The drivers tell of each failed attempt; we log a lost dependency once, as a change of state.
    for chatty in ("neo4j", "asyncio", "aiohttp.access"):
        logging.getLogger(chatty).setLevel(logging.ERROR)
    structlog.configure(
        processors=[
            structlog.stdlib.filter_by_level,
            *shared,
            structlog.stdlib.ProcessorFormatter.wrap_for_formatter,
        ],
        logger_factory=structlog.stdlib.LoggerFactory(),
        wrapper_class=structlog.stdlib.BoundLogger,
        cache_logger_on_first_use=False,
    )


def get(name: str) -> Logger:
    """The logger of a module."""
    logger: Logger = structlog.stdlib.get_logger(name)
    return logger


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
            secret = any(word in key.lower() for word in _SECRET_WORDS)
            event[key] = (
                masked(value, secret=secret) if secret or "=" in value or "@" in value else value
            )
    return event
