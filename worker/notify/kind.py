"""The ``notify`` kind: one attempt to tell one subscriber one thing.

Everything that matters is in PostgreSQL; the job brings an attempt to a worker that has a slot
free. That it comes twice, late or never does no harm: its claim is good for one attempt, and ends.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from control.subscribers.claim import CLAIM_S, Claim
from worker.jobs.kinds import job

if TYPE_CHECKING:
    from worker.context import JobContext

KIND = "notify"


@job(KIND, payload=Claim, max_attempts=1, timeout_s=CLAIM_S, internal=True)
async def notify(context: JobContext, payload: Claim) -> dict[str, str]:
    """Make the attempt; what became of it."""
    # Not at the top: it would slow down the start of every CPU-bound job's process.
    from worker.notify.courier import Courier  # noqa: PLC0415

    return {"outcome": await context.resource(Courier).deliver(payload)}
