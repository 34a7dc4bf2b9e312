-- The order of all looks at Stripe: whoever is about to look takes the next number first. What was seen by a look with a lower
-- number never replaces what was seen by one with a higher number.
CREATE TABLE reading_tickets (
    one BIGINT PRIMARY KEY,
    ticket BIGINT NOT NULL
);
INSERT INTO reading_tickets (one, ticket) VALUES (1, 0);

-- Which look the mirrored state of an object comes from. `until_s` is Stripe's second in which that look ended at the latest,
-- `event_created` the newest event that it includes for sure.
CREATE TABLE readings (
    id TEXT PRIMARY KEY,
    ticket BIGINT NOT NULL,
    until_s BIGINT NOT NULL,
    event_created BIGINT
);

-- What objects were before, for the audit trail: the last few texts of each.
CREATE TABLE object_history (
    object_id TEXT NOT NULL,
    ticket BIGINT NOT NULL,
    resource TEXT NOT NULL,
    replaced_ms BIGINT NOT NULL,
    cause TEXT NOT NULL,
    raw TEXT NOT NULL,
    PRIMARY KEY (object_id, ticket)
);

-- Events of Stripe's, one row for each id, however often and by whichever way it came. `state`: 0 waiting, 1 applied,
-- 2 quarantined, 3 dead. `resource` and `object_id` name what is to be looked at; nothing where nothing of it is mirrored.
-- `source`: 0 a webhook, 1 the sweep. `raw` is the body as it came.
CREATE TABLE webhook_events (
    id TEXT PRIMARY KEY,
    type TEXT NOT NULL,
    resource TEXT,
    object_id TEXT,
    created BIGINT NOT NULL,
    api_version TEXT,
    livemode BIGINT,
    account TEXT,
    source BIGINT NOT NULL,
    received_ms BIGINT NOT NULL,
    state BIGINT NOT NULL,
    attempts BIGINT NOT NULL,
    next_ms BIGINT NOT NULL,
    settled_ms BIGINT,
    reason TEXT,
    raw TEXT NOT NULL
);
CREATE INDEX webhook_events_waiting ON webhook_events (next_ms, id) WHERE state = 0;
CREATE INDEX webhook_events_waiting_of ON webhook_events (object_id) WHERE state = 0;
CREATE INDEX webhook_events_refused ON webhook_events (state, received_ms, id) WHERE state >= 2;
CREATE INDEX webhook_events_newest ON webhook_events (received_ms, id);

-- How far the list of events has been read. `cursor` is an event from which the next sweep reads forward; `swept_at` is when the
-- last sweep that came to the end of the list began.
CREATE TABLE event_sweep (
    one BIGINT PRIMARY KEY,
    cursor TEXT,
    cursor_created BIGINT,
    swept_at BIGINT,
    resyncs BIGINT NOT NULL,
    fault TEXT
);
INSERT INTO event_sweep (one, resyncs) VALUES (1, 0);

-- The continuous comparison with Stripe: where it goes on, and what it found since the program knows this database.
CREATE TABLE verification (
    one BIGINT PRIMARY KEY,
    resource TEXT NOT NULL,
    cursor TEXT NOT NULL,
    compared BIGINT NOT NULL,
    different BIGINT NOT NULL,
    compared_at BIGINT,
    different_at BIGINT,
    last_difference TEXT,
    fault TEXT
);
INSERT INTO verification (one, resource, cursor, compared, different) VALUES (1, 'coupons', '', 0, 0);

-- Objects that a comparison of the whole mirror has met, while it is under way: memory must not grow with the mirror.
CREATE TABLE verification_seen (
    run TEXT NOT NULL,
    id TEXT NOT NULL,
    PRIMARY KEY (run, id)
) WITHOUT ROWID;
