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

-- name: lock
SELECT pg_advisory_xact_lock($1);

-- name: applied
SELECT version, name, checksum FROM drawbridge.migrations ORDER BY version;

-- name: record
INSERT INTO drawbridge.migrations (version, name, checksum) VALUES ($1, $2, $3);
