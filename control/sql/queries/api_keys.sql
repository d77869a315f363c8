-- name: insert
INSERT INTO drawbridge.api_keys (id, name, role, digest, last_four, created_at, expires_at)
VALUES ($1, $2, $3, $4, $5, $6, $7);

-- name: by_digest
SELECT name, role, expires_at
FROM drawbridge.api_keys
WHERE digest = $1 AND revoked_at IS NULL;

-- name: all
SELECT id, name, role, last_four, created_at, expires_at, revoked_at
FROM drawbridge.api_keys
ORDER BY id;

-- name: revoke
UPDATE drawbridge.api_keys
SET revoked_at = $2
WHERE id = $1 AND revoked_at IS NULL;
