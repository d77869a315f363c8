-- The flags, in the table that other systems of the house read too. A table of that name that is
-- there already is taken over: is_active becomes BOOLEAN (it used to be SMALLINT), its rows stay.
CREATE SCHEMA IF NOT EXISTS base_pricing;

CREATE TABLE IF NOT EXISTS base_pricing.bp_app_status_master (
    name      text    PRIMARY KEY,
    is_active boolean NOT NULL DEFAULT FALSE
);

DO $take_over$
DECLARE
    flags    CONSTANT regclass := 'base_pricing.bp_app_status_master';
    words    CONSTANT regtype[] := '{text,character varying,character}';
    kind     regtype;
    naming   text;
    found    record;
BEGIN
    IF (SELECT relkind FROM pg_class WHERE oid = flags) <> 'r' THEN
        RAISE EXCEPTION '% is no ordinary table', flags;
    END IF;

    -- 1. Which column names the flags: a usual name for it, else the only column that holds text.
    SELECT attname INTO naming
    FROM pg_attribute
    JOIN unnest('{name,app_status_name,status_name,flag_name,app_name,key,code,flag,status}'::text[])
        WITH ORDINALITY AS usual (word, rank) ON attname = word
    WHERE attrelid = flags AND NOT attisdropped AND atttypid = ANY (words)
    ORDER BY rank
    LIMIT 1;
    IF naming IS NULL THEN
        SELECT min(attname::text) INTO naming
        FROM pg_attribute
        WHERE attrelid = flags AND attnum > 0 AND NOT attisdropped AND atttypid = ANY (words)
            AND attname <> ALL ('{is_active,changed_by,created_by,updated_by,reason,mode,description}')
        HAVING count(*) = 1;
    END IF;
    IF naming IS NULL THEN
        RAISE EXCEPTION '% has no text column that names its flags', flags
            USING HINT = 'Rename the column that does to "name", then migrate again.';
    END IF;
    IF naming <> 'name' THEN
        EXECUTE format('ALTER TABLE %s RENAME COLUMN %I TO name', flags, naming);
    END IF;

    -- 2. is_active: BOOLEAN NOT NULL DEFAULT FALSE. Checks and partial indexes on the numbers go.
    SELECT atttypid INTO kind
    FROM pg_attribute
    WHERE attrelid = flags AND attname = 'is_active' AND NOT attisdropped;
    IF kind IS NULL OR kind <> ALL ('{boolean,smallint,integer,bigint}'::regtype[]) THEN
        RAISE EXCEPTION '%.is_active is %, neither SMALLINT nor BOOLEAN',
            flags, coalesce(kind::text, 'missing');
    END IF;
    IF kind <> 'boolean'::regtype THEN
        FOR found IN
            SELECT conname FROM pg_constraint
            WHERE conrelid = flags AND contype = 'c'
                AND (SELECT attnum FROM pg_attribute
                     WHERE attrelid = flags AND attname = 'is_active') = ANY (conkey)
        LOOP
            EXECUTE format('ALTER TABLE %s DROP CONSTRAINT %I', flags, found.conname);
        END LOOP;
        FOR found IN
            SELECT indexrelid::regclass AS index FROM pg_index
            WHERE indrelid = flags
                AND (pg_get_expr(indpred, indrelid) ~ '\yis_active\y'
                     OR pg_get_expr(indexprs, indrelid) ~ '\yis_active\y')
        LOOP
            EXECUTE format('DROP INDEX %s', found.index);
        END LOOP;
        ALTER TABLE base_pricing.bp_app_status_master
            ALTER COLUMN is_active DROP DEFAULT,
            ALTER COLUMN is_active TYPE boolean USING coalesce(is_active <> 0, FALSE);
    END IF;
    UPDATE base_pricing.bp_app_status_master SET is_active = FALSE WHERE is_active IS NULL;
    ALTER TABLE base_pricing.bp_app_status_master
        ALTER COLUMN is_active SET DEFAULT FALSE,
        ALTER COLUMN is_active SET NOT NULL;

    -- 3. The name: text, there, and once; of rows with one name an active one stays.
    IF EXISTS (SELECT FROM base_pricing.bp_app_status_master WHERE btrim(name) = '' OR name IS NULL)
    THEN
        RAISE EXCEPTION '% has rows without a name', flags
            USING HINT = 'Name or delete them, then migrate again.';
    END IF;
    ALTER TABLE base_pricing.bp_app_status_master
        ALTER COLUMN name TYPE text,
        ALTER COLUMN name SET NOT NULL;
    DELETE FROM base_pricing.bp_app_status_master
    WHERE ctid IN (
        SELECT ctid
        FROM (
            SELECT ctid, row_number() OVER (
                PARTITION BY CASE WHEN lower(btrim(name)) IN ('app_maintenance', 'app_data_ingestion')
                                  THEN lower(btrim(name)) ELSE name END
                ORDER BY is_active DESC, ctid
            ) AS place
            FROM base_pricing.bp_app_status_master
        ) AS ranked
        WHERE place > 1
    );
    UPDATE base_pricing.bp_app_status_master
    SET name = lower(btrim(name))
    WHERE lower(btrim(name)) IN ('app_maintenance', 'app_data_ingestion')
        AND name <> lower(btrim(name));
    IF NOT EXISTS (
        SELECT FROM pg_index
        JOIN pg_attribute ON attrelid = indrelid AND attnum = indkey[0]
        WHERE indrelid = flags AND attname = 'name' AND indnkeyatts = 1
            AND indisunique AND indisvalid AND indimmediate AND indpred IS NULL
    ) THEN
        ALTER TABLE base_pricing.bp_app_status_master ADD UNIQUE (name);
    END IF;

    -- 4. Who moved a flag, when and why. A column that is there keeps its values.
    FOR found IN
        SELECT word, wanted, atttypid::regtype AS present
        FROM (VALUES ('changed_at', 'timestamptz'), ('changed_by', 'text'), ('reason', 'text'),
                     ('until', 'timestamptz'), ('mode', 'text')) AS columns (word, wanted)
        LEFT JOIN pg_attribute ON attrelid = flags AND attname = word AND NOT attisdropped
    LOOP
        IF found.present IS NULL THEN
            EXECUTE format('ALTER TABLE %s ADD COLUMN %I %s', flags, found.word, found.wanted);
        ELSE
            EXECUTE format('ALTER TABLE %s ALTER COLUMN %2$I TYPE %3$s USING %2$I::%3$s',
                           flags, found.word, found.wanted);
        END IF;
    END LOOP;
    UPDATE base_pricing.bp_app_status_master SET mode = 'full'
    WHERE mode IS NULL OR mode NOT IN ('full', 'read_only');
    ALTER TABLE base_pricing.bp_app_status_master
        ALTER COLUMN mode SET DEFAULT 'full',
        ALTER COLUMN mode SET NOT NULL,
        DROP CONSTRAINT IF EXISTS bp_app_status_master_mode,
        ADD CONSTRAINT bp_app_status_master_mode CHECK (mode IN ('full', 'read_only'));

    -- 5. Whatever else a row must have gets a value by itself: a new flag brings only the above.
    FOR found IN
        SELECT attname, attnum, atttypid::regtype AS type,
               attnum = ANY (coalesce((SELECT indkey::smallint[] FROM pg_index
                                       WHERE indrelid = flags AND indisprimary), '{}')) AS is_key
        FROM pg_attribute
        WHERE attrelid = flags AND attnum > 0 AND NOT attisdropped AND attnotnull
            AND NOT atthasdef AND attidentity = '' AND attname NOT IN ('name', 'is_active', 'mode')
    LOOP
        IF found.type::text LIKE 'timestamp%' OR found.type = 'date'::regtype THEN
            EXECUTE format('ALTER TABLE %s ALTER COLUMN %I SET DEFAULT now()', flags, found.attname);
        ELSIF NOT found.is_key THEN
            EXECUTE format('ALTER TABLE %s ALTER COLUMN %I DROP NOT NULL', flags, found.attname);
        ELSIF found.type = ANY ('{smallint,integer,bigint}'::regtype[]) THEN
            EXECUTE format('ALTER TABLE %s ALTER COLUMN %I ADD GENERATED BY DEFAULT AS IDENTITY',
                           flags, found.attname);
            EXECUTE format('SELECT setval(pg_get_serial_sequence(%L, %L), max(%3$I) + 1, FALSE) FROM %s',
                           flags, found.attname, found.attname, flags);
        END IF;
    END LOOP;
END
$take_over$;

INSERT INTO base_pricing.bp_app_status_master (name)
VALUES ('app_maintenance'), ('app_data_ingestion')
ON CONFLICT (name) DO NOTHING;

-- One row: where the flags stand in the order of changes, and where the audit chain ends. Whoever
-- changes anything locks it first. epoch: milliseconds since 1970 when the order began.
CREATE TABLE drawbridge.flags_state (
    single     boolean PRIMARY KEY DEFAULT TRUE CHECK (single),
    epoch      bigint  NOT NULL CHECK (epoch > 0),
    version    bigint  NOT NULL DEFAULT 0 CHECK (version >= 0),
    audit_seq  bigint  NOT NULL DEFAULT 0 CHECK (audit_seq >= 0),
    audit_hash bytea   NOT NULL DEFAULT decode(repeat('00', 32), 'hex')
);
INSERT INTO drawbridge.flags_state (epoch)
VALUES ((extract(epoch FROM clock_timestamp()) * 1000)::bigint);
