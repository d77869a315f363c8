"""The control plane over HTTP: the same methods as :class:`control.flags.client.ControlClient`."""

import asyncio
import contextlib
import json
import time
from collections.abc import AsyncGenerator, AsyncIterator, Mapping
from contextlib import aclosing, asynccontextmanager
from types import TracebackType
from typing import Any, Self, TypeVar

import aiohttp
import msgspec

from control import cancelling
from control.backoff import Backoff
from control.cli.api_client import Api, Event, Refused, Unreachable
from control.clock import iso
from control.errors import StoreUnavailable
from control.flags.acknowledgement import Want
from control.flags.audit import AuditPage
from control.flags.client import Acknowledged, Done, Watch
from control.flags.commands import Command
from control.flags.document import NOTHING, Document
from control.flags.errors import CommandTimedOut, NobodyListens
from control.flags.outcome import Outcome, Verdict
from control.flags.plane import ControlEvent
from control.flags.presence import ReplicaReport

T = TypeVar("T")
_EVENTS = "/control/events"
_READY_S = 2.0
"""How long the live view may hold up the change that it is to show."""

_SHORTEST_S = 0.1
"""The shortest wait that the API takes."""

_SPARE_S = 15.0
"""How much longer than the wait an answer may take: the command before it has 10 s of its own."""

_VERDICTS = {
    404: Verdict.REFUSED,
    412: Verdict.CONFLICT,
    422: Verdict.REFUSED,
    429: Verdict.DEBOUNCED,
}


class ApiControl:
    """The control plane behind one API. Methods raise Refused and Unreachable."""

    def __init__(self, api: Api) -> None:
        self._api = api

    async def __aenter__(self) -> Self:
        await self._api.__aenter__()
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        await self._api.__aexit__(kind, error, trace)

    async def flags(self) -> Document:
        """The flags as the instance that answers knows them."""
        return _read(await self._api.ask("GET", "/control/flags"), Document)

    async def replicas(self) -> list[ReplicaReport]:
        """Every live instance."""
        found = await self._api.ask("GET", "/control/replicas")
        return _read(found["replicas"], list[ReplicaReport])

    async def audit(self, **terms: Any) -> AuditPage:
        """A page of the audit."""
        if since := terms.get("since"):
            terms["since"] = iso(since)
        query = {name: str(value) for name, value in terms.items() if value is not None}
        return _read(await self._api.ask("GET", "/control/audit", params=query), AuditPage)

    async def carry_out(
        self,
        command: Command,
        *,
        want: Want | None = None,
        timeout_s: float = 10.0,
        watch: Watch | None = None,
    ) -> Done:
        """Make a change, and wait for the fleet where ``want`` says so.

        The command's id is its Idempotency-Key: the same request once more changes nothing, and
        waits. Raises :class:`CommandTimedOut` and :class:`NobodyListens` where the service does.
        """
        began = time.monotonic()
        async with self._watched(watch if want else None):
            try:
                done = _done(await self._send(command, None, timeout_s), command)
                if want is None:
                    return done
                if watch is not None:
                    watch.committed(done.outcome.document.position)
                left_s = max(_SHORTEST_S, timeout_s - (time.monotonic() - began))
                waited = _done(await self._send(command, want, left_s), command)
                return Done(outcome=done.outcome, acknowledged=waited.acknowledged)
            except Refused as refused:
                return await self._judged(command, refused, timeout_s)

    @asynccontextmanager
    async def follow(self) -> AsyncIterator[AsyncIterator[ControlEvent]]:
        """What happens from now on, over as many connections as it takes.

        Each connection begins with the flags and the instances as they are then.
        """
        async with aclosing(self._events()) as coming:
            yield coming

    async def _events(self) -> AsyncGenerator[ControlEvent, None]:
        pause, connected = Backoff(), False
        while True:
            try:
                async for event in self._api.stream(_EVENTS):
                    connected = True
                    pause.reset()
                    for told in _told(event):
                        yield told
            except Unreachable:
                if not connected:
                    raise
            except Refused as error:
                if not connected or error.status < 500:
                    raise
            await pause.wait()

    async def _send(self, command: Command, want: Want | None, timeout_s: float) -> dict[str, Any]:
        terms = {"reason": command.reason, "mode": command.mode}
        body: dict[str, Any] = {name: value for name, value in terms.items() if value is not None}
        if command.until is not None:
            body["until"] = iso(command.until)
        headers = {"Idempotency-Key": command.id}
        if command.expected_version is not None:
            headers["If-Match"] = f'"{command.expected_epoch}.{command.expected_version}"'
        method, path = "POST", f"/control/flags/{command.flag}/{command.command}"
        if command.command == "set":
            method, path = "PUT", f"/control/flags/{command.flag}"
            body["is_active"] = command.value
        return await self._api.ask(
            method,
            path,
            params={"wait": want, "timeout": f"{timeout_s:g}"} if want else {},
            headers=headers,
            json=body,
            timeout=aiohttp.ClientTimeout(total=timeout_s + _SPARE_S, sock_connect=5),
        )

    async def _judged(self, command: Command, refused: Refused, timeout_s: float) -> Done:
        """What a problem says of the command. Raises ``refused`` where it is about the caller."""
        problem = refused.problem
        kind = str(problem.get("type", "")).rpartition("/")[2]
        if kind == "acknowledgement-timeout":
            return _done(problem, command)
        if kind == "command-timeout":
            raise CommandTimedOut(command.id, timeout_s) from refused
        if kind == "nobody-listens":
            raise NobodyListens from refused
        if kind == "dependency-unavailable":
            raise StoreUnavailable(str(problem.get("dependency")), "nothing was changed")
        if refused.status not in _VERDICTS:
            raise refused
        reused = kind == "idempotency-key-reused"
        found = problem.get("document")
        outcome = Outcome(
            command_id=str(problem.get("command_id") or command.id),
            verdict=Verdict.KEY_REUSED if reused else _VERDICTS[refused.status],
            document=_read(found, Document) if found else await self._flags_if_told(),
            detail=str(refused),
            retry_after_s=problem.get("retry_after_s"),
        )
        return Done(outcome=outcome)

    async def _flags_if_told(self) -> Document:
        with contextlib.suppress(Refused, Unreachable):
            return await self.flags()
        return NOTHING

    @asynccontextmanager
    async def _watched(self, watch: Watch | None) -> AsyncIterator[None]:
        """Show ``watch`` what the events tell, for the block. Without them it sees nothing."""
        if watch is None:
            yield
            return
        ready = asyncio.Event()
        following = asyncio.create_task(self._show(watch, ready))
        try:
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(ready.wait(), _READY_S)
            yield
        finally:
            await cancelling.end(following)

    async def _show(self, watch: Watch, ready: asyncio.Event) -> None:
        live: dict[str, ReplicaReport] = {}
        try:
            async for event in self._api.stream(_EVENTS):
                if event.type == "left":
                    live.pop(event.data["id"], None)
                for report in _reports(event):
                    live[report.id] = report
                watch.tell(list(live.values()))
                if event.type in ("replicas", "unavailable"):
                    ready.set()
        except (Refused, Unreachable):
            ready.set()


def _reports(event: Event) -> list[ReplicaReport]:
    """The reports that an event carries."""
    if event.type == "replicas":
        return _read(event.data["replicas"], list[ReplicaReport])
    return [_read(event.data, ReplicaReport)] if event.type == "replica" else []


def _told(event: Event) -> list[ControlEvent]:
    """The event as it comes over Redis too."""
    if event.type == "replicas":
        return [ControlEvent("replica", msgspec.json.encode(report)) for report in _reports(event)]
    if event.type in ("flags", "replica", "left"):
        return [ControlEvent(event.type, json.dumps(event.data).encode())]
    return []


def _done(answer: Mapping[str, Any], command: Command) -> Done:
    """What the answer to a change, or the problem of one that was not confirmed, says."""
    outcome = Outcome(
        command_id=answer.get("command_id", command.id),
        verdict=Verdict(answer["outcome"]),
        document=_read(answer["document"], Document),
    )
    told = answer.get("acknowledged")
    return Done(outcome=outcome, acknowledged=_read(told, Acknowledged) if told else None)


def _read(found: Any, type_: type[T]) -> T:
    """``found``, from JSON, as ``type_``. Raises :class:`Unreachable` where it is not one."""
    try:
        return msgspec.convert(found, type_)
    except msgspec.ValidationError as error:
        raise Unreachable(f"the API does not answer like Drawbridge: {error}") from None
