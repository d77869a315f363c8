-- name: page
SELECT seq, at, actor, action, flag, before, after, reason, command_id, request_id, source,
       outcome, detail, epoch, version, encode(hash, 'hex') AS hash
FROM drawbridge.audit
WHERE seq < $1
    AND ($2::text IS NULL OR flag = $2)
    AND ($3::text IS NULL OR actor = $3)
    AND ($4::text IS NULL OR outcome = $4)
    AND ($5::timestamptz IS NULL OR at >= $5)
ORDER BY seq DESC
LIMIT $6;

-- name: chain
-- Microseconds since 1970 instead of a moment: a forged one may be beyond what Python can hold.
SELECT seq, CASE WHEN isfinite(at) THEN extract(epoch FROM at) * 1000000 END::bigint AS at_us,
       actor, action, flag, before, after, reason, command_id, request_id, source,
       outcome, detail, epoch, version, digest, previous, hash
FROM drawbridge.audit
ORDER BY seq;

-- name: end
SELECT audit_seq, audit_hash FROM drawbridge.flags_state;
