-- The usage log: append-only, the truth that every counter is a view of. `position` is the order in which entries were accepted,
-- without gaps. `previous` leads to the user's entry before this one on SQLite; PostgreSQL has an index for that.
ALTER TABLE usage_events RENAME TO usage_events_0001;
CREATE TABLE usage_log (
    position INTEGER PRIMARY KEY,
    kind BIGINT NOT NULL,
    user_id TEXT NOT NULL,
    type TEXT NOT NULL,
    quantity_micro BIGINT NOT NULL,
    weight_micro BIGINT NOT NULL,
    event_ms BIGINT NOT NULL,
    received_ms BIGINT NOT NULL,
    id BLOB NOT NULL,
    transaction_id TEXT NOT NULL,
    source BIGINT NOT NULL,
    previous BIGINT,
    body TEXT
);
-- only postgres: CREATE INDEX usage_log_by_user ON usage_log (user_id, position);

-- One row for each accepted id and UTC day of its entry: the same entry again finds its first answer here. Days that are too old
-- to be accepted are removed. `fingerprint` is a hash of the content.
CREATE TABLE usage_ids (
    day BIGINT NOT NULL,
    id BLOB NOT NULL,
    position BIGINT NOT NULL,
    fingerprint BIGINT NOT NULL,
    PRIMARY KEY (day, id)
) WITHOUT ROWID;

-- The last position, held by whoever appends: the next appender waits for the commit, so positions appear in their order.
CREATE TABLE usage_head (
    one BIGINT PRIMARY KEY,
    position BIGINT NOT NULL
);
INSERT INTO usage_head (one, position) VALUES (1, 0);

-- Accounts as they were after the entry at the fact `accounts_position`.
CREATE TABLE accounts (
    user_id TEXT PRIMARY KEY,
    shard BIGINT NOT NULL,
    position BIGINT NOT NULL,
    state BLOB NOT NULL
);
CREATE INDEX accounts_by_shard ON accounts (shard);

-- What was used on each local day; moves with `accounts_position`.
CREATE TABLE usage_days (
    day BIGINT NOT NULL,
    user_id TEXT NOT NULL,
    type TEXT NOT NULL,
    quantity_micro BIGINT NOT NULL,
    events BIGINT NOT NULL,
    cost_whole BIGINT NOT NULL,
    cost_pico BIGINT NOT NULL,
    PRIMARY KEY (day, user_id, type)
);
CREATE INDEX usage_days_by_user ON usage_days (user_id, day, type);

-- Credit periods that are over; nothing in them changes any more.
CREATE TABLE usage_periods (
    user_id TEXT NOT NULL,
    start_ms BIGINT NOT NULL,
    end_ms BIGINT NOT NULL,
    position BIGINT NOT NULL,
    summary TEXT NOT NULL,
    PRIMARY KEY (user_id, start_ms)
);

-- The first entry that brought an account to 50, 80 or 100 per cent of its credits in a period.
CREATE TABLE usage_warnings (
    user_id TEXT NOT NULL,
    period_start_ms BIGINT NOT NULL,
    percent BIGINT NOT NULL,
    position BIGINT NOT NULL,
    at_ms BIGINT NOT NULL,
    PRIMARY KEY (user_id, period_start_ms, percent)
);

-- Reservations that were open when the accounts were last written down.
CREATE TABLE reservations (
    id TEXT PRIMARY KEY,
    user_id TEXT NOT NULL,
    type TEXT NOT NULL,
    quantity_micro BIGINT NOT NULL,
    credits_micro BIGINT NOT NULL,
    expires_ms BIGINT NOT NULL
);
CREATE INDEX reservations_by_user ON reservations (user_id);

-- Users whose terms may have changed at Stripe or here, until the log has an entry of it.
CREATE TABLE stale_plans (
    user_id TEXT PRIMARY KEY
);

-- Who does work that only one process may do, and until when. `token` grows with each holder, so that an old one can be told.
CREATE TABLE leases (
    name TEXT PRIMARY KEY,
    holder TEXT NOT NULL,
    token BIGINT NOT NULL,
    until_ms BIGINT NOT NULL
);

-- Keys of services. Only the hash of a key is kept.
CREATE TABLE service_keys (
    id TEXT PRIMARY KEY,
    name TEXT NOT NULL,
    key_hash TEXT NOT NULL,
    scopes TEXT NOT NULL,
    created_at BIGINT NOT NULL,
    revoked_at BIGINT
);
CREATE UNIQUE INDEX service_keys_by_hash ON service_keys (key_hash);

-- A Lago client names a user by either id.
CREATE INDEX users_by_lago_customer ON users (lago_customer_id);
