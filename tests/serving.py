"""The service inside the test's own loop, over a real socket."""

import contextlib
import socket
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass, replace
from typing import Any

import aiohttp
import msgspec
from aiohttp import web

from control import ids
from control.config import Config, load
from control.flags import commands, outcome
from control.flags.document import MAINTENANCE
from control.flags.plane import ControlPlane
from control.health.check import Result
from control.lifespan import Lifespan
from control.listener import serving, url_of
from control.migrations import migrate
from service import app as service_app
from service import examples
from service.appkeys import GATE, HEALTH, JOBS, PLANE
from service.gate import Gate
from tests.stack import wait_until
from worker.jobs.job import Claim, JobState, NewJob, Outcome, Spec
from worker.jobs.manager import JobStateManager

WORKER = "hand"


@dataclass
class Served:
    """A service that runs, and a client of it."""

    app: web.Application
    url: str
    http: aiohttp.ClientSession

    @property
    def jobs(self) -> JobStateManager:
        """The state of jobs, to move them by hand."""
        return self.app[JOBS]

    @property
    def plane(self) -> ControlPlane:
        """Its control plane."""
        return self.app[PLANE]

    @property
    def gate(self) -> Gate:
        """Who is let in while the bridge is up."""
        return self.app[GATE]

    async def put_flag(
        self, flag: str = MAINTENANCE, value: bool = True, **terms: Any
    ) -> outcome.Outcome:
        """Set a flag as Drawbridge itself does: never debounced. Applied here when it returns."""
        command = commands.new("set", flag, actor="by-hand", value=value, **terms)
        changed = await self.plane.change(command, internal=True)
        assert changed.done
        return changed

    async def checked(self, *names: str) -> Mapping[str, Result]:
        """Results of health checks that began after this was called."""
        for _ in range(2):  # the first may share a probe that began before
            snapshot = await self.app[HEALTH].refresh(*names)
        return snapshot.results

    async def claim(self, lane: str = "cpu") -> Claim:
        """The next job, claimed as a worker does."""
        await self.jobs.heartbeat(WORKER, [], join=True)
        claims = await self.jobs.claim(WORKER, lane, 1)
        assert len(claims) == 1
        return claims[0]

    async def finish(self, claim: Claim, status: JobState, **parts: Any) -> None:
        """End a claimed job."""
        outcome = Outcome(run_id=claim.run_id, token=claim.token, status=status, **parts)
        assert await self.jobs.finish(outcome)

    async def put(self, kind: str = "optimize", payload: bytes = b"{}", **spec: Any) -> str:
        """A job that did not come over HTTP; its run id."""
        run_id = ids.new_id()
        stated = Spec(kind=kind, correlation_id="by-hand", lane="cpu", **spec)
        await self.jobs.create_job(NewJob(run_id=run_id, spec=stated, payload=payload))
        return run_id


@contextlib.asynccontextmanager
async def served(config: Config, *, knowing: bool = True, **service: Any) -> AsyncIterator[Served]:
    """The service with ``config``, and ``service`` changed in its section.

    ``knowing``: it knows how the flags stand before the test begins.
    """
    config = replace(config, service=replace(config.service, **service))
    async with Lifespan(signals=False) as life:
        app = await service_app.build(config, life, instance=ids.new_id())
        listening = socket.create_server(("127.0.0.1", 0))
        await life.enter(serving(app, listening, entrance=config.entrance))
        url = url_of(listening)
        if knowing:
            await wait_until(app[PLANE].replica.admits)
        async with aiohttp.ClientSession(url) as http:
            yield Served(app, url, http)


async def with_database(config: Config, url: str) -> Config:
    """``config`` with the database at ``url``, brought up to date: for a test that changes flags,
    whose truth outlives an emptied Redis."""
    await migrate(url)
    return replace(config, postgres=replace(config.postgres, url=url))


async def problem(response: aiohttp.ClientResponse) -> dict[str, Any]:
    """The problem that ``response`` is, after a look at what every problem must have."""
    assert response.content_type == "application/problem+json"
    document: dict[str, Any] = msgspec.json.decode(await response.read())
    assert document.keys() >= {"type", "title", "status", "detail", "request_id"}
    assert document["status"] == response.status
    assert document["request_id"] == response.headers["X-Request-ID"]
    assert "Traceback" not in str(document)
    return document


MODEL = examples.MPS.encode()
"""Its optimum is 9: three of x and one of y."""

MPS = {"Content-Type": "application/x-mps"}

NOWHERE: Config = load(("test", {
    "REDIS_URL": "redis://127.0.0.1:1/0",
    "DATABASE_URL": "postgresql://127.0.0.1:1/none",
    "NEO4J_URI": "bolt://127.0.0.1:1",
}))  # fmt: skip
"""No store is there."""
