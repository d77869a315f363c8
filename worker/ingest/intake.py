"""What a worker has for its ingest jobs: the stores, the flag, and the cleaning up afterwards."""

import asyncio
import contextlib
from datetime import timedelta

from control.clock import Clock
from control.errors import DrawbridgeError, StoreUnavailable
from control.networks.removal import ABANDONED_S, Remover
from control.networks.schema import Schema
from control.networks.uploads import Uploads
from control.stores.graph import Graph
from worker.context import JobContext
from worker.ingest.kind import SWEEP_KIND
from worker.ingest.lamp import Lamp
from worker.ingest.payload import Ingested, IngestPayload
from worker.ingest.run import Ingest, UploadGone, patiently
from worker.ingest.survey import BadRows
from worker.jobs.manager import JobStateManager

SWEEP_AFTER_S = 150.0
"""When a replaced version is removed: who was reading it has had time to finish."""

KEPT_S = 86_400.0
"""How long the files of an upload are kept whose job never came to its end."""

_FAREWELL_S = 5.0


class Intake:
    """Runs ingest jobs and sweeps."""

    def __init__(
        self,
        *,
        graph: Graph,
        uploads: Uploads,
        lamp: Lamp,
        jobs: JobStateManager,
        clock: Clock,
    ) -> None:
        self._graph = graph
        self._schema = Schema(graph)
        self._uploads = uploads
        self.lamp = lamp
        self._jobs = jobs
        self._clock = clock

    async def ingest(self, context: JobContext, payload: IngestPayload) -> Ingested:
        """One ingest job; the flag is on from here to its end.

        A run that another attempt will follow leaves the flag on: that one turns it off.
        """
        run_id, attempt = context.run_id, context.attempt
        await patiently(context, lambda: self.lamp.begin(run_id, attempt))
        await self._sweep_later(context, "abandoned", ABANDONED_S + SWEEP_AFTER_S)
        try:
            await patiently(context, self._schema.ready)
            stored = await Ingest(
                context, payload, graph=self._graph, uploads=self._uploads, clock=self._clock
            ).run()
        except (BadRows, UploadGone) as error:
            if isinstance(error, BadRows):
                context.progress(phase="refused", bad_rows=error.told, bad_rows_count=error.count)
            await self._end(context)
            raise
        except asyncio.CancelledError:
            if context.cancel_reason in ("cancelled", "timeout"):
                with contextlib.suppress(StoreUnavailable, TimeoutError):
                    async with asyncio.timeout(_FAREWELL_S):
                        await self.lamp.end(run_id, attempt)
            raise
        await self._end(context)
        return stored

    async def sweep(self, context: JobContext) -> tuple[int, int]:
        """Remove what nobody needs: how many versions went, and how many have to go later."""
        await self._schema.ready()
        remover, removed = Remover(self._graph, self._clock), 0
        unneeded, left = await remover.unneeded()
        for version in unneeded:
            if context.draining:
                context.hand_back()
            removed += await remover.remove(version)
            context.progress(removed=removed, of=len(unneeded))
        for run_id, attempt in await self._uploads.old(KEPT_S):
            record = await self._jobs.get_job(run_id)
            if record is None or record.status.finished:
                await self._uploads.discard(run_id, attempt)
        return removed, left

    async def _end(self, context: JobContext) -> None:
        await patiently(context, lambda: self.lamp.end(context.run_id, context.attempt))
        await self._sweep_later(context, "replaced", SWEEP_AFTER_S)
        await patiently(context, lambda: self._uploads.discard(context.run_id, context.attempt))

    async def _sweep_later(self, context: JobContext, key: str, in_s: float) -> None:
        """A sweep that cannot be asked for now is made up for by the next ingest's."""
        at = self._clock.now() + timedelta(seconds=in_s)
        with contextlib.suppress(DrawbridgeError):
            await context.submit(SWEEP_KIND, run_at=at, key=key)
