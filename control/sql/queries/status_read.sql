-- name: revision
SELECT checks, told, checked_at FROM drawbridge.status_state;

-- name: components
SELECT component.*,
       (SELECT max(upper(during)) FROM drawbridge.status_segments AS segment
        WHERE segment.component = component.number AND source <> 'check'
            AND upper(during) <= $1) AS released_at
FROM drawbridge.status_components AS component
WHERE retired_at IS NULL
ORDER BY position, name;

-- name: said
-- What others than checks say now.
SELECT component, source, status, lower(during) AS start, upper(during) AS end
FROM drawbridge.status_segments
WHERE source <> 'check' AND during @> $1::timestamptz;

-- name: days
SELECT component, day, operational_ms, degraded_ms, partial_ms, major_ms, maintenance_ms, unknown_ms
FROM drawbridge.status_days
WHERE day > $1::date - 90 AND day <= $1::date
ORDER BY component, day;

-- name: incidents
SELECT * FROM drawbridge.status_incidents
WHERE NOT draft AND (resolved_at IS NULL OR started_at > $1)
ORDER BY started_at DESC, id DESC
LIMIT $2;

-- name: drafts
SELECT * FROM drawbridge.status_incidents
WHERE draft
ORDER BY started_at DESC, id DESC
LIMIT $1;

-- name: incidents_between
SELECT * FROM drawbridge.status_incidents
WHERE NOT draft AND started_at >= $1 AND started_at < $2
ORDER BY started_at DESC, id DESC;

-- name: incident
SELECT * FROM drawbridge.status_incidents WHERE id = $1 AND (NOT draft OR $2::boolean);

-- name: updates
SELECT * FROM drawbridge.status_incident_updates
WHERE incident = ANY ($1)
ORDER BY at, id;

-- name: affected
SELECT link.incident, component.id, component.name, link.impact
FROM drawbridge.status_incident_components AS link
JOIN drawbridge.status_components AS component ON component.id = link.component
WHERE link.incident = ANY ($1)
ORDER BY component.position, component.name;

-- name: windows
SELECT win.*, series.recurrence
FROM drawbridge.status_windows AS win
LEFT JOIN drawbridge.status_series AS series ON series.id = win.series
WHERE win.status IN ('scheduled', 'in_progress') OR win.scheduled_end > $1 OR win.ended_at > $1
ORDER BY scheduled_start, win.id
LIMIT $2;

-- name: window
SELECT win.*, series.recurrence
FROM drawbridge.status_windows AS win
LEFT JOIN drawbridge.status_series AS series ON series.id = win.series
WHERE win.id = $1;

-- name: window_components
SELECT link.win, component.id, component.name
FROM drawbridge.status_window_components AS link
JOIN drawbridge.status_components AS component ON component.id = link.component
WHERE link.win = ANY ($1)
ORDER BY component.position, component.name;

-- name: names
SELECT id, name FROM drawbridge.status_components WHERE id = ANY ($1) ORDER BY position, name;
