-- name: open
INSERT INTO drawbridge.uploads (run_id) VALUES ($1)

-- name: append
INSERT INTO drawbridge.upload_pieces (run_id, file, piece, content) VALUES ($1, $2, $3, $4)

-- name: piece
SELECT content FROM drawbridge.upload_pieces WHERE run_id = $1 AND file = $2 AND piece = $3

-- name: remove
DELETE FROM drawbridge.uploads WHERE run_id = $1 AND attempt <= $2

-- name: exists
SELECT 1 FROM drawbridge.upload_pieces WHERE run_id = $1 LIMIT 1

-- name: begin
UPDATE drawbridge.uploads SET running = TRUE, attempt = $2
WHERE run_id = $1 AND attempt <= $2
RETURNING run_id

-- name: end
UPDATE drawbridge.uploads SET running = FALSE WHERE run_id = $1 AND attempt <= $2

-- name: running
SELECT run_id, attempt FROM drawbridge.uploads WHERE running = TRUE ORDER BY run_id

-- name: old
SELECT run_id, attempt FROM drawbridge.uploads
WHERE running = FALSE AND made_at < now() - make_interval(secs => $1)
ORDER BY run_id LIMIT 100

-- name: lock
SELECT pg_advisory_lock($1)

-- name: unlock
SELECT pg_advisory_unlock($1)
