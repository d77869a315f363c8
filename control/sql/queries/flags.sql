-- name: lock
-- Begins a transaction that holds the flags. A holder that was stopped (SIGSTOP) loses them after
-- a second; who waits for them gives up a little later than that.
BEGIN;
SET LOCAL idle_in_transaction_session_timeout = '1000ms';
SET LOCAL lock_timeout = '1400ms';
SELECT FROM drawbridge.flags_state FOR UPDATE;

-- name: commit
COMMIT;

-- name: read
SELECT state.epoch, state.version, flag.name, flag.is_active = TRUE AS is_active,
       flag.changed_at, flag.changed_by, flag.reason, flag.until, flag.mode
FROM drawbridge.flags_state AS state
LEFT JOIN base_pricing.bp_app_status_master AS flag ON flag.name = ANY ($1);

-- name: look
-- All that a change is judged by. Under the lock it is its own statement after `lock`: only that
-- sees what the holder before us committed.
SELECT state.epoch, state.version, flag.name, flag.is_active = TRUE AS is_active,
       flag.changed_at, flag.changed_by, flag.reason, flag.until, flag.mode,
       state.audit_seq, state.audit_hash, clock_timestamp() AS looked_at,
       seen.digest AS seen_digest, seen.outcome AS seen_outcome, seen.detail AS seen_detail
FROM drawbridge.flags_state AS state
LEFT JOIN base_pricing.bp_app_status_master AS flag ON flag.name = ANY ($1)
LEFT JOIN drawbridge.audit AS seen
    ON seen.command_id = $2 AND seen.outcome <> 'debounced';

-- name: append
-- The audit row ($1 to $18), the ends of both orders, and the flag where $19 says that it changed;
-- a new position is told to all who listen. Returns a row if it was done: nobody has written since
-- the look at $26, nobody is about to, and the look is not older than $27: who sent a statement
-- that a server carries out late, because it was frozen, has given it up.
WITH held AS (
    SELECT epoch, version, set_config('lock_timeout', '100ms', TRUE)
    FROM drawbridge.flags_state
    WHERE audit_seq = $1::bigint - 1 AND audit_hash = $17
        AND clock_timestamp() < $26::timestamptz + $27::interval
    FOR UPDATE SKIP LOCKED
), flag AS (
    INSERT INTO base_pricing.bp_app_status_master
        (name, is_active, changed_at, changed_by, reason, until, mode)
    SELECT $5, $20, $21, $22, $23, $24, $25
    FROM held
    WHERE $19::boolean
    ON CONFLICT (name) DO UPDATE SET
        is_active = excluded.is_active, changed_at = excluded.changed_at,
        changed_by = excluded.changed_by, reason = excluded.reason,
        until = excluded.until, mode = excluded.mode
), entry AS (
    INSERT INTO drawbridge.audit
        (seq, at, actor, action, flag, before, after, reason, command_id, request_id, source,
         outcome, detail, epoch, version, digest, previous, hash)
    SELECT $1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15, $16, $17, $18
    FROM held
), state AS (
    UPDATE drawbridge.flags_state
    SET epoch = $14, version = $15, audit_seq = $1, audit_hash = $18
    WHERE EXISTS (SELECT FROM held)
)
SELECT $9 AS command_id,
       CASE WHEN (epoch, version) <> ($14, $15)
            THEN pg_notify('drawbridge_flags', concat($14::bigint, '.', $15::bigint)) END
FROM held;

-- name: holds
SELECT TRUE FROM drawbridge.audit WHERE seq = $1 AND hash = $2;
