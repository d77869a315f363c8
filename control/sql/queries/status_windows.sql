-- name: insert
INSERT INTO drawbridge.status_windows
    (id, title, description, status, scheduled_start, scheduled_end, raise_bridge, series,
     created_at, updated_at, created_by)
VALUES ($1, $2, $3, 'scheduled', $4, $5, $6, $7, $8, $8, $9)
ON CONFLICT (series, scheduled_start) DO NOTHING;

-- name: affect
INSERT INTO drawbridge.status_window_components (win, component)
SELECT $1, id FROM drawbridge.status_components WHERE id = ANY ($2)
ON CONFLICT DO NOTHING;

-- name: forget
DELETE FROM drawbridge.status_window_components WHERE win = $1;

-- name: lock
SELECT bridge FROM drawbridge.status_windows WHERE id = $1 FOR UPDATE;

-- name: change
UPDATE drawbridge.status_windows
SET title = $2, description = $3, scheduled_start = $4, scheduled_end = $5, raise_bridge = $6,
    updated_at = $7, sequence = sequence + 1
WHERE id = $1;

-- name: due
SELECT id, status, scheduled_start, scheduled_end
FROM drawbridge.status_windows
WHERE status = 'scheduled' AND scheduled_start <= $1
   OR status = 'in_progress' AND scheduled_end <= $1
ORDER BY scheduled_start, id
FOR UPDATE;

-- name: start
UPDATE drawbridge.status_windows
SET status = 'in_progress', started_at = $2, updated_at = $2,
    bridge = CASE WHEN raise_bridge THEN 'raising' END
WHERE id = $1;

-- name: end
UPDATE drawbridge.status_windows
SET status = 'completed', ended_at = greatest($2, started_at), updated_at = $2,
    bridge = CASE WHEN bridge = 'raising' AND command IS NOT NULL THEN 'lowering'
                  WHEN bridge IS NOT NULL THEN 'done' END
WHERE id = $1;

-- name: miss
UPDATE drawbridge.status_windows
SET status = 'completed', missed = TRUE, ended_at = scheduled_end, updated_at = $2
WHERE id = $1;

-- name: cancel
UPDATE drawbridge.status_windows
SET status = 'cancelled', updated_at = $2, ended_at = $2, sequence = sequence + 1
WHERE id = $1;

-- name: unsettled
-- Windows that have begun to raise the bridge and are not known to have done so.
SELECT id, title, scheduled_end, bridge, command
FROM drawbridge.status_windows
WHERE bridge IN ('raising', 'lowering')
ORDER BY scheduled_start, id;

-- name: live
SELECT id, title, scheduled_end
FROM drawbridge.status_windows
WHERE status = 'in_progress' AND bridge IN ('raising', 'raised');

-- name: intend
-- The command is there before it is sent. Whoever comes second sends the same one.
UPDATE drawbridge.status_windows
SET command = CASE WHEN command IS NOT DISTINCT FROM $2 THEN $3 ELSE command END
WHERE id = $1 AND bridge = 'raising'
RETURNING command;

-- name: settle
UPDATE drawbridge.status_windows SET bridge = $2 WHERE id = $1 AND bridge = $3;

-- name: insert_series
INSERT INTO drawbridge.status_series
    (id, title, description, recurrence, timezone, first_start, length_s, raise_bridge, components,
     created_at, created_by)
VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11);

-- name: series
SELECT * FROM drawbridge.status_series WHERE ended_at IS NULL AND ($1::text IS NULL OR id = $1)
ORDER BY id FOR UPDATE;

-- name: made
UPDATE drawbridge.status_series SET made_until = $2 WHERE id = $1;

-- name: end_series
UPDATE drawbridge.status_series SET ended_at = $2 WHERE id = $1 AND ended_at IS NULL;

-- name: series_windows
SELECT id FROM drawbridge.status_windows
WHERE series = $1 AND status = 'scheduled'
ORDER BY scheduled_start;

-- name: ahead
SELECT count(*) FROM drawbridge.status_windows WHERE series = $1 AND status = 'scheduled';
