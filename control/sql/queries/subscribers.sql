-- name: request
INSERT INTO drawbridge.subscribers
    (id, channel, address, address_index, sealed_with, secret, components, created_at)
VALUES ($1, $2, $3, $4, $5, $6, $7, $8);

-- name: get
SELECT * FROM drawbridge.subscribers WHERE id = $1;

-- name: lock
SELECT * FROM drawbridge.subscribers WHERE id = $1 FOR UPDATE;

-- name: one_at_a_time
-- Two requests for one address are confirmed one after the other.
SELECT pg_advisory_xact_lock($1);

-- name: same_address
-- The one that is not a mere request; its index may come from an older secret.
SELECT * FROM drawbridge.subscribers
WHERE channel = $1 AND address_index = ANY ($2::bytea[]) AND state <> 'pending'
ORDER BY id
LIMIT 1
FOR UPDATE;

-- name: activate
UPDATE drawbridge.subscribers
SET state = 'active', address = $2, address_index = $3, sealed_with = $4, secret = $5,
    components = $6, failures = 0, detail = NULL, confirmed_at = $7
WHERE id = $1;

-- name: became
UPDATE drawbridge.subscribers SET became = $2, secret = NULL WHERE id = $1;

-- name: change
UPDATE drawbridge.subscribers
SET components = $2, failures = 0, detail = NULL, state = 'active'
WHERE id = $1 AND state <> 'pending'
RETURNING *;

-- name: remove
DELETE FROM drawbridge.subscribers WHERE id = $1;

-- name: page
SELECT * FROM drawbridge.subscribers
WHERE ($1::text IS NULL OR id < $1)
    AND ($2::text IS NULL OR channel = $2)
    AND ($3::text IS NULL OR state = $3)
    AND ($4::bytea[] IS NULL OR address_index = ANY ($4))
    AND became IS NULL
ORDER BY id DESC
LIMIT $5;

-- name: sealed_before
SELECT * FROM drawbridge.subscribers WHERE sealed_with <> $1 AND id > $2 ORDER BY id LIMIT $3;

-- name: seal_anew
-- Not where it was changed since it was read.
UPDATE drawbridge.subscribers
SET address = $3, address_index = $4, sealed_with = $5, secret = $6
WHERE id = $1 AND address = $2;

-- name: forget_requests
DELETE FROM drawbridge.subscribers
WHERE id IN (
    SELECT id FROM drawbridge.subscribers WHERE state = 'pending' AND created_at < $1 LIMIT $2
);

-- name: components
SELECT id, name FROM drawbridge.status_components
WHERE retired_at IS NULL
ORDER BY position, number;
