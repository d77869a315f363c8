"""What the function of a CPU-bound kind gets beside its payload."""

import threading
from collections.abc import Callable
from typing import Any

import msgspec

from control.errors import DrawbridgeError
from worker import telling
from worker.cpu.frames import FrameType, GraphAccess, LogLine, Submission, Submitted

Send = Callable[[FrameType, bytes], None]
PROGRESS_EVERY_S = 0.25


class NotSubmitted(DrawbridgeError):
    """A job could not be submitted. ``passing``: the bridge is up or Redis is away; a job that ends
    with this is tried again."""

    def __init__(self, why: str, *, passing: bool) -> None:
        super().__init__(why)
        self.passing = passing


class Context:
    """The job's surroundings, for use by the function from any of its threads.

    A function that hears of a cancellation, by :attr:`cancelled` or :meth:`on_cancel`, should
    return within half a second with what it has, or raise; then its process is killed. What it
    returns after that counts as cut short, unless it calls :meth:`disregard_cancel`.
    """

    def __init__(
        self,
        send: Send,
        *,
        submitted: Callable[[], Submitted],
        run_id: str,
        attempt: int,
        correlation_id: str,
        restored: bytes | None,
        traceparent: str | None = None,
        graph: GraphAccess | None = None,
    ) -> None:
        self.run_id = run_id
        self.attempt = attempt
        self.correlation_id = correlation_id
        self.traceparent = traceparent
        """The trace that this run is part of, for spans of the function's own."""
        self.graph = graph
        """Where Neo4j is, for a kind declared with ``graph=True``."""
        self.restored: Any = None if restored is None else msgspec.json.decode(restored)
        """What :meth:`checkpoint` kept in an earlier run of this job, or ``None``."""
        self.log = Log(send)
        """The worker's log."""
        self._send = send
        self._submitted = submitted
        self._submitting = threading.Lock()
        self._reason: str | None = None
        self._noticed = False
        self._disregarded = False
        self._lock = threading.Lock()
        self._callbacks: list[Callable[[], None]] = []
        self._sampler = _Sampler(send)

    @property
    def cancelled(self) -> bool:
        """Whether the function should stop."""
        if self._reason is None:
            return False
        self._noticed = True
        return True

    @property
    def draining(self) -> bool:
        """Whether it should stop because its worker does: it will run again from a checkpoint."""
        return self._reason == "drain" and self.cancelled

    @property
    def cancel_reason(self) -> str | None:
        """``cancelled``, ``timeout`` or ``drain`` (it runs again later); ``None`` without one."""
        return self._reason

    def on_cancel(self, callback: Callable[[], None]) -> None:
        """Call ``callback`` at a cancellation, from another thread; at once if it has come."""
        with self._lock:
            if self._reason is None:
                self._callbacks.append(callback)
                return
            self._noticed = True
        self._call(callback)

    def disregard_cancel(self) -> None:
        """Say that the work was done before the cancellation takes effect: the result is whole."""
        self._disregarded = True

    def progress(self, **fields: Any) -> None:
        """Tell how far the work is. Cheap: at most four a second are sent, the newest of them."""
        self._sampler.put(fields)

    def checkpoint(self, value: Any) -> None:
        """Keep ``value`` (anything JSON can hold) for the next run of this job."""
        self._send(FrameType.CHECKPOINT, msgspec.json.encode(value))

    def submit(self, kind: str, payload: Any = None, **terms: Any) -> str:
        """Submit another job; its run id. The same as :meth:`worker.context.JobContext.submit`.

        Raises :class:`NotSubmitted`.
        """
        body = msgspec.json.encode(Submission(kind, payload, terms))
        with self._submitting:
            self._send(FrameType.SUBMIT, body)
            answer = self._submitted()
        if answer.run_id is None:
            raise NotSubmitted(answer.why, passing=answer.passing)
        return answer.run_id

    # For the process that runs the function.

    def cancel(self, reason: str) -> None:
        """Pass a cancellation on to the function."""
        with self._lock:
            first = self._reason is None
            self._reason = reason
            callbacks, self._callbacks = self._callbacks, []
            self._noticed = self._noticed or (first and bool(callbacks))
        for callback in callbacks:
            self._call(callback)

    @property
    def interrupted(self) -> bool:
        """Whether a cancellation cut the function short."""
        return self._noticed and not self._disregarded

    def finish(self) -> None:
        """Send the last progress; nothing is sent afterwards."""
        self._sampler.finish()

    def _call(self, callback: Callable[[], None]) -> None:
        try:
            callback()
        except Exception as error:  # the function's own code; the cancellation goes on
            self.log.error("cancel callback failed", error=repr(error))  # noqa: TRY400


class Log:
    """Lines for the worker's log, with the job's ids on each."""

    def __init__(self, send: Send) -> None:
        self._send = send

    def debug(self, event: str, /, **fields: Any) -> None:
        """Write a line that is of use while looking for a fault."""
        self._line("debug", event, fields)

    def info(self, event: str, /, **fields: Any) -> None:
        """Write an ordinary line."""
        self._line("info", event, fields)

    def warning(self, event: str, /, **fields: Any) -> None:
        """Write a line about something that is not as it should be."""
        self._line("warning", event, fields)

    def error(self, event: str, /, **fields: Any) -> None:
        """Write a line about a fault."""
        self._line("error", event, fields)

    def _line(self, level: str, event: str, fields: dict[str, Any]) -> None:
        line = LogLine(level, event, fields)
        self._send(FrameType.LOG, telling.encoded(line))


class _Sampler:
    """Sends the newest progress from a thread of its own, so that a solver never waits for it."""

    def __init__(self, send: Send) -> None:
        self._send = send
        self._newest: dict[str, Any] | None = None
        self._changed = threading.Condition()
        self._thread: threading.Thread | None = None
        self._finished = False

    def put(self, fields: dict[str, Any]) -> None:
        with self._changed:
            if self._finished:
                return
            self._newest = fields
            if self._thread is None:
                self._thread = threading.Thread(target=self._run, name="progress", daemon=True)
                self._thread.start()
            self._changed.notify()

    def finish(self) -> None:
        with self._changed:
            self._finished = True
            self._changed.notify()
        if self._thread is not None:
            self._thread.join()

    def _run(self) -> None:
        while True:
            with self._changed:
                self._changed.wait_for(lambda: self._finished or self._newest is not None)
                fields, self._newest = self._newest, None
            if fields is not None:
                self._tell(fields)
            with self._changed:
                if self._finished and self._newest is None:
                    return
                self._changed.wait_for(lambda: self._finished, timeout=PROGRESS_EVERY_S)

    def _tell(self, fields: dict[str, Any]) -> None:
        try:
            told = telling.encoded(fields)
        except Exception as error:  # the values' own code; the function goes on
            line = LogLine("warning", "progress cannot be told", {"error": telling.text(error)})
            self._send(FrameType.LOG, telling.encoded(line))
        else:
            self._send(FrameType.PROGRESS, told)
