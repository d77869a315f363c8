"""An ingest job with what is around it: the flag, and the cleaning up afterwards."""

import asyncio
import contextlib
from datetime import timedelta

from control.errors import DrawbridgeError, StoreUnavailable
from control.networks.removal import ABANDONED_S, Remover
from worker.context import JobContext
from worker.ingest.kind import SWEEP_KIND
from worker.ingest.payload import Ingested, IngestPayload
from worker.ingest.run import Ingest, UploadGone, patiently
from worker.ingest.stores import IngestStores
from worker.ingest.survey import BadRows

SWEEP_AFTER_S = 150.0
"""When a replaced version is removed: who was reading it has had time to finish."""

KEPT_S = 86_400.0
"""How long the files of an upload are kept whose job never came to its end."""

_FAREWELL_S = 5.0


class Intake:
    """Runs ingest jobs and sweeps."""

    def __init__(self, stores: IngestStores) -> None:
        self._stores = stores

    async def ingest(self, context: JobContext, payload: IngestPayload) -> Ingested:
        """One ingest job; the flag is on from here to its end.

        A run that another attempt will follow leaves the flag on: that one turns it off.
        """
        stores, run_id, attempt = self._stores, context.run_id, context.attempt
        await patiently(context, lambda: stores.lamp.begin(run_id, attempt))
        await self._sweep_later(context, "abandoned", ABANDONED_S + SWEEP_AFTER_S)
        try:
            await patiently(context, stores.schema.ready)
            stored = await Ingest(
                context, payload, graph=stores.graph, uploads=stores.uploads, clock=stores.clock
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
                        await stores.lamp.end(run_id, attempt)
            raise
        await self._end(context)
        return stored

    async def sweep(self, context: JobContext) -> tuple[int, int]:
        """Remove what nobody needs: how many versions went, and how many have to go later."""
        stores = self._stores
        await stores.schema.ready()
        remover, removed = Remover(stores.graph, stores.clock), 0
        unneeded, left = await remover.unneeded()
        for version in unneeded:
            if context.draining:
                context.hand_back()
            removed += await remover.remove(version)
            context.progress(removed=removed, of=len(unneeded))
        for run_id, attempt in await stores.uploads.old(KEPT_S):
            record = await stores.jobs.get_job(run_id)
            if record is None or record.status.finished:
                await stores.uploads.discard(run_id, attempt)
        return removed, left

    async def _end(self, context: JobContext) -> None:
        stores, run_id, attempt = self._stores, context.run_id, context.attempt
        await patiently(context, lambda: stores.lamp.end(run_id, attempt))
        await self._sweep_later(context, "replaced", SWEEP_AFTER_S)
        await patiently(context, lambda: stores.uploads.discard(run_id, attempt))

    async def _sweep_later(self, context: JobContext, key: str, in_s: float) -> None:
        """A sweep that cannot be asked for now is made up for by the next ingest's."""
        at = self._stores.clock.now() + timedelta(seconds=in_s)
        with contextlib.suppress(DrawbridgeError):
            await context.submit(SWEEP_KIND, run_at=at, key=key)
