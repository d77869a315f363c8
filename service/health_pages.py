"""Health as pages: made from memory once for each snapshot, in full or for everybody.

Everybody sees states. Callers from a probe network, and whoever has the role viewer, see classes of
errors, latencies and details too; for others such members are null or left out. A token that is
not valid is no error here: its bearer is like everybody.
"""

import asyncio
from collections.abc import Callable, Coroutine, Iterable
from dataclasses import dataclass
from datetime import datetime
from http import HTTPStatus
from typing import Any

import msgspec
from aiohttp import web

from control.clock import Clock
from control.health.check import Result, Snapshot
from control.health.engine import Engine
from control.health.networks import ProbeNetworks
from control.health.probes import Probes
from control.health.report import (
    EXTERNAL,
    CheckReport,
    Status,
    Verdict,
    overall,
    report,
    slowest_ms,
    status,
)

GLANCE_S = 0.25
"""For looking up a token: probes are answered at once, whatever store is away."""

_KEPT_S = 1.0
_ENCODE = msgspec.json.Encoder().encode


@dataclass(frozen=True)
class Facts:
    """All that a page is made from."""

    results: dict[str, Result]
    monotonic: float
    timestamp: datetime
    full: bool
    ready: bool
    dependencies: dict[str, str]
    version: str
    environment: str
    uptime_s: float

    @property
    def overall(self) -> Verdict:
        """The verdict on the whole."""
        return overall(self.results.values(), self.monotonic)

    @property
    def serves(self) -> bool:
        """Whether nothing required is down."""
        return self.overall != "unhealthy"

    @property
    def slowest_ms(self) -> float | None:
        """How long the slowest probe took; ``None`` for who may not see it."""
        return slowest_ms(self.results.values()) if self.full else None

    def tagged(self, tag: str) -> list[Result]:
        """The checks that carry ``tag``."""
        return [result for result in self.results.values() if tag in result.tags]

    def reports(self, results: Iterable[Result]) -> dict[str, CheckReport]:
        """The checks by name; a service of others without the ``external:`` before its name."""
        return {result.name.removeprefix(f"{EXTERNAL}:"): self.report(result) for result in results}

    def report(self, result: Result) -> CheckReport:
        """One check, with as much as the reader may see."""
        return report(result, self.monotonic, full=self.full)

    def well(self, result: Result) -> bool:
        """Whether it answers."""
        return status(result, self.monotonic) in (Status.HEALTHY, Status.DEGRADED)


Page = Callable[[Facts], tuple[bool, Any]]
"""Makes a body; whether it is good news comes first."""


@dataclass(frozen=True)
class _Kept:
    """A page that was made, and what from."""

    basis: tuple[Snapshot, bool]
    good_until: float
    status: HTTPStatus
    body: bytes


class HealthPages:
    """Makes each page once for each snapshot and kind of reader, and keeps it that long.

    ``networks`` are those whose callers may see all; ``is_viewer`` tells by a caller's token.
    """

    def __init__(
        self,
        engine: Engine,
        probes: Probes,
        *,
        clock: Clock,
        environment: str,
        networks: ProbeNetworks,
        is_viewer: Callable[[web.Request], Coroutine[Any, Any, bool]],
    ) -> None:
        self._engine = engine
        self._probes = probes
        self._clock = clock
        self._environment = environment
        self._networks = networks
        self._is_viewer = is_viewer
        self._looking: set[asyncio.Task[bool]] = set()
        self._kept: dict[tuple[Page, bool], _Kept] = {}

    async def answer(
        self, request: web.Request, page: Page, media: str = "application/json"
    ) -> web.Response:
        """``page`` as it stands now, with as much as the caller may see."""
        return self.made(page, full=await self.may_see_all(request), media=media)

    def made(self, page: Page, *, full: bool, media: str) -> web.Response:
        """``page`` as it stands now."""
        monotonic = self._clock.monotonic()
        basis = (self._engine.snapshot, self._probes.shutting_down.is_set())
        kept = self._kept.get((page, full))
        if kept is None or kept.basis != basis or monotonic >= kept.good_until:
            facts = self._facts(monotonic, full=full)
            good, document = page(facts)
            ends = (r.stale_from for r in facts.results.values() if r.stale_from > monotonic)
            kept = self._kept[page, full] = _Kept(
                basis,
                min((monotonic + _KEPT_S, *ends)),
                HTTPStatus.OK if good else HTTPStatus.SERVICE_UNAVAILABLE,
                _ENCODE(document),
            )
        headers = {"Cache-Control": "no-store", "Content-Type": media}
        return web.Response(status=kept.status, body=kept.body, headers=headers)

    def _facts(self, monotonic: float, *, full: bool) -> Facts:
        ready, words = self._probes.readiness()
        return Facts(
            results=dict(self._engine.snapshot.results),
            monotonic=monotonic,
            timestamp=self._clock.now(),
            full=full,
            ready=ready,
            dependencies=words,
            version=self._probes.version,
            environment=self._environment,
            uptime_s=self._probes.uptime_s,
        )

    async def may_see_all(self, request: web.Request) -> bool:
        """Whether the caller is in a probe network, or has the role viewer at least.

        Who comes through a proxy has its address, so only the token counts then. The answer does
        not wait for a token that takes long to look up: the next request will find it remembered.
        """
        if self._networks.holds(request.remote, request.headers):
            return True
        if "Authorization" not in request.headers:
            return False
        task = asyncio.create_task(self._is_viewer(request), name="who asks for health")
        self._looking.add(task)
        task.add_done_callback(self._looking.discard)
        done, _ = await asyncio.wait({task}, timeout=GLANCE_S)
        return task.result() if done else False
