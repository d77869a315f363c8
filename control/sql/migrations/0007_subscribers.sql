-- Who is told of incidents and maintenance. `address` and `secret` (of a webhook) are sealed with
-- AES-GCM, `address_index` is an HMAC of the address, `sealed_with` the mark of the secret that both
-- come from (control/subscribers/vault.py). A request is a `pending` row of its own; confirming it makes it the
-- active one of its address, or changes the one that is there, which it then `became`.
-- No `components`: all of them, those to come included. `failures`: deliveries in a row that failed for good.
CREATE TABLE drawbridge.subscribers (
    id            text        PRIMARY KEY CHECK (length(id) = 26),
    channel       text        NOT NULL CHECK (channel IN ('email', 'sms', 'webhook')),
    address       bytea       NOT NULL,
    address_index bytea       NOT NULL,
    sealed_with   bytea       NOT NULL,
    secret        bytea,
    components    text[]      NOT NULL DEFAULT '{}',
    state         text        NOT NULL DEFAULT 'pending'
                  CHECK (state IN ('pending', 'active', 'quarantined', 'ended')),
    became        text        REFERENCES drawbridge.subscribers ON DELETE CASCADE,
    failures      integer     NOT NULL DEFAULT 0,
    detail        text,
    created_at    timestamptz NOT NULL DEFAULT now(),
    confirmed_at  timestamptz
);
CREATE UNIQUE INDEX subscribers_address ON drawbridge.subscribers (channel, address_index)
    WHERE state <> 'pending';
CREATE INDEX subscribers_pending ON drawbridge.subscribers (created_at) WHERE state = 'pending';
CREATE INDEX subscribers_became ON drawbridge.subscribers (became) WHERE became IS NOT NULL;

-- What is told: written in the transaction of what it tells of. `document` is JSON.
CREATE TABLE drawbridge.notices (
    id         text        PRIMARY KEY CHECK (length(id) = 26),
    kind       text        NOT NULL,
    components text[]      NOT NULL,
    document   text        NOT NULL,
    created_at timestamptz NOT NULL DEFAULT now()
);
CREATE INDEX notices_age ON drawbridge.notices (created_at);

-- The outbox: each notice once for each subscriber whom it concerns. Who holds a delivery is told by
-- its newest `claim`, until `claimed_until`; `due_at` is when it may be tried (again).
CREATE TABLE drawbridge.deliveries (
    notice        text        NOT NULL REFERENCES drawbridge.notices ON DELETE CASCADE,
    subscriber    text        NOT NULL REFERENCES drawbridge.subscribers ON DELETE CASCADE,
    state         text        NOT NULL DEFAULT 'pending'
                  CHECK (state IN ('pending', 'sent', 'failed', 'dropped')),
    attempts      integer     NOT NULL DEFAULT 0,
    claim         integer     NOT NULL DEFAULT 0,
    claimed_until timestamptz,
    due_at        timestamptz NOT NULL DEFAULT now(),
    settled_at    timestamptz,
    detail        text,
    UNIQUE (notice, subscriber)
);
CREATE INDEX deliveries_due ON drawbridge.deliveries (due_at) WHERE state = 'pending';
CREATE INDEX deliveries_claimed ON drawbridge.deliveries (claimed_until)
    WHERE state = 'pending' AND claimed_until IS NOT NULL;
CREATE INDEX deliveries_subscriber ON drawbridge.deliveries (subscriber);
