-- What instances say of themselves while Redis is away. Worth nothing after a crash: unlogged.
CREATE UNLOGGED TABLE drawbridge.replicas (
    instance text        PRIMARY KEY,
    report   text        NOT NULL,
    seen_at  timestamptz NOT NULL
);
