-- name: insert
INSERT INTO drawbridge.status_incidents
    (id, title, description, status, severity, cause, draft, started_at, created_at, updated_at,
     estimated_resolution, next_update, created_by)
VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $9, $10, $11, $12);

-- name: say
INSERT INTO drawbridge.status_incident_updates
    (id, incident, at, status, message, estimated_resolution, next_update, affected, author)
VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9);

-- name: stand
UPDATE drawbridge.status_incidents
SET status = $2, severity = $3, updated_at = $4, estimated_resolution = $5, next_update = $6,
    resolved_at = $7, root_cause = coalesce($8, root_cause),
    resolution = coalesce($9, resolution), touched = touched OR $10, draft = draft AND $11
WHERE id = $1;

-- name: explain
UPDATE drawbridge.status_incidents
SET root_cause = coalesce($2, root_cause), resolution = coalesce($3, resolution), updated_at = $4
WHERE id = $1;

-- name: affect
INSERT INTO drawbridge.status_incident_components (incident, component, impact)
VALUES ($1, $2, $3)
ON CONFLICT (incident, component) DO UPDATE SET impact = excluded.impact;

-- name: lock
SELECT touched, cause, draft FROM drawbridge.status_incidents WHERE id = $1 FOR UPDATE;

-- name: automatic
-- Open ones that checks opened, and those that they opened since $1.
SELECT id, cause, draft, touched, resolved_at, created_at
FROM drawbridge.status_incidents
WHERE cause IS NOT NULL AND (resolved_at IS NULL OR created_at >= $1);

-- name: impacts
SELECT component, impact FROM drawbridge.status_incident_components WHERE incident = $1;

-- name: maintained
SELECT DISTINCT component FROM drawbridge.status_segments
WHERE source = 'maintenance' AND upper_inf(during);
