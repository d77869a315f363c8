"""What one instance sees: its health checks, and who is live in the fleet."""

import asyncio
import contextlib
from collections.abc import Awaitable, Callable, Iterable, Sequence, Set

from control.clock import Clock
from control.errors import StoreUnavailable
from control.flags.presence import Kind, Roll
from control.health.engine import Engine
from control.status import components
from control.status.components import (
    SERVICE,
    WORKER,
    WORKERS,
    Definition,
    Found,
    Observation,
)

_ROLL_S = 3.0
_AFRESH_S = 3.0
_NAMES: dict[str, Kind] = {SERVICE: "service", WORKER: "worker"}


class Watch:
    """Looks at components through ``engine``; ``roll`` tells who is live, ``kind`` what this
    instance is itself."""

    def __init__(
        self, engine: Engine, roll: Callable[[], Awaitable[Roll]], kind: Kind, clock: Clock
    ) -> None:
        self._engine = engine
        self._roll = roll
        self._kind = kind
        self._clock = clock
        self._fleet: dict[str, Found] = {}

    async def look(
        self, definitions: Sequence[Definition], *, afresh: bool = False
    ) -> dict[str, Observation]:
        """What is found now, by component. The checks run by themselves, in the background; only
        the fleet is asked for. ``afresh``: those that tell of a component are run once more, as
        far as they answer soon."""
        if afresh:
            await self._refresh({ref.name for each in definitions for ref in each.checks})
        self._fleet = await self._live()
        return self.glance(definitions)

    async def _refresh(self, names: Set[str]) -> None:
        if known := names & self._engine.snapshot.results.keys():
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(_AFRESH_S):
                    await self._engine.refresh(*known)

    def glance(self, definitions: Iterable[Definition]) -> dict[str, Observation]:
        """The same from memory."""
        found = components.of_snapshot(self._engine.snapshot, self._clock.monotonic())
        found |= self._fleet
        found.setdefault(WORKERS, self._fleet.get(WORKER, Found.UNKNOWN))
        seen = {each.id: components.observed(each.checks, found) for each in definitions}
        return {id_: observation for id_, observation in seen.items() if observation is not None}

    async def _live(self) -> dict[str, Found]:
        try:
            async with asyncio.timeout(_ROLL_S):
                roll = await self._roll()
        except (StoreUnavailable, TimeoutError):
            roll = Roll([], whole=False)
        live = {self._kind, *(report.kind for report in roll.replicas)}
        absent = Found.DOWN if roll.whole else Found.UNKNOWN
        return {name: Found.WELL if kind in live else absent for name, kind in _NAMES.items()}
