-- What instances report while they take the flags from PostgreSQL.

-- name: beat
-- The position is of the moment this statement began, so it proves what was known then.
WITH reported AS (
    INSERT INTO drawbridge.replicas (instance, report, seen_at)
    VALUES ($1, $2, now())
    ON CONFLICT (instance) DO UPDATE SET report = excluded.report, seen_at = excluded.seen_at
)
SELECT epoch, version FROM drawbridge.flags_state;

-- name: leave
DELETE FROM drawbridge.replicas
WHERE instance = $1 OR seen_at < now() - interval '1 minute';

-- name: live
SELECT report FROM drawbridge.replicas
WHERE seen_at > now() - make_interval(secs => $1)
ORDER BY instance;
