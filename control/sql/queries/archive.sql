-- name: stage
-- Rows come here first, by COPY, which knows no conflicts. It stays with the connection, empty.
CREATE TEMP TABLE IF NOT EXISTS jobs_archive_stage (LIKE drawbridge.jobs_archive INCLUDING DEFAULTS)
ON COMMIT DELETE ROWS;

-- name: store
INSERT INTO drawbridge.jobs_archive AS kept
    (run_id, kind, status, correlation_id, finished_at, record, words, result, result_bytes)
SELECT run_id, kind, status, correlation_id, finished_at, record, words, result, result_bytes
FROM jobs_archive_stage
ON CONFLICT (run_id) DO UPDATE
SET kind = excluded.kind, status = excluded.status, correlation_id = excluded.correlation_id,
    finished_at = excluded.finished_at, record = excluded.record, words = excluded.words,
    result = excluded.result, result_bytes = excluded.result_bytes
WHERE excluded.finished_at > kept.finished_at;

-- name: record
SELECT record FROM drawbridge.jobs_archive WHERE run_id = $1;

-- name: result
SELECT result, result_bytes FROM drawbridge.jobs_archive WHERE run_id = $1;

-- name: prune
DELETE FROM drawbridge.jobs_archive
WHERE run_id IN (
    SELECT run_id FROM drawbridge.jobs_archive
    WHERE finished_at < now() - make_interval(days => $1)
    ORDER BY finished_at
    LIMIT $2
);
