-- Files on their way into the graph, as the API took them: a row for each upload and one for each
-- piece of its files. The run id is that of the job that reads them. An upload is `running` from the
-- start of its job to its end, whatever becomes of workers meanwhile; `attempt` tells which attempt
-- may say so. While any is running, the flag app_data_ingestion is on.
CREATE TABLE drawbridge.uploads (
    run_id     text        PRIMARY KEY CHECK (length(run_id) = 26),
    made_at    timestamptz NOT NULL DEFAULT now(),
    running    boolean     NOT NULL DEFAULT FALSE,
    attempt    integer     NOT NULL DEFAULT 0
);
CREATE TABLE drawbridge.upload_pieces (
    run_id     text        NOT NULL REFERENCES drawbridge.uploads ON DELETE CASCADE,
    file       smallint    NOT NULL,
    piece      integer     NOT NULL,
    content    bytea       NOT NULL,
    PRIMARY KEY (run_id, file, piece)
);
-- Pieces are compressed already.
ALTER TABLE drawbridge.upload_pieces ALTER COLUMN content SET STORAGE EXTERNAL;
