-- name: begin
UPDATE drawbridge.status_state SET told = told + 1;

-- name: enter
INSERT INTO drawbridge.status_events (id, at, kind, subject, components, told)
VALUES ($1, $2, $3, $4, $5, $6);
