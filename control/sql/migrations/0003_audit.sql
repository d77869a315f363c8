-- Every attempt to change a flag. seq has no gaps; hash covers the row and the hash before it
-- (control/flags/audit.py says how). before and after are json, not jsonb: kept to the byte.
CREATE TABLE drawbridge.audit (
    seq        bigint      PRIMARY KEY,
    at         timestamptz NOT NULL,
    actor      text        NOT NULL,
    action     text        NOT NULL,
    flag       text,
    before     json,
    after      json,
    reason     text,
    command_id text,
    request_id text,
    source     text        NOT NULL,
    outcome    text        NOT NULL,
    detail     text        NOT NULL,
    epoch      bigint      NOT NULL,
    version    bigint      NOT NULL,
    digest     bytea,
    previous   bytea       NOT NULL,
    hash       bytea       NOT NULL
);

-- A command is granted once. One that came too soon was not: it may come again under its id.
CREATE UNIQUE INDEX audit_command ON drawbridge.audit (command_id) WHERE outcome <> 'debounced';

-- What is written stays. The application's role, which owns the table, loses the right; the
-- trigger stops those who have it by rank.
REVOKE UPDATE, DELETE, TRUNCATE ON drawbridge.audit FROM CURRENT_USER, PUBLIC;

CREATE FUNCTION drawbridge.refuse_rewriting() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    RAISE EXCEPTION 'rows of drawbridge.audit are never changed or deleted'
        USING ERRCODE = 'insufficient_privilege';
END
$$;
CREATE TRIGGER append_only BEFORE UPDATE OR DELETE OR TRUNCATE ON drawbridge.audit
FOR EACH STATEMENT EXECUTE FUNCTION drawbridge.refuse_rewriting();
