"""The API as commands use it: requests, problems in one line, event streams that go on."""

import asyncio
import json
import time
import zlib
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, Self
from urllib.parse import quote

import aiohttp

from control.cli.network_files import NetworkFile
from control.config import Config
from control.errors import DrawbridgeError
from control.settings import masked

PATIENCE_S = 60.0
"""How long a command that follows a job waits for a service that is away or restarting."""

MEDIA = {".mps": "application/x-mps", ".lp": "application/x-lp"}
"""What a model's file is sent as, by its extension; ``.gz`` may follow."""

_COMPRESS_FROM = 1 << 20
_PIECE = 256 << 10
_SILENCE_S = 45.0
"""Longer than the heartbeat of an event stream: a connection this silent is a dead one."""

_RETRY_S = (0.1, 2.0)
_BRIDGE_UP = "/problems/bridge-up"


class Refused(DrawbridgeError):
    """The API said no; ``status`` is the HTTP status, ``problem`` the members of its answer."""

    def __init__(self, status: int, detail: str, problem: Mapping[str, Any]) -> None:
        super().__init__(detail)
        self.status = status
        self.problem = problem


class Unreachable(DrawbridgeError):
    """No answer came from the API."""


@dataclass(frozen=True)
class Event:
    """One event of a stream. Of a job, ``type`` is status, progress or end."""

    id: str
    type: str
    data: dict[str, Any]


class Api:
    """One API, for the length of an ``async with``. Methods raise Refused and Unreachable."""

    def __init__(self, url: str, token: str = "") -> None:
        self.url = url.rstrip("/")
        self._shown = masked(self.url, secret=False)
        self.authorisation = {"Authorization": f"Bearer {token}"} if token else {}
        self._session: aiohttp.ClientSession | None = None

    @classmethod
    def of(cls, config: Config, url: str | None = None) -> Self:
        """The API at ``url``, else where the configuration says.

        The token of the running stack stays with that stack's own API; a token that the caller's
        environment names goes wherever the caller says.
        """
        api_layer, key_layer = (
            config.sources.get(name) for name in ("DRAWBRIDGE_API", "DRAWBRIDGE_TOKEN")
        )
        same_stack = url in (None, config.client.api) and api_layer == key_layer
        trusted = same_stack or key_layer == "environment"
        return cls(url or config.client.api, config.client.token if trusted else "")

    async def __aenter__(self) -> Self:
        limits = aiohttp.ClientTimeout(total=None, sock_connect=5, sock_read=_SILENCE_S)
        self._session = aiohttp.ClientSession(headers=self.authorisation, timeout=limits)
        return self

    async def __aexit__(
        self,
        _kind: type[BaseException] | None,
        _error: BaseException | None,
        _trace: TracebackType | None,
    ) -> None:
        if self._session is not None:
            await self._session.close()

    async def submit(self, model: Path, terms: Mapping[str, str]) -> dict[str, Any]:
        """Send a model to be solved; the receipt. Large files are compressed on the way."""
        media, packed = media_of(model)
        large = (await asyncio.to_thread(model.stat)).st_size >= _COMPRESS_FROM
        data: bytes | AsyncIterator[bytes]
        if packed:
            data = _pieces(model)
        elif large:
            data = _compressed(model)
        else:
            data = await asyncio.to_thread(model.read_bytes)
        headers = {"Content-Type": media}
        if packed or large:
            headers["Content-Encoding"] = "gzip"
        return await self.ask(
            "POST", "/optimize", params=terms, data=data, headers=headers, expect100=large
        )

    async def ingest(
        self,
        files: Sequence[NetworkFile],
        query: Mapping[str, str],
        *,
        key: str | None = None,
        sent: Callable[[int], None],
    ) -> dict[str, Any]:
        """Send the files of a network; the receipt. ``sent`` is told how much of them is read."""
        form = aiohttp.FormData()
        total = 0

        def count(size: int) -> None:
            nonlocal total
            total += size
            sent(total)

        for file in files:
            form.add_field(
                file.role, file.compressed(count), filename=file.sent_name,
                content_type="application/gzip",
            )  # fmt: skip
        headers = {"Idempotency-Key": key} if key is not None else {}
        return await self.ask(
            "POST", "/ingest", params=query, data=form, headers=headers, expect100=True
        )

    async def submit_network(self, document: Mapping[str, Any]) -> dict[str, Any]:
        """Have the flow over a stored network computed; the receipt."""
        return await self.ask("POST", "/optimize", json=document)

    async def submit_job(
        self, kind: str, document: Mapping[str, Any], *, key: str | None = None
    ) -> dict[str, Any]:
        """Submit a job of any kind, ``document`` being its payload and terms; the receipt.

        ``key`` makes it safe to send again.
        """
        headers = {"Idempotency-Key": key} if key is not None else {}
        path = f"/jobs/{quote(kind, safe='')}"
        return await self.ask("POST", path, json=document, headers=headers)

    async def jobs(self, query: Mapping[str, str]) -> dict[str, Any]:
        """A page of jobs."""
        return await self.ask("GET", "/jobs", params=query)

    async def archive(self, query: Mapping[str, str]) -> dict[str, Any]:
        """A page of the archive."""
        return await self.ask("GET", "/jobs/archive", params=query)

    async def schedules(self) -> dict[str, Any]:
        """The periodic kinds."""
        return await self.ask("GET", "/jobs/schedules")

    async def job(self, run_id: str, *, patience_s: float = 0) -> dict[str, Any]:
        """A job's record."""
        return await self.ask("GET", f"/jobs/{run_id}", patience_s=patience_s)

    async def cancel(self, run_id: str) -> dict[str, Any]:
        """Cancel a job; its record."""
        return await self.ask("DELETE", f"/jobs/{run_id}")

    async def rerun(self, run_id: str) -> dict[str, Any]:
        """Run a failed job again; its record."""
        return await self.ask("POST", f"/jobs/{run_id}/rerun")

    async def failed_jobs(self, kind: str | None = None) -> AsyncIterator[str]:
        """The run ids of all jobs that failed, or of those of one kind; newest first."""
        query = {"status": "failed", "limit": "200"} | ({"kind": kind} if kind else {})
        while True:
            page = await self.jobs(query)
            for job in page["jobs"]:
                yield job["run_id"]
            if page["cursor"] is None:
                return
            query["cursor"] = page["cursor"]

    async def result(self, run_id: str, *, patience_s: float = 0) -> dict[str, Any]:
        """What a job returned."""
        return await self.ask("GET", f"/jobs/{run_id}/result", patience_s=patience_s)

    async def save_result(
        self, run_id: str, to: Path, media: str, *, patience_s: float = 0
    ) -> None:
        """Write what a job returned to a file, as the media type says."""
        accept = {"Accept": media}
        path = f"/jobs/{run_id}/result"
        text = await self._asked("GET", path, headers=accept, patience_s=patience_s)
        await asyncio.to_thread(to.write_bytes, text)

    async def events(self, run_id: str, *, patience_s: float = PATIENCE_S) -> AsyncIterator[Event]:
        """A job's events from its beginning to its end, over as many connections as it takes.

        It goes on once a raised bridge is lowered again. Raises :class:`Unreachable` once no event
        came for ``patience_s`` of broken connections.
        """
        last_id: str | None = None
        waiting = _Patience(patience_s)
        while True:
            try:
                async for event in self.stream(f"/jobs/{run_id}/events", last_id):
                    last_id = event.id or last_id
                    waiting = _Patience(patience_s)
                    yield event
                    if event.type == "end":
                        return
            except _Over:
                return
            except (Refused, Unreachable) as error:
                if not waiting.allows(error):
                    raise
            await waiting.pause()

    async def stream(self, path: str, last_id: str | None = None) -> AsyncIterator[Event]:
        """The events of one connection. Raises :class:`_Over` where there are none to come."""
        headers = {"Last-Event-ID": last_id} if last_id else {}
        try:
            async with self._open.get(self.url + path, headers=headers) as response:
                if response.status == 204:
                    raise _Over
                if response.status != 200:
                    raise await _refusal(response)
                fields: dict[str, str] = {}
                async for line in response.content:
                    name, _, value = line.decode().rstrip("\r\n").partition(":")
                    if line.strip():
                        fields[name] = value.removeprefix(" ")
                    elif "data" in fields:
                        data = json.loads(fields["data"])
                        yield Event(fields.get("id", ""), fields.get("event", ""), data)
                        fields = {}
        except (aiohttp.ClientError, TimeoutError, OSError) as error:
            raise Unreachable(self._away(error)) from error

    async def ask(self, method: str, path: str, **options: Any) -> dict[str, Any]:
        """The JSON object that a request is answered with; ``options`` are aiohttp's."""
        try:
            document = json.loads(await self._asked(method, path, **options))
        except ValueError:
            document = None
        if not isinstance(document, dict):
            raise Unreachable(f"{self._shown} does not answer like Drawbridge")
        return document

    async def _asked(
        self, method: str, path: str, *, patience_s: float = 0, **options: Any
    ) -> bytes:
        """The body of the answer; waits up to ``patience_s`` for a service that is away."""
        waiting = _Patience(patience_s)
        while True:
            try:
                return await self._once(method, path, **options)
            except (Refused, Unreachable) as error:
                if not waiting.allows(error):
                    raise
            await waiting.pause()

    async def _once(self, method: str, path: str, **options: Any) -> bytes:
        try:
            async with self._open.request(method, self.url + path, **options) as response:
                if response.status >= 400:
                    raise await _refusal(response)
                return await response.read()
        except (aiohttp.ClientError, TimeoutError, OSError) as error:
            raise Unreachable(self._away(error)) from error
        except ValueError as error:  # aiohttp's, of what cannot be a request
            raise Unreachable(f"{self._shown} cannot be asked: {error}") from error

    @property
    def _open(self) -> aiohttp.ClientSession:
        if self._session is None:
            raise RuntimeError("the API is used outside its `async with`")
        return self._session

    def _away(self, error: Exception) -> str:
        why = "no answer in time" if isinstance(error, TimeoutError) else "no connection"
        return f"{why}: {self._shown}. Is it running? `drawbridge up` starts everything"


class _Over(Exception):
    """The job is finished and there is no event left."""


class _Patience:
    """Waits between attempts, longer each time, for a service that is away."""

    def __init__(self, patience_s: float) -> None:
        self._patience_s = patience_s
        self._over_at = time.monotonic() + patience_s
        self._delay_s = _RETRY_S[0]

    def allows(self, error: Refused | Unreachable) -> bool:
        """Whether another attempt may cure ``error``, and there is time for it.

        A raised bridge is not a fault: who has any patience waits until it is lowered.
        """
        if isinstance(error, Refused) and error.problem.get("type") == _BRIDGE_UP:
            self._over_at = time.monotonic() + self._patience_s
            return self._patience_s > 0
        passing = isinstance(error, Unreachable) or error.status in (502, 503, 504)
        return passing and time.monotonic() < self._over_at

    async def pause(self) -> None:
        """Wait before the next attempt."""
        await asyncio.sleep(self._delay_s)
        self._delay_s = min(self._delay_s * 2, _RETRY_S[1])


def media_of(model: Path) -> tuple[str, bool]:
    """A model's media type, and whether its file is gzipped. Raises :class:`ValueError`."""
    packed = model.suffix.lower() == ".gz"
    extension = (model.with_suffix("") if packed else model).suffix.lower()
    if extension not in MEDIA:
        raise ValueError("must end in .mps, .lp, .mps.gz or .lp.gz")
    return MEDIA[extension], packed


async def _refusal(response: aiohttp.ClientResponse) -> Refused:
    """The problem that the API answered with, in a line."""
    try:
        problem = json.loads(await response.read())
        detail = str(problem.get("detail") or problem["title"])
        request_id = problem.get("request_id")
    except (ValueError, KeyError, AttributeError):
        problem, detail, request_id = {}, response.reason or "refused", None
    told = f" (request {request_id})" if response.status >= 500 and request_id else ""
    after = response.headers.get("Retry-After", "")
    if after.isdecimal():
        problem.setdefault("retry_after_s", int(after))
    return Refused(response.status, f"{detail}{told}", problem)


async def _pieces(path: Path) -> AsyncIterator[bytes]:
    file = await asyncio.to_thread(path.open, "rb")
    with file:
        while piece := await asyncio.to_thread(file.read, _PIECE):
            yield piece


async def _compressed(path: Path) -> AsyncIterator[bytes]:
    packer = zlib.compressobj(level=3, wbits=16 + zlib.MAX_WBITS)
    async for piece in _pieces(path):
        if packed := await asyncio.to_thread(packer.compress, piece):
            yield packed
    yield packer.flush()
