-- The users of the platform. The columns are those of an Ops Center database, so that an existing file is adopted as it is.
CREATE TABLE IF NOT EXISTS users (
    id TEXT PRIMARY KEY,
    email TEXT UNIQUE NOT NULL,
    name TEXT,
    oauth_provider TEXT NOT NULL,
    oauth_id TEXT NOT NULL,
    subscription_tier TEXT DEFAULT 'trial',
    stripe_customer_id TEXT,
    lago_customer_id TEXT,
    is_admin BIGINT DEFAULT 0,
    created_at TEXT,
    updated_at TEXT
);
ALTER TABLE users ADD COLUMN disabled_at BIGINT;
CREATE INDEX IF NOT EXISTS idx_users_stripe ON users (stripe_customer_id);

-- Sessions that this program issued. Only the hash of a token is kept.
CREATE TABLE sessions (
    token_hash TEXT PRIMARY KEY,
    user_id TEXT NOT NULL,
    created_at BIGINT NOT NULL,
    expires_at BIGINT NOT NULL
);
CREATE INDEX sessions_by_user ON sessions (user_id);

-- Small facts about the database itself: which catalogue the rows were derived with, keys of our own.
CREATE TABLE facts (
    name TEXT PRIMARY KEY,
    value TEXT NOT NULL
);

-- The mirror of Stripe. `run` is the number of the full sync that last saw the object, `fingerprint` a hash of the object
-- as Stripe sent it (kept whole in `raw_objects`, so that the tables that are walked stay narrow).
CREATE TABLE raw_objects (
    id TEXT PRIMARY KEY,
    raw TEXT NOT NULL
);

CREATE TABLE customers (
    id TEXT PRIMARY KEY,
    email TEXT,
    name TEXT,
    created BIGINT NOT NULL,
    metadata TEXT NOT NULL,
    deleted BIGINT NOT NULL,
    run BIGINT NOT NULL,
    fingerprint BIGINT NOT NULL
);
CREATE INDEX customers_newest ON customers (deleted, created, id);
CREATE INDEX customers_by_email ON customers (email);

CREATE TABLE products (
    id TEXT PRIMARY KEY,
    name TEXT,
    metadata TEXT NOT NULL,
    deleted BIGINT NOT NULL,
    run BIGINT NOT NULL,
    fingerprint BIGINT NOT NULL
);

CREATE TABLE prices (
    id TEXT PRIMARY KEY,
    product TEXT,
    deleted BIGINT NOT NULL,
    run BIGINT NOT NULL,
    fingerprint BIGINT NOT NULL
);

CREATE TABLE coupons (
    id TEXT PRIMARY KEY,
    deleted BIGINT NOT NULL,
    run BIGINT NOT NULL,
    fingerprint BIGINT NOT NULL
);

CREATE TABLE subscriptions (
    id TEXT PRIMARY KEY,
    customer TEXT,
    status TEXT NOT NULL,
    ended BIGINT NOT NULL,
    tier TEXT NOT NULL,
    currency TEXT NOT NULL,
    amount_minor BIGINT,
    interval_unit TEXT,
    interval_count BIGINT,
    monthly_minor BIGINT NOT NULL,
    value_until BIGINT,
    period_start BIGINT,
    period_end BIGINT,
    anchor BIGINT,
    cancel_at_period_end BIGINT NOT NULL,
    created BIGINT NOT NULL,
    fault TEXT,
    deleted BIGINT NOT NULL,
    run BIGINT NOT NULL,
    fingerprint BIGINT NOT NULL
);
CREATE INDEX subscriptions_by_customer ON subscriptions (customer, deleted);
CREATE INDEX subscriptions_newest ON subscriptions (deleted, created, id);
CREATE INDEX subscriptions_running ON subscriptions (deleted, ended, created, id);
CREATE INDEX subscriptions_by_status ON subscriptions (deleted, status, created, id);
CREATE INDEX subscriptions_by_value_until ON subscriptions (value_until);

-- What each subscription is made of, to find the subscriptions that a changed price, product or coupon concerns.
CREATE TABLE subscription_parts (
    part TEXT NOT NULL,
    subscription TEXT NOT NULL,
    PRIMARY KEY (part, subscription)
);
-- Parts that changed, until every subscription that is made of them was derived anew.
CREATE TABLE stale_parts (
    part TEXT PRIMARY KEY
);
CREATE INDEX subscription_parts_by_subscription ON subscription_parts (subscription);

CREATE TABLE invoices (
    id TEXT PRIMARY KEY,
    customer TEXT,
    subscription TEXT,
    number TEXT,
    status TEXT,
    currency TEXT,
    amount_due BIGINT,
    amount_paid BIGINT,
    created BIGINT NOT NULL,
    due_date BIGINT,
    paid BIGINT NOT NULL,
    invoice_pdf TEXT,
    hosted_invoice_url TEXT,
    deleted BIGINT NOT NULL,
    run BIGINT NOT NULL,
    fingerprint BIGINT NOT NULL
);
CREATE INDEX invoices_by_customer ON invoices (customer, deleted, created, id);

CREATE TABLE payment_methods (
    id TEXT PRIMARY KEY,
    customer TEXT,
    kind TEXT NOT NULL,
    brand TEXT,
    last4 TEXT,
    exp_month BIGINT,
    exp_year BIGINT,
    created BIGINT NOT NULL,
    deleted BIGINT NOT NULL,
    run BIGINT NOT NULL,
    fingerprint BIGINT NOT NULL
);
CREATE INDEX payment_methods_by_customer ON payment_methods (customer, deleted, created, id);

CREATE TABLE charges (
    id TEXT PRIMARY KEY,
    customer TEXT,
    amount BIGINT,
    amount_refunded BIGINT,
    currency TEXT,
    status TEXT,
    description TEXT,
    created BIGINT NOT NULL,
    paid BIGINT NOT NULL,
    refunded BIGINT NOT NULL,
    deleted BIGINT NOT NULL,
    run BIGINT NOT NULL,
    fingerprint BIGINT NOT NULL
);
CREATE INDEX charges_newest ON charges (deleted, created, id);

CREATE TABLE refunds (
    id TEXT PRIMARY KEY,
    charge TEXT,
    amount BIGINT,
    currency TEXT,
    status TEXT,
    created BIGINT NOT NULL,
    deleted BIGINT NOT NULL,
    run BIGINT NOT NULL,
    fingerprint BIGINT NOT NULL
);
CREATE INDEX refunds_by_charge ON refunds (charge);

-- Totals that move in the transaction of the mirrored row, so that the statistics read a few rows at any size.
CREATE TABLE subscription_totals (
    currency TEXT NOT NULL,
    tier TEXT NOT NULL,
    status TEXT NOT NULL,
    count BIGINT NOT NULL,
    monthly_minor BIGINT NOT NULL,
    unpriced BIGINT NOT NULL,
    PRIMARY KEY (currency, tier, status)
);
CREATE TABLE object_counts (
    resource TEXT PRIMARY KEY,
    count BIGINT NOT NULL
);

-- How far the full sync has come with each list of Stripe's, and which lists it has read to the end.
CREATE TABLE syncs (
    resource TEXT PRIMARY KEY,
    run BIGINT NOT NULL,
    cursor TEXT,
    objects BIGINT NOT NULL,
    started_at BIGINT,
    as_of BIGINT,
    fault TEXT
);

-- Customers that were read on their own, because somebody asked before the full sync had come to them.
CREATE TABLE customer_syncs (
    customer TEXT PRIMARY KEY,
    as_of BIGINT NOT NULL
);

-- The usage log: append-only. `position` is the order in which events were accepted.
CREATE TABLE usage_events (
    position BIGINT PRIMARY KEY,
    transaction_id TEXT NOT NULL,
    user_id TEXT NOT NULL,
    type TEXT NOT NULL,
    quantity_micro BIGINT NOT NULL,
    event_ms BIGINT NOT NULL,
    received_ms BIGINT NOT NULL,
    properties TEXT
);
CREATE INDEX usage_events_by_user ON usage_events (user_id, event_ms);

-- One row for each accepted id and day of its event: the same event again finds its first answer here.
CREATE TABLE usage_keys (
    day BIGINT NOT NULL,
    transaction_id TEXT NOT NULL,
    position BIGINT NOT NULL,
    PRIMARY KEY (day, transaction_id)
);

-- Sums by hour, so that any window is a few whole hours and two ragged edges.
CREATE TABLE usage_hours (
    user_id TEXT NOT NULL,
    hour BIGINT NOT NULL,
    type TEXT NOT NULL,
    quantity_micro BIGINT NOT NULL,
    PRIMARY KEY (user_id, hour, type)
);
