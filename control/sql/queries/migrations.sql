-- name: exists
SELECT to_regclass('drawbridge.migrations') IS NOT NULL;

-- name: create
CREATE SCHEMA IF NOT EXISTS drawbridge;
CREATE TABLE IF NOT EXISTS drawbridge.migrations (
    version    integer     PRIMARY KEY,
    name       text        NOT NULL,
    checksum   text        NOT NULL,
    applied_at timestamptz NOT NULL DEFAULT now()
);
ALTER TABLE drawbridge.migrations ADD COLUMN IF NOT EXISTS since integer;

-- name: lock
SELECT pg_advisory_xact_lock($1);

-- name: applied
-- The column came later than the table.
SELECT version, name, checksum, (to_jsonb(entered) ->> 'since')::integer AS since
FROM drawbridge.migrations AS entered
ORDER BY version;

-- name: record
INSERT INTO drawbridge.migrations (version, name, checksum, since) VALUES ($1, $2, $3, $4);
