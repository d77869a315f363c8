"""Traces, where the extra ``drawbridge[otel]`` is there and a collector is named; else nothing of
it is imported."""

import asyncio
import contextlib
from collections.abc import AsyncIterator
from typing import TYPE_CHECKING

from control.errors import ConfigError

if TYPE_CHECKING:
    from control.tracing.spans import Tracing


@contextlib.asynccontextmanager
async def opened(url: str, *, process: str, instance: str) -> AsyncIterator["Tracing | None"]:
    """What makes this process's spans, sent to ``url``; ``None`` where that is ``""``. What is left
    is sent at the end. Raises :class:`ConfigError` without the extra."""
    if not url:
        yield None
        return
    try:
        from control.tracing.spans import Tracing  # noqa: PLC0415 - the extra
    except ImportError as error:
        raise ConfigError(
            f"DRAWBRIDGE_OTLP_URL needs the extra drawbridge[otel]: {error}"
        ) from None
    tracing = Tracing(url, process=process, instance=instance)
    try:
        yield tracing
    finally:
        await asyncio.to_thread(tracing.close)
