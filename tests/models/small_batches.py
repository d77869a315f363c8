"""Named in DRAWBRIDGE_JOBS, has a worker write networks in many small steps."""

from worker.ingest import run

run.BATCH = 100
