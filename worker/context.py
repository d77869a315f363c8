"""What the function of an asynchronous kind gets beside its payload."""

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from datetime import datetime
from types import MappingProxyType
from typing import Any, NoReturn, TypeVar

import msgspec

from control.errors import BridgeUp, ControlStateStale, StoreUnavailable
from control.logs import Logger
from worker import telling
from worker.resources import Resource

T = TypeVar("T")
_NONE: Mapping[Any, Any] = MappingProxyType({})


class Terms(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """How a job that another one submits is to be run; for the rest its kind says."""

    key: str | None = None
    unique: str | None = None
    priority: str | int = "normal"
    run_at: datetime | None = None
    timeout_s: float | None = None
    max_attempts: int | None = None


Submit = Callable[[str, Any, Terms], Awaitable[str]]
"""Submits a job of a kind with a payload; its run id."""

PASSING = (BridgeUp, ControlStateStale, StoreUnavailable)
"""What that may raise through no fault of the job."""


class JobContext:
    """One run of a job, seen from inside.

    A job that is cancelled, or ran into its timeout, gets :class:`asyncio.CancelledError` where it
    waits. One that is asked to drain goes on until the hard deadline, unless it looks at
    :attr:`draining`: then it may return what it has as its result, or keep a checkpoint and
    :meth:`hand_back`.
    """

    def __init__(
        self,
        *,
        run_id: str,
        attempt: int,
        correlation_id: str,
        restored: Any,
        log: Logger,
        on_progress: Callable[[msgspec.Raw], None],
        on_checkpoint: Callable[[bytes], None],
        submit: Submit,
        resources: Mapping[Any, Any] = _NONE,
    ) -> None:
        self.run_id = run_id
        self.attempt = attempt
        """1 for the first."""
        self.correlation_id = correlation_id
        self.restored = restored
        """The checkpoint of an earlier attempt, or ``None``."""
        self.log = log
        """A structlog logger; the job's ids are on each line."""
        self.draining = False
        """Whether the worker asks the job to stop soon."""
        self.cancel_reason: str | None = None
        """``cancelled``, ``timeout`` or ``drain``, once the job is to stop."""
        self._on_progress = on_progress
        self._on_checkpoint = on_checkpoint
        self._submit = submit
        self._resources = resources

    @property
    def cancelled(self) -> bool:
        """Whether the job is to stop, for whatever reason."""
        return self.cancel_reason is not None

    def progress(self, **fields: Any) -> None:
        """Tell whoever follows the job how far it is; the newest call wins."""
        self._on_progress(msgspec.Raw(telling.encoded(fields)))

    def checkpoint(self, value: Any) -> None:
        """Keep ``value`` (anything JSON can hold) for the next attempt, should this one not end."""
        self._on_checkpoint(msgspec.json.encode(value))

    async def submit(self, kind: str, payload: Any = None, **terms: Any) -> str:
        """Submit another job; its run id. It names this one as its ``parent`` and belongs to the
        same request.

        ``terms`` are those of a submission: ``priority``, ``run_at`` (a datetime), ``timeout_s``,
        ``max_attempts``, ``unique``; and ``key``: a further attempt of this job that submits the
        same payload under the same key gets the job that it made before, not a second one.

        Raises :class:`control.errors.InvalidInput` for what the API would refuse. What may pass
        (the bridge is up, Redis is away) may end the function: the job is tried again.
        """
        return await self._submit(kind, payload, Terms(**terms))

    def hand_back(self) -> NoReturn:
        """End here while draining: the job runs again from its checkpoint, on another worker or
        after the maintenance, and this attempt is not counted.

        Raises :class:`asyncio.CancelledError`, which ends the function; RuntimeError otherwise.
        """
        if not self.draining:
            raise RuntimeError("a job can be handed back only while its worker drains")
        raise asyncio.CancelledError

    def resource(self, declared: Resource[T] | type[T]) -> T:
        """What ``declared`` (see :func:`worker.resources.resource`) opened in this worker; by its
        class what the worker itself brings.

        Raises :class:`LookupError` for one that it did not open.
        """
        try:
            opened: T = self._resources[declared]
        except KeyError:
            raise LookupError(
                f"{declared} is not open: is its module in DRAWBRIDGE_JOBS?"
            ) from None
        return opened
