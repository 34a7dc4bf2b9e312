-- How far the log has been taken into windows for Lago, and what keeps it from going on.
CREATE TABLE lago_cursor (
    one BIGINT PRIMARY KEY,
    position BIGINT NOT NULL,
    failures BIGINT NOT NULL,
    fault TEXT,
    fault_ms BIGINT
);
INSERT INTO lago_cursor (one, position, failures) VALUES (1, 0, 0);

-- The window that is being sent: exact events, fixed before the first try. `events` is one JSON object a line, `states` one
-- letter for each of them: w waiting, d delivered, x dead. There is at most one window.
CREATE TABLE lago_window (
    one BIGINT PRIMARY KEY,
    first_position BIGINT NOT NULL,
    last_position BIGINT NOT NULL,
    opened_ms BIGINT NOT NULL,
    events TEXT NOT NULL,
    states TEXT NOT NULL
);

-- Events that Lago does not take, until somebody has them sent again. `stored`: Lago has it and finds no use for it.
CREATE TABLE lago_dead (
    transaction_id TEXT PRIMARY KEY,
    position BIGINT NOT NULL,
    user_id TEXT NOT NULL,
    reason TEXT NOT NULL,
    dead_ms BIGINT NOT NULL,
    event TEXT NOT NULL,
    stored BIGINT NOT NULL,
    replay BIGINT NOT NULL
);
CREATE INDEX lago_dead_by_replay ON lago_dead (replay, position);

-- Subscriptions at Lago that are known to exist. `difference` is what the last comparison found.
CREATE TABLE lago_subscriptions (
    user_id TEXT PRIMARY KEY,
    external_id TEXT NOT NULL,
    tier TEXT NOT NULL,
    began_ms BIGINT NOT NULL,
    delivered_ms BIGINT,
    compared_ms BIGINT,
    difference TEXT
);
CREATE INDEX lago_subscriptions_by_external_id ON lago_subscriptions (external_id);
CREATE INDEX lago_subscriptions_by_comparison ON lago_subscriptions (compared_ms) WHERE difference IS NOT NULL;

-- The tier that the log gave a user last.
CREATE TABLE lago_tiers (
    user_id TEXT PRIMARY KEY,
    tier TEXT NOT NULL
);

-- What was delivered, by quarter of an hour: periods of all time zones begin with one.
CREATE TABLE lago_sums (
    external_id TEXT NOT NULL,
    code TEXT NOT NULL,
    quarter_ms BIGINT NOT NULL,
    units_micro BIGINT NOT NULL,
    events BIGINT NOT NULL,
    PRIMARY KEY (external_id, code, quarter_ms)
);

-- Entries that are not for Lago, by reason.
CREATE TABLE lago_skips (
    reason TEXT PRIMARY KEY,
    entries BIGINT NOT NULL
);

-- Webhooks of Lago's, until they have been applied and for a while after.
CREATE TABLE lago_notices (
    unique_key TEXT PRIMARY KEY,
    received_ms BIGINT NOT NULL,
    body TEXT NOT NULL,
    applied_ms BIGINT
);
CREATE INDEX lago_notices_by_application ON lago_notices (applied_ms, received_ms);
