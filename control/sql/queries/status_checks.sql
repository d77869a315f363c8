-- name: round
-- Whoever writes segments holds the row, so that two never write at once.
UPDATE drawbridge.status_state AS state
SET checks = state.checks + 1, checked_at = $1, checked_by = $2,
    requested_at = CASE WHEN state.requested_at = $3 THEN NULL ELSE state.requested_at END
FROM (SELECT checked_at FROM drawbridge.status_state FOR UPDATE) AS before
RETURNING before.checked_at;

-- name: hold
SELECT FROM drawbridge.status_state FOR UPDATE;

-- name: touch
UPDATE drawbridge.status_state SET checks = checks + 1;

-- name: request
UPDATE drawbridge.status_state SET requested_at = $1;

-- name: requested
-- Whether a look that was asked for is still to come.
SELECT requested_at IS NOT NULL AS awaited FROM drawbridge.status_state;

-- name: tick
-- What there is to do now. It also keeps the session, and so the office, alive.
SELECT state.requested_at AS asked, state.checks,
       EXISTS (
           SELECT FROM drawbridge.status_windows
           WHERE status = 'scheduled' AND scheduled_start <= $1
              OR status = 'in_progress' AND scheduled_end <= $1
              OR bridge IN ('raising', 'lowering')
       ) AS due
FROM drawbridge.status_state AS state;

-- name: vacancy
-- Whether somebody holds the lock $2, and whether a window waits for somebody.
SELECT EXISTS (
           SELECT FROM pg_locks
           WHERE locktype = 'advisory' AND granted AND objsubid = 1
               AND classid::bigint = $2::bigint >> 32
               AND objid::bigint = $2::bigint & 4294967295
               AND database = (SELECT oid FROM pg_database WHERE datname = current_database())
       ) AS held,
       EXISTS (
           SELECT FROM drawbridge.status_windows
           WHERE status = 'scheduled' AND scheduled_start <= $1
              OR status = 'in_progress' AND scheduled_end <= $1
              OR bridge IN ('raising', 'lowering')
       ) AS due;

-- name: declare
INSERT INTO drawbridge.status_components
    (id, name, description, position, checks, follows_flag, configured, created_at)
VALUES ($1, $2, $3, $4, $5, $6, TRUE, $7)
ON CONFLICT (id) DO UPDATE SET
    name = excluded.name, description = excluded.description, position = excluded.position,
    checks = excluded.checks, follows_flag = excluded.follows_flag, configured = TRUE,
    retired_at = NULL
WHERE (status_components.name, status_components.description, status_components.position,
       status_components.checks, status_components.follows_flag, status_components.configured,
       status_components.retired_at IS NULL)
   IS DISTINCT FROM (excluded.name, excluded.description, excluded.position, excluded.checks,
                     excluded.follows_flag, TRUE, TRUE);

-- name: retire_others
UPDATE drawbridge.status_components SET retired_at = $2
WHERE configured AND retired_at IS NULL AND id <> ALL ($1);

-- name: judge
UPDATE drawbridge.status_components
SET status = $2, since = $3, checked_at = $4, pending = $5, pending_since = $6,
    pending_count = $7, causes = $8
WHERE number = $1;

-- name: extend
UPDATE drawbridge.status_segments
SET during = tstzrange(lower(during), greatest($2::timestamptz, lower(during) + interval '1 ms'))
WHERE id = (
    SELECT id FROM drawbridge.status_segments
    WHERE component = $1 AND source = 'check' ORDER BY lower(during) DESC LIMIT 1
);

-- name: begin
INSERT INTO drawbridge.status_segments (component, source, status, during)
VALUES ($1, 'check', $2, tstzrange($3::timestamptz, greatest($4, $3::timestamptz + interval '1 ms')));

-- name: impacts
SELECT component.number, incident.started_at, link.impact
FROM drawbridge.status_incidents AS incident
JOIN drawbridge.status_incident_components AS link ON link.incident = incident.id
JOIN drawbridge.status_components AS component ON component.id = link.component
WHERE incident.resolved_at IS NULL AND NOT incident.draft AND link.impact <> 'operational';

-- name: maintained
SELECT component.number, win.started_at
FROM drawbridge.status_windows AS win
JOIN drawbridge.status_window_components AS link ON link.win = win.id
JOIN drawbridge.status_components AS component ON component.id = link.component
WHERE win.status = 'in_progress'
UNION ALL
SELECT component.number, flag.changed_at
FROM base_pricing.bp_app_status_master AS flag
CROSS JOIN drawbridge.status_components AS component
WHERE flag.name = 'app_maintenance' AND flag.is_active = TRUE AND component.follows_flag;

-- name: lasting
SELECT id, component, source, status, lower(during) AS start
FROM drawbridge.status_segments
WHERE upper_inf(during) AND source IN ('incident', 'maintenance');

-- name: end
UPDATE drawbridge.status_segments
SET during = tstzrange(lower(during), greatest($2::timestamptz, lower(during) + interval '1 ms'))
WHERE id = $1;

-- name: last
-- It begins where the lane was silent.
INSERT INTO drawbridge.status_segments (component, source, status, during)
SELECT $1, $2, $3, tstzrange(greatest($4::timestamptz, (
    SELECT max(upper(during)) FROM drawbridge.status_segments
    WHERE component = $1 AND source = $2
)), NULL);

-- name: segments
SELECT component, source, status, lower(during) AS start, upper(during) AS end
FROM drawbridge.status_segments
WHERE during && tstzrange($1::timestamptz, $2::timestamptz);

-- name: day
INSERT INTO drawbridge.status_days
    (component, day, operational_ms, degraded_ms, partial_ms, major_ms, maintenance_ms, unknown_ms)
VALUES ($1, $2, $3, $4, $5, $6, $7, $8)
ON CONFLICT (component, day) DO UPDATE SET
    operational_ms = excluded.operational_ms, degraded_ms = excluded.degraded_ms,
    partial_ms = excluded.partial_ms, major_ms = excluded.major_ms,
    maintenance_ms = excluded.maintenance_ms, unknown_ms = excluded.unknown_ms;

-- name: create
INSERT INTO drawbridge.status_components
    (id, name, description, position, checks, follows_flag, created_at)
VALUES ($1, $2, $3, $4, $5, $6, $7)
ON CONFLICT (id) DO NOTHING;

-- name: change
UPDATE drawbridge.status_components
SET name = $2, description = $3, position = $4, checks = $5, follows_flag = $6
WHERE id = $1 AND retired_at IS NULL;

-- name: retire
UPDATE drawbridge.status_components SET retired_at = $2 WHERE id = $1 AND retired_at IS NULL;

-- name: origin
SELECT number, configured FROM drawbridge.status_components WHERE id = $1 AND retired_at IS NULL;

-- name: end_override
UPDATE drawbridge.status_segments
SET during = tstzrange(lower(during), greatest($2::timestamptz, lower(during) + interval '1 ms'))
WHERE component = $1 AND source = 'override' AND upper(during) > $2;

-- name: override
INSERT INTO drawbridge.status_segments (component, source, status, during)
SELECT $1, 'override', $2, tstzrange(greatest($3::timestamptz, (
    SELECT max(upper(during)) FROM drawbridge.status_segments
    WHERE component = $1 AND source = 'override'
)), $4::timestamptz);
