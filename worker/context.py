"""What the function of an asynchronous kind gets beside its payload."""

from collections.abc import Callable
from typing import Any

import msgspec

from control.logs import Logger


class JobContext:
    """One run of a job, seen from inside."""

    def __init__(
        self,
        *,
        run_id: str,
        attempt: int,
        correlation_id: str,
        restored: Any,
        log: Logger,
        on_progress: Callable[[dict[str, Any]], None],
        on_checkpoint: Callable[[bytes], None],
    ) -> None:
        self.run_id = run_id
        self.attempt = attempt
        self.correlation_id = correlation_id
        self.restored = restored
        """The checkpoint of an earlier attempt, or ``None``."""
        self.log = log
        self.draining = False
        """Whether the worker asks the job to stop soon: keep a checkpoint and return."""
        self._on_progress = on_progress
        self._on_checkpoint = on_checkpoint

    def progress(self, **fields: Any) -> None:
        """Tell whoever follows the job how far it is; the newest call wins."""
        self._on_progress(fields)

    def checkpoint(self, value: Any) -> None:
        """Keep ``value`` (anything JSON can hold) for the next attempt, should this one not end."""
        self._on_checkpoint(msgspec.json.encode(value))
