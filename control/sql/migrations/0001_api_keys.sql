-- Keys of callers. A key itself is never stored: only its SHA-256, and its last four
-- characters so that people recognise it. A revoked key keeps its row, for the record.
CREATE TABLE drawbridge.api_keys (
    id         text        PRIMARY KEY CHECK (length(id) = 26),
    name       text        NOT NULL CHECK (length(name) BETWEEN 1 AND 100),
    role       text        NOT NULL CHECK (role IN ('viewer', 'operator', 'administrator')),
    digest     bytea       NOT NULL UNIQUE CHECK (length(digest) = 32),
    last_four  text        NOT NULL CHECK (length(last_four) = 4),
    created_at timestamptz NOT NULL,
    expires_at timestamptz CHECK (expires_at > created_at),
    revoked_at timestamptz
);
