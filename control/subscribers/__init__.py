"""Who is told of incidents and maintenance, and what waits to be told: addresses sealed at rest,
links that are signed, and an outbox in PostgreSQL."""
