-- Ids of products, coupons and plans are the account owner's own words, and one word may name one of each. So what is kept of
-- an object is kept under its list as well. Where the words met until now, one text stood for all of them: the next sync
-- writes them again.
CREATE TABLE raw_objects_by_list (
    resource TEXT NOT NULL,
    id TEXT NOT NULL,
    raw TEXT NOT NULL,
    PRIMARY KEY (resource, id)
);
INSERT INTO raw_objects_by_list SELECT 'coupons', raw.id, raw.raw FROM raw_objects AS raw JOIN coupons AS mine ON mine.id = raw.id;
INSERT INTO raw_objects_by_list SELECT 'products', raw.id, raw.raw FROM raw_objects AS raw JOIN products AS mine ON mine.id = raw.id;
INSERT INTO raw_objects_by_list SELECT 'prices', raw.id, raw.raw FROM raw_objects AS raw JOIN prices AS mine ON mine.id = raw.id;
INSERT INTO raw_objects_by_list SELECT 'customers', raw.id, raw.raw FROM raw_objects AS raw JOIN customers AS mine ON mine.id = raw.id;
INSERT INTO raw_objects_by_list SELECT 'subscriptions', raw.id, raw.raw FROM raw_objects AS raw JOIN subscriptions AS mine ON mine.id = raw.id;
INSERT INTO raw_objects_by_list SELECT 'invoices', raw.id, raw.raw FROM raw_objects AS raw JOIN invoices AS mine ON mine.id = raw.id;
INSERT INTO raw_objects_by_list SELECT 'charges', raw.id, raw.raw FROM raw_objects AS raw JOIN charges AS mine ON mine.id = raw.id;
INSERT INTO raw_objects_by_list SELECT 'refunds', raw.id, raw.raw FROM raw_objects AS raw JOIN refunds AS mine ON mine.id = raw.id;
INSERT INTO raw_objects_by_list SELECT 'payment_methods', raw.id, raw.raw FROM raw_objects AS raw JOIN payment_methods AS mine ON mine.id = raw.id;
DROP TABLE raw_objects;
ALTER TABLE raw_objects_by_list RENAME TO raw_objects;
UPDATE coupons SET fingerprint = 0 WHERE id IN (SELECT id FROM raw_objects WHERE resource IN ('products', 'prices'));
UPDATE products SET fingerprint = 0 WHERE id IN (SELECT id FROM raw_objects WHERE resource IN ('coupons', 'prices'));
UPDATE prices SET fingerprint = 0 WHERE id IN (SELECT id FROM raw_objects WHERE resource IN ('coupons', 'products'));

CREATE TABLE readings_by_list (
    resource TEXT NOT NULL,
    id TEXT NOT NULL,
    ticket BIGINT NOT NULL,
    until_s BIGINT NOT NULL,
    event_created BIGINT,
    PRIMARY KEY (resource, id)
);
INSERT INTO readings_by_list SELECT raw.resource, raw.id, one.ticket, one.until_s, one.event_created
    FROM readings AS one JOIN raw_objects AS raw ON raw.id = one.id;
DROP TABLE readings;
ALTER TABLE readings_by_list RENAME TO readings;

CREATE TABLE object_history_by_list (
    resource TEXT NOT NULL,
    object_id TEXT NOT NULL,
    ticket BIGINT NOT NULL,
    replaced_ms BIGINT NOT NULL,
    cause TEXT NOT NULL,
    raw TEXT NOT NULL,
    PRIMARY KEY (resource, object_id, ticket)
);
INSERT INTO object_history_by_list SELECT resource, object_id, ticket, replaced_ms, cause, raw FROM object_history;
DROP TABLE object_history;
ALTER TABLE object_history_by_list RENAME TO object_history;
