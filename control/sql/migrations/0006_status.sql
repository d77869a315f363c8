-- What the status page tells: components and how they were, incidents, maintenance windows.

-- One row. checks and told count what has changed: whoever holds a copy in memory asks for these
-- two alone. checks: components, segments, days. told: incidents and windows.
CREATE TABLE drawbridge.status_state (
    single       boolean     PRIMARY KEY DEFAULT TRUE CHECK (single),
    checks       bigint      NOT NULL DEFAULT 0,
    told         bigint      NOT NULL DEFAULT 0,
    checked_at   timestamptz,
    checked_by   text,
    requested_at timestamptz
);
INSERT INTO drawbridge.status_state DEFAULT VALUES;

-- What people are told of. checks names health checks, each with what it means when it fails:
-- database@major_outage. The rules of checks stand in the last columns, so that whoever takes over
-- goes on where the one before it stopped.
CREATE TABLE drawbridge.status_components (
    id            text        PRIMARY KEY CHECK (id ~ '^[a-z0-9][a-z0-9-]{0,62}$'),
    number        integer     NOT NULL UNIQUE GENERATED ALWAYS AS IDENTITY,
    name          text        NOT NULL CHECK (length(name) BETWEEN 1 AND 100),
    description   text        NOT NULL DEFAULT '',
    position      integer     NOT NULL DEFAULT 1000,
    checks        text[]      NOT NULL DEFAULT '{}',
    follows_flag  boolean     NOT NULL DEFAULT FALSE,
    configured    boolean     NOT NULL DEFAULT FALSE,
    created_at    timestamptz NOT NULL,
    retired_at    timestamptz,
    status        text        CHECK (status IN ('operational', 'degraded', 'partial_outage',
                                                'major_outage')),
    since         timestamptz,
    checked_at    timestamptz,
    pending       text        CHECK (pending IN ('operational', 'degraded', 'partial_outage',
                                                 'major_outage')),
    pending_since timestamptz,
    pending_count integer     NOT NULL DEFAULT 0,
    causes        text[]      NOT NULL DEFAULT '{}'
);

-- How each component was, by source. Of one source no two segments of a component overlap. The
-- sources check, incident, maintenance, override have lanes 0 to 3 of a component's number: with
-- both as ranges the constraint needs no extension. A check's segment ends with the newest check;
-- the others have no end while they last.
CREATE TABLE drawbridge.status_segments (
    id        bigint    PRIMARY KEY GENERATED ALWAYS AS IDENTITY,
    component integer   NOT NULL REFERENCES drawbridge.status_components (number),
    source    text      NOT NULL CHECK (source IN ('check', 'incident', 'maintenance', 'override')),
    status    text      NOT NULL CHECK (status IN ('operational', 'degraded', 'partial_outage',
                                                   'major_outage', 'under_maintenance')),
    during    tstzrange NOT NULL CHECK (NOT isempty(during) AND NOT lower_inf(during)),
    lane      int4range NOT NULL GENERATED ALWAYS AS (int4range(
        component * 4 + CASE source WHEN 'check' THEN 0 WHEN 'incident' THEN 1
                                    WHEN 'maintenance' THEN 2 ELSE 3 END,
        component * 4 + CASE source WHEN 'check' THEN 0 WHEN 'incident' THEN 1
                                    WHEN 'maintenance' THEN 2 ELSE 3 END, '[]')) STORED,
    CHECK ((source = 'maintenance') = (status = 'under_maintenance')),
    EXCLUDE USING gist (lane WITH &&, during WITH &&)
);
CREATE INDEX status_segments_during ON drawbridge.status_segments USING gist (during);

-- A day (UTC) of a component, counted from its segments; in milliseconds of that day. They add up
-- to what of the day the component has been there for.
CREATE TABLE drawbridge.status_days (
    component      integer NOT NULL REFERENCES drawbridge.status_components (number),
    day            date    NOT NULL,
    operational_ms integer NOT NULL,
    degraded_ms    integer NOT NULL,
    partial_ms     integer NOT NULL,
    major_ms       integer NOT NULL,
    maintenance_ms integer NOT NULL,
    unknown_ms     integer NOT NULL,
    PRIMARY KEY (component, day),
    CHECK (operational_ms + degraded_ms + partial_ms + major_ms + maintenance_ms + unknown_ms
           <= 86400000)
);

-- Incidents. cause: what the checks found, where they opened it; of one cause one is open at most.
-- A draft is for administrators until it is published.
CREATE TABLE drawbridge.status_incidents (
    id                   text        PRIMARY KEY CHECK (length(id) = 26),
    title                text        NOT NULL,
    description          text        NOT NULL,
    status               text        NOT NULL CHECK (status IN ('investigating', 'identified',
                                                                'monitoring', 'resolved')),
    severity             text        NOT NULL CHECK (severity IN ('minor', 'major', 'critical')),
    cause                text,
    draft                boolean     NOT NULL DEFAULT FALSE,
    touched              boolean     NOT NULL DEFAULT FALSE,
    started_at           timestamptz NOT NULL,
    created_at           timestamptz NOT NULL,
    updated_at           timestamptz NOT NULL,
    resolved_at          timestamptz,
    root_cause           text,
    resolution           text,
    estimated_resolution timestamptz,
    next_update          timestamptz,
    created_by           text        NOT NULL,
    CHECK ((status = 'resolved') = (resolved_at IS NOT NULL))
);
CREATE UNIQUE INDEX status_incidents_cause ON drawbridge.status_incidents (cause)
    WHERE cause IS NOT NULL AND resolved_at IS NULL;
CREATE INDEX status_incidents_started ON drawbridge.status_incidents (started_at DESC);

CREATE TABLE drawbridge.status_incident_components (
    incident  text NOT NULL REFERENCES drawbridge.status_incidents (id),
    component text NOT NULL REFERENCES drawbridge.status_components (id),
    impact    text NOT NULL CHECK (impact IN ('operational', 'degraded', 'partial_outage',
                                              'major_outage')),
    PRIMARY KEY (incident, component)
);
CREATE INDEX status_incident_components_component
    ON drawbridge.status_incident_components (component);

-- What was said of an incident, in order. What was said stays said.
CREATE TABLE drawbridge.status_incident_updates (
    id                   text        PRIMARY KEY CHECK (length(id) = 26),
    incident             text        NOT NULL REFERENCES drawbridge.status_incidents (id),
    at                   timestamptz NOT NULL,
    status               text        NOT NULL CHECK (status IN ('investigating', 'identified',
                                                                'monitoring', 'resolved')),
    message              text        NOT NULL,
    estimated_resolution timestamptz,
    next_update          timestamptz,
    affected             json        NOT NULL,
    author               text        NOT NULL
);
CREATE INDEX status_incident_updates_incident
    ON drawbridge.status_incident_updates (incident, at, id);

-- Recurring windows: their windows are made ahead, as rows of status_windows.
CREATE TABLE drawbridge.status_series (
    id           text        PRIMARY KEY CHECK (length(id) = 26),
    title        text        NOT NULL,
    description  text        NOT NULL,
    recurrence   text        NOT NULL,
    timezone     text        NOT NULL,
    first_start  timestamptz NOT NULL,
    length_s     integer     NOT NULL CHECK (length_s > 0),
    raise_bridge boolean     NOT NULL,
    components   text[]      NOT NULL,
    made_until   timestamptz,
    created_at   timestamptz NOT NULL,
    created_by   text        NOT NULL,
    ended_at     timestamptz
);

-- Maintenance windows. bridge: what the window has to do with app_maintenance; raising is written
-- with the command before it is sent, so that whoever finds it sends the same one again.
-- missed: it opened and closed while no instance lived.
CREATE TABLE drawbridge.status_windows (
    id              text        PRIMARY KEY CHECK (length(id) = 26),
    title           text        NOT NULL,
    description     text        NOT NULL,
    status          text        NOT NULL CHECK (status IN ('scheduled', 'in_progress', 'completed',
                                                           'cancelled')),
    scheduled_start timestamptz NOT NULL,
    scheduled_end   timestamptz NOT NULL,
    started_at      timestamptz,
    ended_at        timestamptz,
    raise_bridge    boolean     NOT NULL DEFAULT FALSE,
    bridge          text        CHECK (bridge IN ('raising', 'raised', 'yielded', 'lowering',
                                                  'done')),
    command         text,
    missed          boolean     NOT NULL DEFAULT FALSE,
    series          text        REFERENCES drawbridge.status_series (id),
    sequence        integer     NOT NULL DEFAULT 0,
    created_at      timestamptz NOT NULL,
    updated_at      timestamptz NOT NULL,
    created_by      text        NOT NULL,
    CHECK (scheduled_end > scheduled_start),
    UNIQUE (series, scheduled_start)
);
CREATE INDEX status_windows_start ON drawbridge.status_windows (scheduled_start DESC);
CREATE INDEX status_windows_live ON drawbridge.status_windows (scheduled_start)
    WHERE status IN ('scheduled', 'in_progress') OR bridge IN ('raising', 'lowering');

CREATE TABLE drawbridge.status_window_components (
    win       text NOT NULL REFERENCES drawbridge.status_windows (id),
    component text NOT NULL REFERENCES drawbridge.status_components (id),
    PRIMARY KEY (win, component)
);

-- Everything that was published, each with an id of its own, entered in the transaction that made
-- it true: what is to be told to others (feeds, subscribers) hangs on these rows.
CREATE TABLE drawbridge.status_events (
    id         text        PRIMARY KEY CHECK (length(id) = 26),
    at         timestamptz NOT NULL,
    kind       text        NOT NULL,
    subject    text        NOT NULL,
    components text[]      NOT NULL,
    told       json        NOT NULL
);
CREATE INDEX status_events_subject ON drawbridge.status_events (subject, id);

CREATE FUNCTION drawbridge.refuse_unsaying() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    RAISE EXCEPTION 'rows of % are never changed or deleted', TG_TABLE_NAME
        USING ERRCODE = 'insufficient_privilege';
END
$$;
CREATE TRIGGER append_only BEFORE UPDATE OR DELETE OR TRUNCATE
ON drawbridge.status_incident_updates
FOR EACH STATEMENT EXECUTE FUNCTION drawbridge.refuse_unsaying();
CREATE TRIGGER append_only BEFORE UPDATE OR DELETE OR TRUNCATE ON drawbridge.status_events
FOR EACH STATEMENT EXECUTE FUNCTION drawbridge.refuse_unsaying();
REVOKE UPDATE, DELETE, TRUNCATE
ON drawbridge.status_incident_updates, drawbridge.status_events FROM CURRENT_USER, PUBLIC;
