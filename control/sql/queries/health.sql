-- name: probe
SELECT pg_is_in_recovery() AS in_recovery,
       (SELECT sum(numbackends)::int FROM pg_stat_database) AS connections,
       current_setting('max_connections')::int AS max_connections;
