-- name: notice
INSERT INTO drawbridge.notices (id, kind, components, document, created_at)
VALUES ($1, $2, $3, $4, $5);

-- name: address
-- One delivery for each subscriber whom the notice concerns.
INSERT INTO drawbridge.deliveries (notice, subscriber, due_at)
SELECT $1, id, $3
FROM drawbridge.subscribers
WHERE state = 'active' AND (components = '{}' OR components && $2::text[] OR $2::text[] = '{}')
ON CONFLICT (notice, subscriber) DO NOTHING;

-- name: address_one
-- Before all that waits: somebody sits there and looks for it.
INSERT INTO drawbridge.deliveries (notice, subscriber, due_at)
VALUES ($1, $2, $3::timestamptz - interval '1 day');

-- name: claim
WITH held AS (
    SELECT count(*) AS count FROM drawbridge.deliveries
    WHERE state = 'pending' AND claimed_until > now()
), chosen AS (
    SELECT notice, subscriber
    FROM drawbridge.deliveries
    WHERE state = 'pending' AND due_at <= now()
        AND (claimed_until IS NULL OR claimed_until <= now())
    ORDER BY due_at
    LIMIT (SELECT greatest(0, least($1::bigint, $2::bigint - count)) FROM held)
    FOR UPDATE SKIP LOCKED
)
UPDATE drawbridge.deliveries AS d
SET claim = claim + 1, claimed_until = now() + make_interval(secs => $3)
FROM chosen
WHERE d.notice = chosen.notice AND d.subscriber = chosen.subscriber
RETURNING d.notice, d.subscriber, d.claim;

-- name: begin
-- A claim is good for one attempt: what comes again under it finds that it has moved on.
UPDATE drawbridge.deliveries AS d
SET attempts = attempts + 1, claim = claim + 1, claimed_until = now() + make_interval(secs => $4)
FROM drawbridge.notices AS n, drawbridge.subscribers AS s
WHERE d.notice = $1 AND d.subscriber = $2 AND d.claim = $3 AND d.state = 'pending'
    AND n.id = d.notice AND s.id = d.subscriber
RETURNING d.attempts, d.claim, n.kind, n.document, n.created_at, s.channel, s.address, s.secret,
    s.state, s.became, s.created_at AS requested_at;

-- name: sent
WITH done AS (
    UPDATE drawbridge.deliveries
    SET state = 'sent', settled_at = now(), claimed_until = NULL, detail = NULL
    WHERE notice = $1 AND subscriber = $2 AND claim = $3 AND state = 'pending'
    RETURNING subscriber
)
UPDATE drawbridge.subscribers SET failures = 0, detail = NULL
FROM done
WHERE id = done.subscriber AND failures > 0;

-- name: later
UPDATE drawbridge.deliveries
SET due_at = now() + make_interval(secs => $4), claimed_until = NULL, detail = $5
WHERE notice = $1 AND subscriber = $2 AND claim = $3 AND state = 'pending';

-- name: settle
UPDATE drawbridge.deliveries
SET state = $4, settled_at = now(), claimed_until = NULL, detail = $5
WHERE notice = $1 AND subscriber = $2 AND claim = $3 AND state = 'pending';

-- name: charge
UPDATE drawbridge.subscribers
SET failures = failures + 1, detail = $3,
    state = CASE WHEN state = 'active' AND failures + 1 >= $2 THEN 'quarantined' ELSE state END
WHERE id = $1
RETURNING state;

-- name: end_subscription
UPDATE drawbridge.subscribers SET state = 'ended', detail = $2
WHERE id = $1 AND state IN ('active', 'quarantined');

-- name: drop_waiting
UPDATE drawbridge.deliveries SET state = 'dropped', settled_at = now(), detail = $2
WHERE subscriber = $1 AND state = 'pending';

-- name: prune
DELETE FROM drawbridge.notices
WHERE id IN (
    SELECT id FROM drawbridge.notices AS n
    WHERE created_at < $1
        AND NOT EXISTS (
            SELECT FROM drawbridge.deliveries WHERE notice = n.id AND state = 'pending'
        )
    LIMIT $2
);

-- name: next_due
-- Seconds until the first is due that nobody holds; below 0 where there was no room for it.
SELECT extract(epoch FROM due_at - now())::float8 AS wait_s
FROM drawbridge.deliveries
WHERE state = 'pending' AND claimed_until IS NULL
ORDER BY due_at
LIMIT 1;
