"""Who sees what the fleet does, without asking the fleet: a client that hammers, and MONITOR."""

import asyncio
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from typing import NamedTuple

import msgspec
import yarl

from control import cancelling
from tests.stack import SO_S, wait_until

_BODY = b"not a model"
_RECONNECT_S = 0.05


class Answer(NamedTuple):
    """One request to a guarded route. Times are monotonic seconds of the test's process."""

    service: int
    sent: float
    done: float
    status: int
    problem: str
    """The last word of the problem's type."""

    @property
    def refused(self) -> bool:
        """Whether the gate kept it out."""
        return self.status == 503 and self.problem in ("bridge-up", "control_state_stale")


class Observer:
    """Hammers a guarded route of every service, one request after the other on each connection.

    The route is a submission of a type that nobody takes: past the gate it is refused with 415,
    and no store is asked.
    """

    def __init__(self, urls: Sequence[str], *, pace_s: float) -> None:
        self.answers: list[Answer] = []
        self._urls = urls
        self._pace_s = pace_s

    def admitted_after(self, moment: float) -> list[Answer]:
        """What passed a gate though it was sent after ``moment``."""
        return [a for a in self.answers if a.sent > moment and not a.refused]

    def answers_of(self, service: int, *, since: float) -> list[Answer]:
        """What one service answered to what was sent after ``since``."""
        return [a for a in self.answers if a.service == service and a.sent > since]

    async def all_say(self, *, refused: bool, since: float, deadline_s: float = SO_S) -> None:
        """Wait until each service has answered so, and nothing else later, after ``since``."""
        for service in range(len(self._urls)):
            await self.says(service, refused=refused, since=since, deadline_s=deadline_s)

    async def says(
        self, service: int, *, refused: bool, since: float, deadline_s: float = SO_S
    ) -> Answer:
        """Wait for the first such answer of one service to what was sent after ``since``."""

        def found() -> Answer | None:
            late = (a for a in reversed(self.answers) if a.service == service and a.sent > since)
            return next((a for a in late if a.refused is refused), None)

        answer: Answer = await wait_until(found, deadline_s)
        return answer

    async def hammer(self, service: int) -> None:
        """Ask one service for ever; a connection that ends is made anew."""
        url = yarl.URL(self._urls[service])
        head = (
            f"POST /optimize HTTP/1.1\r\nHost: {url.authority}\r\n"
            f"Content-Type: text/plain\r\nContent-Length: {len(_BODY)}\r\n\r\n"
        )
        request = head.encode() + _BODY
        while True:
            try:
                reader, writer = await asyncio.open_connection(url.host, url.port)
            except OSError:
                await asyncio.sleep(_RECONNECT_S)
                continue
            try:
                while True:
                    sent = time.monotonic()
                    writer.write(request)
                    status, problem = await _answer(reader)
                    self.answers.append(Answer(service, sent, time.monotonic(), status, problem))
                    await asyncio.sleep(self._pace_s)  # the rate of the load, no wait for anything
            except (OSError, asyncio.IncompleteReadError):
                pass
            finally:
                writer.transport.abort()


async def _answer(reader: asyncio.StreamReader) -> tuple[int, str]:
    head = await reader.readuntil(b"\r\n\r\n")
    fields = dict(line.lower().split(b": ", 1) for line in head.split(b"\r\n")[1:] if b": " in line)
    body = await reader.readexactly(int(fields[b"content-length"]))
    problem = (
        msgspec.json.decode(body)["type"] if b"problem+json" in fields[b"content-type"] else ""
    )
    return int(head[9:12]), problem.rpartition("/")[2]


@asynccontextmanager
async def observed(
    urls: Sequence[str], *, connections: int = 2, pace_s: float = 0.005
) -> AsyncIterator[Observer]:
    """Hammer the services for the block; it begins once each has answered."""
    observer = Observer(urls, pace_s=pace_s)
    hammers = [
        asyncio.create_task(observer.hammer(service))
        for service in range(len(urls))
        for _ in range(connections)
    ]
    try:
        await wait_until(lambda: {a.service for a in observer.answers} == set(range(len(urls))))
        yield observer
    finally:
        await cancelling.end(*hammers)
        failed = [hammer.exception() for hammer in hammers if not hammer.cancelled()]
        assert not failed, failed


class Journal:
    """The order in which Redis carried out what matters, from its own MONITOR.

    ``R`` the bridge is raised, ``L`` lowered, ``A`` a job accepted, ``C`` a job claimed.
    """

    def __init__(self) -> None:
        self.steps: list[str] = []

    def read(self, line: bytes) -> None:
        """Take in one line of MONITOR."""
        if b'lua] "HSET"' not in line:
            return
        if b'{jobs}:flags"' in line:
            if b'"app_maintenance" "1"' in line:
                self.steps.append("R")
            elif b'"app_maintenance" "0"' in line:
                self.steps.append("L")
        elif b'"submitted_at"' in line:
            self.steps.append("A")
        elif b'"status" "running"' in line:
            self.steps.append("C")

    def count(self, step: str) -> int:
        """How often a step was taken."""
        return self.steps.count(step)

    def behind_the_bridge(self) -> list[str]:
        """The jobs accepted or claimed while the bridge was up; there must be none."""
        raised, found = False, []
        for step in self.steps:
            if step in "RL":
                raised = step == "R"
            elif raised:
                found.append(step)
        return found


@asynccontextmanager
async def monitored(socket: str) -> AsyncIterator[Journal]:
    """Write down for the block what the Redis at this unix socket does."""
    reader, writer = await asyncio.open_unix_connection(socket, limit=1 << 24)
    writer.write(b"MONITOR\r\n")
    assert await reader.readline() == b"+OK\r\n"
    journal = Journal()

    async def read() -> None:
        while line := await reader.readline():
            journal.read(line)

    reading = asyncio.create_task(read())
    try:
        yield journal
    finally:
        await cancelling.end(reading)
        writer.transport.abort()
