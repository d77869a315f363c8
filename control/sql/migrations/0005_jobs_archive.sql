-- Jobs that have ended, one row for each run id: the newest end, where a job was run again.
-- `record` is the record as the API shows it, as JSON; `words` is what it is searched by; `result` is
-- JSON too, and null where there was none or it was too large to be kept; `result_bytes` tells, as it
-- was stored in Redis, where large ones are compressed.
CREATE TABLE drawbridge.jobs_archive (
    run_id         text        PRIMARY KEY CHECK (length(run_id) = 26),
    kind           text        NOT NULL,
    status         text        NOT NULL CHECK (status IN ('completed', 'failed', 'cancelled')),
    correlation_id text        NOT NULL,
    finished_at    timestamptz NOT NULL,
    record         text        NOT NULL,
    words          text        NOT NULL,
    result         text,
    result_bytes   integer     NOT NULL
);
CREATE INDEX jobs_archive_newest ON drawbridge.jobs_archive (finished_at DESC, run_id DESC);
CREATE INDEX jobs_archive_kind ON drawbridge.jobs_archive (kind, finished_at DESC, run_id DESC);
-- Most complete: a scan of the newest finds those.
CREATE INDEX jobs_archive_status ON drawbridge.jobs_archive (status, finished_at DESC, run_id DESC)
    WHERE status <> 'completed';
CREATE INDEX jobs_archive_correlation ON drawbridge.jobs_archive (correlation_id);
CREATE INDEX jobs_archive_words ON drawbridge.jobs_archive USING gin (to_tsvector('simple', words));
