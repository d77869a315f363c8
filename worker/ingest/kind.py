"""The ``ingest`` kind, which the API submits for an upload, and the one that cleans up later."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from control.errors import DrawbridgeError
from worker.ingest.payload import Ingested, IngestPayload
from worker.jobs.kinds import job

if TYPE_CHECKING:
    from worker.context import JobContext

KIND = "ingest"
SWEEP_KIND = "networks-sweep"


class StillRead(DrawbridgeError):
    """Somebody reads a version that was replaced; it is removed later."""

    retry_in_s = 150.0


@job(KIND, payload=IngestPayload, max_attempts=5, internal=True)
async def ingest(context: JobContext, payload: IngestPayload) -> Ingested:
    """Store an upload as the newest version of its network.

    Raises :class:`worker.ingest.survey.BadRows` and :class:`worker.ingest.run.UploadGone`.
    """
    # Not at the top: it would slow down the start of every CPU-bound job's process.
    from worker.ingest.intake import Intake  # noqa: PLC0415
    from worker.ingest.stores import IngestStores  # noqa: PLC0415

    return await Intake(context.resource(IngestStores)).ingest(context, payload)


@job(SWEEP_KIND, retry_on=(StillRead,), max_attempts=50, internal=True)
async def sweep(context: JobContext, _payload: Any) -> dict[str, int]:
    """Remove versions and uploaded files that nobody needs any more.

    Raises :class:`StillRead` where something has to be removed later.
    """
    from worker.ingest.intake import Intake  # noqa: PLC0415
    from worker.ingest.stores import IngestStores  # noqa: PLC0415

    removed, left = await Intake(context.resource(IngestStores)).sweep(context)
    if left:
        raise StillRead(f"{left} replaced versions are still being read")
    return {"removed": removed}
